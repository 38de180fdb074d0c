// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import Testing

@Suite("Hostile events")
struct HostileEventTests {
    private func isMalformed(_ verdict: JSONEventVerdict, _ reason: JSONMalformation? = nil) -> Bool
    {
        guard case .malformed(let found, _) = verdict else { return false }
        return reason == nil || reason == found
    }

    @Test("an event cut off at any byte is malformed")
    func truncated() throws {
        let event = Sample.bytes(Sample.detection)
        let paths = try JSONFieldPaths(["camera_id", "text", "detected_objects.class"])
        let extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: 10_000)
        for length in 0..<event.count {
            // Its own array, so that the sanitizer sees a read past the end.
            let part = Array(event[..<length])
            var table = FieldTable(for: paths)
            let verdict = extractor.extract(part.span, into: &table)
            guard case .malformed(_, let offset?) = verdict else {
                Issue.record("\(length) bytes: \(verdict)")
                continue
            }
            // A cut number may be malformed as a whole, and a cut escape from its backslash.
            #expect(offset <= length && offset >= length - 12, "\(length) bytes: \(offset)")
            #expect(table.rowCount == 1)
            #expect((0..<3).allSatisfy { table.values(row: 0, column: $0).isEmpty })
        }
        #expect(extractor.validate(event.span) == .object)
    }

    @Test(
        "what is not JSON is malformed, with the reason",
        arguments: [
            ("", JSONMalformation.empty), (" \t\r\n", .empty), ("{\"a\":\"\u{1}\"}", .badString),
            (#"{"a":"x}"#, .badString), (#"{"a":"\x"}"#, .badString),
            (#"{"a":"\ud800"}"#, .badString), (#"{"a":"\udc00\ud800"}"#, .badString),
            (#"{"a":01}"#, .badNumber), (#"{"a":1e400}"#, .badNumber),
            (#"{"a":-}"#, .badNumber), (#"{"a":123456789012345678901234567890}"#, .badNumber),
            (#"{"a":tru}"#, .badLiteral), (#"{"a":nul}"#, .badLiteral),
            (#"{"a":NaN}"#, .badStructure), ("{", .badStructure), ("}", .badStructure),
            (#"{"a":1}}"#, .badStructure), (#"{"a":1} x"#, .badStructure),
            (#"{"a":1}{"b":2}"#, .badStructure), (#"{"a":1,}"#, .badStructure),
            (#"{"a" 1}"#, .badStructure), (#"{a:1}"#, .badStructure), (#"{1:1}"#, .badStructure),
            (#"{"a":[1 2]}"#, .badStructure), ("\u{feff}{}", .badStructure),
            (#"{"a":1}\#0"#, .badStructure),
        ]
    )
    func malformed(text: String, reason: JSONMalformation) throws {
        let verdict = try Sample.verdict(Sample.bytes(text))
        #expect(isMalformed(verdict, reason), "\(verdict)")
        #expect(!reason.explanation.isEmpty)
    }

    @Test(
        "a verdict says where the event stops being JSON",
        arguments: [
            ("", 0), ("  ", 2), (#"{"a":"x"#, 7), ("{\"a\":\"x\u{1}\"}", 7), (#"{"a":"x\q"}"#, 7),
            (#"{"a":"\ud800\u0041"}"#, 6), (#"{"a":[1,02]}"#, 8), (#"{"a":trve}"#, 7),
            (#"{"a":1 "b":2}"#, 7), (#"{"a":1,}"#, 7), (#"{"a":1}}"#, 7), (#"{"a":1}\#0"#, 7),
            (#"{"a":18446744073709551616}"#, 5), (#"{"a":1e400}"#, 5), (#"{"a":[1,2}"#, 9),
            (#"{"a":{},"b":[],}"#, 15), (#"{"a":[[],[{}]"#, 13), (#"{,}"#, 1), (#"{"a":,}"#, 5),
            (#"{"a":"# + String(repeating: "[", count: 200), 68),
        ]
    )
    func offset(text: String, expected: Int) throws {
        guard case .malformed(_, let offset) = try Sample.verdict(Sample.bytes(text)) else {
            Issue.record("\(text) is not malformed")
            return
        }
        #expect(offset == expected)
    }

    @Test(
        "JSON that is no object is told apart",
        arguments: ["[]", "[{}]", "1", "-0.5", #""{}""#, "true", "false", "null", " [1] "]
    )
    func notAnObject(text: String) throws {
        #expect(try Sample.verdict(Sample.bytes(text)) == .notAnObject)
    }

    @Test("white space around an object is fine", arguments: ["{}", " {} ", "\r\n\t{ }\n"])
    func whiteSpace(text: String) throws {
        #expect(try Sample.verdict(Sample.bytes(text)) == .object)
    }

    @Test(
        "bytes that are not UTF-8 are refused",
        arguments: [
            [0xff], [0xc3], [0x80], [0xc0, 0xaf], [0xe0, 0x80, 0xaf], [0xed, 0xa0, 0x80],
            [0xf4, 0x90, 0x80, 0x80], [0xf0, 0x9f, 0x98],
        ] as [[UInt8]]
    )
    func invalidUTF8(bytes: [UInt8]) throws {
        let event = Sample.bytes(#"{"a":""#) + bytes + Sample.bytes(#""}"#)
        #expect(try Sample.verdict(event) == .invalidUTF8)
    }

    @Test("nesting is possible up to the limit and refused past it")
    func deepNesting() throws {
        func nested(_ levels: Int) -> [UInt8] {
            // The outermost object is a level too.
            let arrays = levels - 1
            return Sample.bytes(
                #"{"a":"# + String(repeating: "[", count: arrays) + "1"
                    + String(repeating: "]", count: arrays) + "}"
            )
        }
        #expect(try Sample.verdict(nested(JSONFieldLimits.depth)) == .object)
        #expect(isMalformed(try Sample.verdict(nested(JSONFieldLimits.depth + 1)), .tooDeep))
        #expect(isMalformed(try Sample.verdict(nested(100_000)), .tooDeep))
        let open = Sample.bytes(String(repeating: "[", count: 500_000))
        #expect(isMalformed(try Sample.verdict(open)))
        let objects = Sample.bytes(String(repeating: #"{"a":"#, count: 100_000))
        #expect(isMalformed(try Sample.verdict(objects)))
    }

    @Test("the limit of bytes is exact", arguments: [8, 31, 32, 33, 63, 64, 65, 4_096])
    func tooLarge(limit: Int) throws {
        let fits = Sample.bytes(#"{"a":""# + String(repeating: "x", count: limit - 8) + #""}"#)
        #expect(fits.count == limit)
        #expect(try Sample.verdict(fits, eventBytesMax: limit) == .object)
        #expect(try Sample.verdict(fits + [0x20], eventBytesMax: limit) == .tooLarge)
    }

    @Test("an event of five megabytes is read, or refused where the limit is lower")
    func fiveMegabytes() throws {
        let long = String(repeating: #"\u00e9x"#, count: 700_000)
        let list = String(repeating: "7,", count: 100_000) + "8"
        let event = Sample.bytes(#"{"big":"\#(long)","after":"end","list":[\#(list)]}"#)
        #expect(event.count > 5_000_000)
        let (verdict, table) = try Sample.extract(
            ["after", "big", "list"],
            from: event,
            eventBytesMax: 8_000_000
        )
        #expect(verdict == .object)
        #expect(Sample.cell(table, 0) == ["'end'"])
        guard case .text(let range) = table.first(row: 0, column: 1) else {
            Issue.record("no text")
            return
        }
        #expect(range.count == 2_100_000)
        #expect(table.values(row: 0, column: 2).count == JSONFieldLimits.valuesPerField)
        #expect(table.leftOutCount == 100_001 - JSONFieldLimits.valuesPerField)
        #expect(try Sample.verdict(event) == .tooLarge)
    }

    @Test("an object of many keys is searched in good time")
    func manyKeys() throws {
        let keys = (0..<100_000).map { #""k\#($0)":1"# }.joined(separator: ",")
        let event = Sample.bytes("{\(keys),\"last\":2}")
        let paths = (0..<63).map { "absent\($0)" } + ["last"]
        let (verdict, table) = try Sample.extract(paths, from: event, eventBytesMax: 4_000_000)
        #expect(verdict == .object)
        #expect(Sample.cell(table, 63) == ["2.0"])
    }

    @Test("changed and random bytes always give a verdict, and the next event is read as before")
    func randomBytes() throws {
        var random = FixedSeed(20_251)
        let sample = Sample.bytes(Sample.detection)
        let alphabet = Array(#"{}[]",:\0123456789eE+-.truefalsn u"#.utf8) + [0, 0x0a, 0x80, 0xff]
        let paths = try JSONFieldPaths([
            "camera_id", "detected_objects.class", "a", "payload.zone.id",
        ])
        let extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: 4_096)
        var table = FieldTable(for: paths)
        for round in 0..<20_000 {
            var event = sample
            if round % 2 == 0 {
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    let index = Int.random(in: 0..<event.count, using: &random)
                    event[index] = alphabet.randomElement(using: &random) ?? 0
                }
            } else {
                let count = Int.random(in: 0...200, using: &random)
                event = (0..<count).map { _ in alphabet.randomElement(using: &random) ?? 0 }
            }
            table.removeAll()
            let verdict = extractor.extract(event.span, into: &table)
            #expect(table.rowCount == 1)
            #expect(verdict == extractor.validate(event.span))
            // Two parsers written apart agree: whatever is refused has a place where it fails.
            if case .malformed(_, let offset) = verdict {
                #expect(offset != nil, "\(String(decoding: event, as: UTF8.self))")
            }
        }
        table.removeAll()
        #expect(extractor.extract(sample.span, into: &table) == .object)
        #expect(Sample.cell(table, 0) == ["'cam1'"])
    }
}
