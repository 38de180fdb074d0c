// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields

/// What the tests of this target read: one event as producers send it.
enum Sample {
    static let detection = #"""
        {"event_type":"detection_result","camera_id":"cam1","frame":184467,"confidence":0.875,
        "live":true,"note":null,"payload":{"zone":{"id":"zone-7","lanes":[1,2,3]}},
        "vehicle_classes":["car","bus"],"text":"a\"b\\c\n\u00e9\ud83d\ude97\u0000z","neg":-12,
        "detected_objects":[{"class":"car","bbox":{"x":1.5}},{"class":"bus","bbox":{"x":-2e3}}]}
        """#

    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// The verdict on `event` and the table with its row.
    static func extract(
        _ paths: [String],
        from event: [UInt8],
        eventBytesMax: Int = 1_000_000
    ) throws -> (verdict: JSONEventVerdict, table: FieldTable) {
        let list = try JSONFieldPaths(paths)
        let extractor = try JSONFieldExtractor(paths: list, eventBytesMax: eventBytesMax)
        var table = FieldTable(for: list)
        let verdict = extractor.extract(event.span, into: &table)
        return (verdict, table)
    }

    static func verdict(_ event: [UInt8], eventBytesMax: Int = 1_000_000) throws
        -> JSONEventVerdict
    {
        let paths = try JSONFieldPaths([])
        return try JSONFieldExtractor(paths: paths, eventBytesMax: eventBytesMax)
            .validate(event.span)
    }

    /// Every value of a cell, text as strings, in a form that tests can spell.
    static func cell(_ table: FieldTable, row: Int = 0, _ column: Int) -> [String] {
        table.values(row: row, column: column).map { value in
            switch value {
            case .absent: "absent"
            case .null: "null"
            case .bool(let flag): "\(flag)"
            case .number(let number): "\(number)"
            case .text(let range): "'\(table.string(of: range))'"
            }
        }
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct FixedSeed: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
