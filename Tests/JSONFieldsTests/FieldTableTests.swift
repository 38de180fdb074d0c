// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import Testing

@Suite("Table of fields")
struct FieldTableTests {
    private func matches(_ json: String, _ wanted: String...) throws -> Bool {
        let (_, table) = try Sample.extract(["a"], from: Sample.bytes(#"{"a":\#(json)}"#))
        return table.matches(row: 0, column: 0, anyOf: wanted.map { Array($0.utf8) })
    }

    @Test(
        "a value matches the text that it is",
        arguments: [
            (#""car""#, "car"), (#""""#, ""), (#""\u00e9""#, "é"), (#""3""#, "3"), ("true", "true"),
            ("false", "false"), ("3", "3"), ("3.0", "3"), ("3", "3.0"), ("3", "30e-1"),
            ("0.85", "0.85"), ("0.850", "0.85"), ("-7", "-7"), ("-0", "0"), ("1e3", "1000"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"), (#"["x","y",4]"#, "y"),
            (#"["x","y",4]"#, "4"),
        ]
    )
    func equal(json: String, wanted: String) throws {
        #expect(try matches(json, "other", wanted))
    }

    @Test(
        "a value does not match another text",
        arguments: [
            (#""car""#, "ca"), (#""car""#, "cart"), (#""car""#, "Car"), (#""3.0""#, "3"),
            ("true", "True"), ("true", "1"), ("null", "null"), ("null", ""), ("3", "03"),
            ("3", "+3"), ("3", "3 "), ("3", "0x3"), ("3", ""), ("3", "-"), ("3", "3."), ("3", "3e"),
            ("3", ".3"), ("3", "nan"), ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709551616"), ("{}", ""), ("[]", ""),
            (#""a\u0000b""#, "a"),
        ]
    )
    func different(json: String, wanted: String) throws {
        #expect(try !matches(json, wanted))
    }

    @Test("no wanted value, no match")
    func nothingWanted() throws {
        #expect(try !matches(#""car""#))
    }

    @Test("the largest and the smallest number of a field ignore what is no number")
    func extremes() throws {
        let json = #"{"a":["9",0.5,-3,18446744073709551615,true,null],"b":"7","c":[]}"#
        let (_, table) = try Sample.extract(["a", "b", "c"], from: Sample.bytes(json))
        #expect(table.largestNumber(row: 0, column: 0) == 18_446_744_073_709_551_616)
        #expect(table.smallestNumber(row: 0, column: 0) == -3)
        #expect(table.largestNumber(row: 0, column: 1) == nil)
        #expect(table.smallestNumber(row: 0, column: 2) == nil)
    }

    @Test("the bytes of a text are what the event says, NUL included")
    func bytes() throws {
        let (_, table) = try Sample.extract(
            ["a"], from: Sample.bytes(#"{"a":"x\u0000\ud83d\ude97"}"#))
        guard case .text(let range) = table.first(row: 0, column: 0) else {
            Issue.record("no text")
            return
        }
        let span = table.bytes(of: range)
        let copy = span.indices.map { span[$0] }
        #expect(copy == [0x78, 0, 0xf0, 0x9f, 0x9a, 0x97])
    }

    @Test("a bad event among good ones has a row in which everything is absent")
    func badRow() throws {
        let paths = try JSONFieldPaths(["a", "b"])
        let extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: 1_000)
        var table = FieldTable(for: paths)
        let events = [#"{"a":1,"b":"x"}"#, #"{"a":2,"b":"#, #"[{"a":3}]"#, #"{"a":4}"#]
        let verdicts = events.map { event in
            let bytes = Sample.bytes(event)
            return extractor.extract(bytes.span, into: &table)
        }
        #expect(verdicts[0] == .object)
        #expect(verdicts[1] != .object)
        #expect(verdicts[2] == .notAnObject)
        #expect(verdicts[3] == .object)
        #expect(table.rowCount == 4)
        #expect((0..<4).map { Sample.cell(table, row: $0, 0) } == [["1.0"], [], [], ["4.0"]])
        #expect((0..<4).map { Sample.cell(table, row: $0, 1) } == [["'x'"], [], [], []])
    }

    @Test("an emptied table holds only the next batch, and a copy keeps the old one")
    func reuse() throws {
        let paths = try JSONFieldPaths(["a", "b"])
        let extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: 1_000)
        var table = FieldTable(for: paths)
        func fill(_ text: String) {
            let event = Sample.bytes(#"{"a":"\#(text)","b":["\#(text)2",5]}"#)
            #expect(extractor.extract(event.span, into: &table) == .object)
        }
        fill("first")
        fill("second")
        let kept = table
        table.removeAll()
        #expect(table.rowCount == 0)
        fill("third")
        #expect(table.rowCount == 1)
        #expect(Sample.cell(table, 0) == ["'third'"])
        #expect(Sample.cell(table, 1) == ["'third2'", "5.0"])
        #expect(Sample.cell(kept, row: 0, 0) == ["'first'"])
        #expect(Sample.cell(kept, row: 1, 1) == ["'second2'", "5.0"])
    }

    @Test("a table built on one thread is read by others")
    func shared() async throws {
        let (_, table) = try Sample.extract(["camera_id"], from: Sample.bytes(Sample.detection))
        let found = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    table.matches(row: 0, column: 0, anyOf: [Array("cam1".utf8)])
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(found == 4)
    }
}
