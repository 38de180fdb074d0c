// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("Hostile YAML")
struct HostileYAMLTests {
    @Test(
        "what is no YAML is refused where it goes wrong",
        arguments: [
            ("server:\n\tloops: 1\n", "yamlMalformed rivulet.yaml:2:1 server"),
            ("server: {loops: 1\n", "yamlMalformed rivulet.yaml:2:1 server"),
            ("server: 'open\n", "yamlMalformed rivulet.yaml:2:1 server"),
            ("a: b: c\n", "yamlMalformed rivulet.yaml:1:5 "),
            ("server: *nowhere\n", "yamlMalformed rivulet.yaml:1:9 server"),
            ("server: &a [*a]\n", "yamlMalformed rivulet.yaml:1:13 server[0]"),
            ("server: !!python/object:os.system {}\n", "yamlUnsupported rivulet.yaml:1:9 server"),
            ("log: {}\n---\nlog: {}\n", "yamlUnsupported rivulet.yaml:2:1 "),
            ("? [a, b]\n: c\n", "yamlUnsupported rivulet.yaml:1:3 "),
            ("&a log: {}\n", "yamlUnsupported rivulet.yaml:1:1 "),
            ("%YAML 9.9\n---\nlog: {}\n", "yamlMalformed rivulet.yaml:1:1 "),
            ("- log\n", "wrongType rivulet.yaml:1:1 "), ("42\n", "wrongType rivulet.yaml:1:1 "),
        ])
    func malformed(document: String, place: String) {
        #expect(places(document) == [place])
    }

    @Test("bytes that are no UTF-8 are refused at their line and column")
    func invalidUTF8() {
        let start = Array("# größe\nnode: {id: ".utf8)
        // The byte at fault, which is the second where the first only announces it.
        let cases: [(bytes: [UInt8], column: Int)] = [
            ([0xff], 12), ([0xc0, 0x80], 12), ([0xed, 0xa0, 0x80], 12), ([0xf8, 0x88], 12),
            ([0xe2, 0x28], 13),
        ]
        for (bytes, column) in cases {
            let found = errors(start + bytes + Array("}\n".utf8))
            #expect(found.map(\.code) == [.yamlMalformed])
            #expect(found.map(\.location.line) == [2])
            #expect(found.map(\.location.column) == [column])
        }
    }

    @Test(
        "control characters, zeros and other encodings are refused",
        arguments: [
            [0x00], Array("node: {id: a\u{0}b}".utf8), Array("node: {id: \u{1b}}".utf8),
            [0xff, 0xfe, 0x61, 0x00], [0xfe, 0xff, 0x00, 0x61],
        ] as [[UInt8]])
    func controlCharacters(document: [UInt8]) {
        #expect(errors(document).map(\.code) == [.yamlMalformed])
    }

    @Test("a zero or a line end that YAML escapes does not get into a text")
    func escapedControls() {
        for escape in ["\\0", "\\n", "\\r", "\\u2028", "\\x1b", "\\u202e"] {
            #expect(
                places("kafka: {group_id: \"a\(escape)b\"}") == [
                    "refused rivulet.yaml:1:19 kafka.group_id"
                ])
        }
    }

    @Test("a byte order mark of UTF-8 is no error")
    func byteOrderMark() throws {
        #expect(try load([0xef, 0xbb, 0xbf] + Array("server: {loops: 3}".utf8)).server.loops == 3)
    }

    @Test("a key given twice is refused at the second, in every mapping")
    func duplicateKeys() {
        let found = refusals(
            """
            server:
              loops: 1
              "loops": 2
            log: {level: info, level: debug}
            server: {}
            channels:
              - {name: a, name: b, topics: [t]}
            """)
        #expect(
            found == [
                "rivulet.yaml:3:3: server.loops: given again; the first is in line 2",
                "rivulet.yaml:4:20: log.level: given again; the first is in line 4",
                "rivulet.yaml:5:1: server: given again; the first is in line 1",
                "rivulet.yaml:7:15: channels[0].name: given again; the first is in line 7",
            ])
    }

    @Test("an anchor shares filters, as often as one likes within the bounds")
    func aliases() throws {
        let configuration = try load(
            """
            channels:
              - name: a
                topics: [t]
                filters: &shared
                  - {parameter: x, fields: [x]}
              - {name: b, topics: [t], filters: *shared}
            """)
        #expect(configuration.channels[1].filters == configuration.channels[0].filters)
    }

    @Test("an alias bomb is refused before it grows", .timeLimit(.minutes(1)))
    func aliasBomb() {
        var wide = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...9 {
            let uses = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            wide += "a\(level): &a\(level) [\(uses)]\n"
        }
        #expect(errors(Array(wide.utf8)).map(\.code) == [.documentTooLarge])

        var tall = "a0: &a0 [x]\n"
        for level in 1...40 { tall += "a\(level): &a\(level) [*a\(level - 1)]\n" }
        #expect(errors(Array(tall.utf8)).map(\.code) == [.nestedTooDeep])
    }

    @Test(
        "nesting ten thousand deep is refused at the seventeenth level", .timeLimit(.minutes(1)),
        arguments: ["[", "{a: ", "- ", "? ", "{? "])
    func deepNesting(opening: String) {
        let found = errors(Array(String(repeating: opening, count: 10_000).utf8))
        #expect(found.count == 1)
        #expect(found.allSatisfy { [.nestedTooDeep, .yamlUnsupported].contains($0.code) })
        #expect(found.allSatisfy { $0.key.utf8.count < 200 })
    }

    @Test("nesting by indentation is bounded as well")
    func deepIndentation() {
        let lines = (0..<1000).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
        #expect(errors(Array(lines.utf8)).map(\.code) == [.nestedTooDeep])
    }

    @Test("a document over a mebibyte is not read, one just below is")
    func size() throws {
        let comment = [UInt8](repeating: UInt8(ascii: "#"), count: (1 << 20) - 1) + [0x0a]
        _ = try load(comment)
        #expect(errors(comment + [0x0a]).map(\.code) == [.documentTooLarge])
        let file = try TemporaryFile(comment + [0x0a])
        do throws(ConfigurationErrors) {
            _ = try Configuration.load(file: file.path, environment: [:], arguments: [])
            Issue.record("it was taken")
        } catch { #expect(error.errors.map(\.code) == [.documentTooLarge]) }
    }

    @Test(
        "a mebibyte of tiny values, of one key or of one name is refused in reasonable time",
        .timeLimit(.minutes(1)))
    func manyValues() {
        let tiny = "a: [" + String(repeating: "0,", count: 500_000) + "]"
        #expect(errors(Array(tiny.utf8)).map(\.code) == [.documentTooLarge])
        let keys = (0..<90_000).map { "k\($0): 0\n" }.joined()
        #expect(errors(Array(keys.utf8)).count == 100)
        let same = String(repeating: "server: 0\n", count: 90_000)
        #expect(errors(Array(same.utf8)).count == 100)
        let name = String(repeating: "x", count: 1000) + ": 0\n"
        let found = errors(Array(name.utf8))
        #expect(found.map(\.code) == [.unknownKey])
        #expect(found.allSatisfy { $0.description.utf8.count < 300 })
    }

    @Test("merge keys are refused by name")
    func mergeKeys() {
        #expect(
            refusals("log: {<<: {level: info}}") == [
                "rivulet.yaml:1:7: log.…: merge keys have no use here"
            ])
    }

    @Test("whatever is done to a document, it is read or refused", .timeLimit(.minutes(1)))
    func mutations() {
        let original = Array(
            (DefaultChannels.document + "server: {loops: 1}\nkafka: {properties: {a.b: c}}\n").utf8)
        let marks = Array("[]{}:,-&*!|>'\"%@`#?\n\t \\\u{0}~<0".utf8) + [0xff, 0xc3, 0x85]
        var random = SeededGenerator(state: 0x5eed)
        var refused = 0
        for _ in 0..<300 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = marks.randomElement(using: &random)!
                case 1: bytes.insert(marks.randomElement(using: &random)!, at: place)
                default:
                    let end = min(bytes.count, place + Int.random(in: 1...40, using: &random))
                    bytes.removeSubrange(place..<end)
                }
            }
            let found = errors(bytes)
            refused += found.isEmpty ? 0 : 1
            for error in found { #expect(!error.description.contains("\n")) }
        }
        #expect(refused > 100)
        #expect(refused < 300)
    }
}

/// SplitMix64: the same numbers on each run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
