// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The fields of a batch of events: one row for each event, one column for each path.
///
/// Threads: any, once it is built; a ``JSONFieldExtractor`` fills it while one thread owns it.
/// Values lie in three flat arrays (cell boundaries, values, text), so a table that is emptied
/// and filled again costs no allocation once it has reached its size.
package struct FieldTable: Sendable {
    package let columnCount: Int
    package private(set) var rowCount = 0
    /// How many values did not fit ``JSONFieldLimits/valuesPerField`` and are missing here.
    package private(set) var leftOutCount = 0

    /// Cell `row * columnCount + column` holds the entries from its bound to the next one.
    private var bounds: [UInt32] = [0]
    private var entries: [FieldEntry] = []
    private var arena: [UInt8] = []

    package init(for paths: JSONFieldPaths) { columnCount = paths.count }

    /// How much memory the values take, nearly enough for a bound.
    package var memoryBytes: Int {
        bounds.count * MemoryLayout<UInt32>.stride + entries.count * MemoryLayout<FieldEntry>.stride
            + arena.count
    }

    /// Empties the table for the next batch.
    package mutating func removeAll(keepingCapacity: Bool = true) {
        rowCount = 0
        leftOutCount = 0
        bounds.removeAll(keepingCapacity: keepingCapacity)
        bounds.append(0)
        entries.removeAll(keepingCapacity: keepingCapacity)
        arena.removeAll(keepingCapacity: keepingCapacity)
    }

    /// Every value of a field. Arrays give one value for each of their scalar elements.
    package func values(row: Int, column: Int) -> FieldValues {
        FieldValues(entries[range(row, column)])
    }

    /// The first value of a field, ``FieldValue/absent`` where it has none.
    package func first(row: Int, column: Int) -> FieldValue {
        let range = range(row, column)
        return range.isEmpty ? .absent : entries[range.lowerBound].value
    }

    /// The bytes of a ``FieldValue/text(_:)``.
    @_lifetime(borrow self)
    package func bytes(of text: Range<Int>) -> Span<UInt8> {
        arena.span.extracting(text)
    }

    /// A ``FieldValue/text(_:)`` as a string.
    package func string(of text: Range<Int>) -> String {
        String(decoding: arena[text], as: UTF8.self)
    }

    /// Whether any value of a field is one of `values`.
    ///
    /// Text is compared byte by byte, `true` and `false` with these words, and a number with the
    /// number that the wanted text is in JSON's form: 3 matches `3`, `3.0` and `3e0`, integers
    /// exactly. `null` and what is absent match nothing.
    package func matches(row: Int, column: Int, anyOf values: [[UInt8]]) -> Bool {
        for index in range(row, column) {
            let entry = entries[index]
            for wanted in values where isEqual(entry, wanted) { return true }
        }
        return false
    }

    /// The largest number among a field's values; text that looks like a number is none.
    package func largestNumber(row: Int, column: Int) -> Double? {
        var largest: Double?
        for index in range(row, column) where entries[index].isNumber {
            let number = entries[index].double
            largest = max(largest ?? number, number)
        }
        return largest
    }

    /// The smallest number among a field's values; text that looks like a number is none.
    package func smallestNumber(row: Int, column: Int) -> Double? {
        var smallest: Double?
        for index in range(row, column) where entries[index].isNumber {
            let number = entries[index].double
            smallest = min(smallest ?? number, number)
        }
        return smallest
    }

    // MARK: - Filling

    mutating func append(_ kind: FieldEntry.Kind, bits: UInt64) {
        entries.append(FieldEntry(bits: bits, textLength: 0, kind: kind))
    }

    mutating func append(text: UnsafeBufferPointer<UInt8>) {
        let start = UInt64(arena.count)
        entries.append(FieldEntry(bits: start, textLength: UInt32(text.count), kind: .text))
        unsafe arena.append(contentsOf: text)
    }

    /// Ends the cell that the values appended since the last call belong to.
    mutating func endCell() { bounds.append(UInt32(entries.count)) }

    mutating func endRow(leavingOut count: Int) {
        rowCount += 1
        leftOutCount += count
    }

    mutating func appendAbsentRow() {
        for _ in 0..<columnCount { endCell() }
        rowCount += 1
    }

    // MARK: - Reading

    private func range(_ row: Int, _ column: Int) -> Range<Int> {
        precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
        precondition(column >= 0 && column < columnCount, "column \(column) of \(columnCount)")
        let cell = row * columnCount + column
        return Int(bounds[cell])..<Int(bounds[cell + 1])
    }

    private func isEqual(_ entry: FieldEntry, _ wanted: [UInt8]) -> Bool {
        switch entry.kind {
        case .null:
            return false
        case .bool:
            return wanted.elementsEqual(entry.bits != 0 ? "true".utf8 : "false".utf8)
        case .text:
            guard wanted.count == Int(entry.textLength) else { return false }
            return wanted.elementsEqual(arena[entry.textRange])
        case .signed, .unsigned, .double:
            guard let number = JSONNumberText(wanted) else { return false }
            return entry.isNumber(number)
        }
    }
}
