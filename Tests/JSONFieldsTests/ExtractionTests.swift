// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import Testing

@Suite("Extraction of fields")
struct ExtractionTests {
    private func cells(_ path: String, in json: String = Sample.detection) throws -> [String] {
        let (verdict, table) = try Sample.extract([path], from: Sample.bytes(json))
        #expect(verdict == .object)
        #expect(table.rowCount == 1)
        return Sample.cell(table, 0)
    }

    @Test(
        "a field is found by its path",
        arguments: [
            ("camera_id", ["'cam1'"]), ("frame", ["184467.0"]), ("confidence", ["0.875"]),
            ("live", ["true"]), ("note", ["null"]), ("payload.zone.id", ["'zone-7'"]),
            ("neg", ["-12.0"]), ("text", ["'a\"b\\c\n\u{e9}\u{1F697}\0z'"]),
        ]
    )
    func scalar(path: String, expected: [String]) throws {
        #expect(try cells(path) == expected)
    }

    @Test("an array gives one value for each scalar element")
    func arrays() throws {
        #expect(try cells("vehicle_classes") == ["'car'", "'bus'"])
        #expect(try cells("payload.zone.lanes") == ["1.0", "2.0", "3.0"])
        #expect(
            try cells("a", in: #"{"a":[1,{"b":2},[3],null,false,"x"]}"#) == [
                "1.0", "null", "false", "'x'",
            ])
        #expect(try cells("a", in: #"{"a":[]}"#) == [])
    }

    @Test("a path goes through every object of an array")
    func arraysOfObjects() throws {
        #expect(try cells("detected_objects.class") == ["'car'", "'bus'"])
        #expect(try cells("detected_objects.bbox.x") == ["1.5", "-2000.0"])
        #expect(
            try cells("a.b", in: #"{"a":[{"b":[1,2]},7,{"c":0},[{"b":9}],{"b":3}]}"#) == [
                "1.0", "2.0", "3.0",
            ])
    }

    @Test(
        "what the event has not is absent",
        arguments: [
            "missing", "camera_id.x", "payload", "payload.zone", "payload.zone.id.x", "fram",
        ]
    )
    func absent(path: String) throws {
        let (_, table) = try Sample.extract([path], from: Sample.bytes(Sample.detection))
        #expect(Sample.cell(table, 0) == [])
        #expect(table.first(row: 0, column: 0) == .absent)
    }

    @Test("of equal keys the first one counts, at every level")
    func duplicateKeys() throws {
        #expect(try cells("a", in: #"{"a":1,"a":2}"#) == ["1.0"])
        #expect(try cells("a.b", in: #"{"a":{"c":0,"b":1,"b":2},"a":{"b":3}}"#) == ["1.0"])
        #expect(try cells("a.b", in: #"{"a":5,"a":{"b":3}}"#) == [])
    }

    @Test("keys are compared without their escapes")
    func escapedKeys() throws {
        #expect(try cells("camera_id", in: #"{"\u0063amera\u005fid":"x"}"#) == ["'x'"])
        #expect(try cells("größe", in: #"{"gr\u00f6\u00dfe":1}"#) == ["1.0"])
    }

    @Test("many paths are taken from one reading, each in its own column")
    func manyColumns() throws {
        let paths = [
            "detected_objects.class", "camera_id", "payload.zone.id", "detected_objects", "missing",
            "camera_id", "payload.zone.lanes",
        ]
        let (_, table) = try Sample.extract(paths, from: Sample.bytes(Sample.detection))
        #expect(table.columnCount == 7)
        #expect(Sample.cell(table, 0) == ["'car'", "'bus'"])
        #expect(Sample.cell(table, 1) == ["'cam1'"])
        #expect(Sample.cell(table, 2) == ["'zone-7'"])
        #expect(Sample.cell(table, 3) == [])
        #expect(Sample.cell(table, 4) == [])
        #expect(Sample.cell(table, 5) == ["'cam1'"])
        #expect(Sample.cell(table, 6) == ["1.0", "2.0", "3.0"])
    }

    @Test("as many paths as are allowed are all found")
    func sixtyFourColumns() throws {
        let keys = (0..<JSONFieldLimits.paths).map { "k\($0)" }
        let json = "{" + keys.reversed().map { "\"\($0)\":\"\($0)\"" }.joined(separator: ",") + "}"
        let (verdict, table) = try Sample.extract(keys, from: Sample.bytes(json))
        #expect(verdict == .object)
        for (column, key) in keys.enumerated() {
            #expect(Sample.cell(table, column) == ["'\(key)'"])
        }
    }

    @Test("eight keys deep is possible")
    func longestPath() throws {
        let json = #"{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":"deep"}}}}}}}}"#
        #expect(try cells("a.b.c.d.e.f.g.h", in: json) == ["'deep'"])
    }

    @Test("values past the limit of one field are left out and counted")
    func manyValues() throws {
        let json = #"{"a":[\#((0..<100).map(String.init).joined(separator: ","))],"b":1}"#
        let (_, table) = try Sample.extract(["a", "b"], from: Sample.bytes(json))
        #expect(Sample.cell(table, 0) == (0..<64).map { "\(Double($0))" })
        #expect(Sample.cell(table, 1) == ["1.0"])
        #expect(table.leftOutCount == 36)
    }

    @Test("without paths an event still gets its row")
    func noPaths() throws {
        let (verdict, table) = try Sample.extract([], from: Sample.bytes(Sample.detection))
        #expect(verdict == .object)
        #expect(table.rowCount == 1)
    }

    @Test(
        "a path that breaks a rule is refused by name",
        arguments: [
            ([""], JSONFieldsError.Code.segmentEmpty), (["a..b"], .segmentEmpty),
            ([".a"], .segmentEmpty), (["a."], .segmentEmpty),
            (["a.b.c.d.e.f.g.h.i"], .tooManySegments),
            ([String(repeating: "x", count: 257)], .pathTooLong),
            (Array(repeating: "a", count: 65), .tooManyPaths),
        ]
    )
    func badPaths(paths: [String], code: JSONFieldsError.Code) {
        let error = #expect(throws: JSONFieldsError.self) { try JSONFieldPaths(paths) }
        #expect(error?.code == code)
        #expect(error?.detail.isEmpty == false)
    }

    @Test("a limit out of range is refused", arguments: [0, -1, JSONFieldLimits.eventBytes + 1])
    func badLimit(bytes: Int) {
        let error = #expect(throws: JSONFieldsError.self) {
            try JSONFieldExtractor(paths: JSONFieldPaths([]), eventBytesMax: bytes)
        }
        #expect(error?.code == .limitOutOfRange)
    }
}
