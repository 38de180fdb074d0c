// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import JSONFields

/// Decides which lines are events, and what their keys are.
///
/// Threads: one.
final class EventCheck {
    enum Verdict: Equatable {
        /// An event; the key is `nil` where none is taken from its fields.
        case accepted(key: [UInt8]?)
        /// Why it is none, as the end of a sentence.
        case refused(String)
    }

    /// Integers up to here are the same number in a `Double`.
    private static let exactIntegerMax = 9_007_199_254_740_992.0

    private let extractor: JSONFieldExtractor
    private let keyField: String?
    private var table: FieldTable

    /// - Parameter keyField: The dotted path of the field whose value is the key.
    init(eventBytesMax: Int, keyField: String?) throws(JSONFieldsError) {
        let paths = try JSONFieldPaths(keyField.map { [$0] } ?? [])
        extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: eventBytesMax)
        table = FieldTable(for: paths)
        self.keyField = keyField
    }

    func check(_ event: Span<UInt8>) -> Verdict {
        guard let keyField else { return Self.verdict(extractor.validate(event), key: nil) }
        table.removeAll()
        let found = extractor.extract(event, into: &table)
        guard found == .object else { return Self.verdict(found, key: nil) }
        let values = table.values(row: 0, column: 0)
        guard values.count <= 1 else {
            return .refused("field \"\(keyField)\" holds \(values.count) values; a key is one")
        }
        switch table.first(row: 0, column: 0) {
        case .absent, .null:
            return .refused("there is no field \"\(keyField)\" to take the key from")
        case .bool(let flag): return .accepted(key: Array((flag ? "true" : "false").utf8))
        case .text(let range):
            return .accepted(key: Array(table.string(of: range).utf8))
        case .number(let number):
            guard number == number.rounded(), abs(number) < Self.exactIntegerMax else {
                return .refused(
                    "field \"\(keyField)\" is \(number), which has no one spelling as a key; "
                        + "use a string or a whole number below 2^53")
            }
            return .accepted(key: Array(String(Int64(number)).utf8))
        }
    }

    private static func verdict(_ found: JSONEventVerdict, key: [UInt8]?) -> Verdict {
        switch found {
        case .object: return .accepted(key: key)
        case .notAnObject:
            return .refused("it is JSON but not an object; an event is an object like {\"id\": 7}")
        case .tooLarge: return .refused("it is larger than the limit")
        case .invalidUTF8: return .refused("it is not UTF-8, which JSON has to be")
        case .malformed(let reason, let offset):
            let place = offset.map { " (column \($0 + 1))" } ?? ""
            return .refused("it is not JSON: it \(reason.explanation)\(place)")
        }
    }
}
