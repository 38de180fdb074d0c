// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One value of a field of an event.
package enum FieldValue: Sendable, Equatable {
    /// The event has no such field, or an object or an empty array in its place.
    case absent
    case null
    case bool(Bool)
    /// Integers past 2^53 are rounded here; ``FieldTable/matches(row:column:anyOf:)`` compares
    /// them exactly.
    case number(Double)
    /// The bytes `range` of the table's arena: UTF-8 without escapes, which may hold NUL.
    case text(Range<Int>)
}

/// The values of one field of one event, in the event's order; empty where it has none.
package struct FieldValues: RandomAccessCollection, Sendable {
    private let entries: ArraySlice<FieldEntry>

    init(_ entries: ArraySlice<FieldEntry>) { self.entries = entries }

    package var startIndex: Int { 0 }

    package var endIndex: Int { entries.count }

    package subscript(position: Int) -> FieldValue {
        entries[entries.startIndex + position].value
    }
}

/// A value as the table keeps it, in two words.
struct FieldEntry: Sendable {
    enum Kind: UInt8, Sendable { case null, bool, signed, unsigned, double, text }

    /// The number's bits, 0 or 1, or where the text starts in the arena.
    let bits: UInt64
    let textLength: UInt32
    let kind: Kind

    var value: FieldValue {
        switch kind {
        case .null: .null
        case .bool: .bool(bits != 0)
        case .signed, .unsigned, .double: .number(double)
        case .text: .text(textRange)
        }
    }

    var isNumber: Bool { kind == .signed || kind == .unsigned || kind == .double }

    /// The number; meaningful only where ``isNumber``.
    var double: Double {
        switch kind {
        case .signed: Double(Int64(bitPattern: bits))
        case .unsigned: Double(bits)
        default: Double(bitPattern: bits)
        }
    }

    var textRange: Range<Int> { Int(bits)..<Int(bits) + Int(textLength) }

    /// Whether this is the number that the JSON text `text` stands for.
    func isNumber(_ text: JSONNumberText) -> Bool {
        switch (kind, text) {
        case (.signed, .signed(let wanted)): Int64(bitPattern: bits) == wanted
        case (.unsigned, .unsigned(let wanted)): bits == wanted
        // An integer text is kept in the one kind that holds it, as simdjson does.
        case (.signed, .unsigned), (.unsigned, .signed): false
        case (.signed, .double(let wanted)): Int64(exactly: wanted) == Int64(bitPattern: bits)
        case (.unsigned, .double(let wanted)): UInt64(exactly: wanted) == bits
        case (.double, .signed(let wanted)): Int64(exactly: double) == wanted
        case (.double, .unsigned(let wanted)): UInt64(exactly: double) == wanted
        case (.double, .double(let wanted)): double == wanted
        default: false
        }
    }
}
