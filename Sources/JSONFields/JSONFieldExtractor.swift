// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CSimdJSON

/// Checks that events are JSON objects and takes their fields, once for each event.
///
/// Threads: one; every thread that reads events has its own. All memory is reserved by the
/// initialiser, so an event costs no allocation. The whole event is checked (grammar, UTF-8,
/// escapes, numbers), not only the fields that are asked for. Of equal keys in one object the
/// first one counts.
@safe
package final class JSONFieldExtractor {
    package let paths: JSONFieldPaths
    package let eventBytesMax: Int

    private let extractor: OpaquePointer
    private let entries: UnsafeMutableBufferPointer<sj_entry>
    private let counts: UnsafeMutableBufferPointer<UInt32>

    /// Reserves what events of up to `eventBytesMax` bytes need.
    ///
    /// - Throws: ``JSONFieldsError`` where the limit is not in
    ///   1...``JSONFieldLimits/eventBytes``, or where there is no memory.
    package init(paths: JSONFieldPaths, eventBytesMax: Int) throws(JSONFieldsError) {
        guard (1...JSONFieldLimits.eventBytes).contains(eventBytesMax) else {
            throw JSONFieldsError(
                .limitOutOfRange,
                "eventBytesMax is \(eventBytesMax); 1 to \(JSONFieldLimits.eventBytes) are possible"
            )
        }
        guard let extractor = unsafe sj_extractor_new(eventBytesMax, JSONFieldLimits.depth) else {
            throw Self.outOfMemory(eventBytesMax)
        }
        for column in 0..<paths.count {
            var path = paths[column]
            let status = path.withUTF8 {
                unsafe sj_extractor_add_path(extractor, $0.baseAddress, $0.count)
            }
            guard status == 0 else {
                unsafe sj_extractor_free(extractor)
                throw Self.outOfMemory(eventBytesMax)
            }
        }
        self.paths = paths
        self.eventBytesMax = eventBytesMax
        unsafe self.extractor = extractor
        // One more, so that a list without paths has an address to pass too.
        unsafe entries = .allocate(capacity: paths.count * JSONFieldLimits.valuesPerField + 1)
        unsafe counts = .allocate(capacity: paths.count + 1)
        unsafe entries.initialize(repeating: sj_entry())
        unsafe counts.initialize(repeating: 0)
    }

    deinit {
        unsafe sj_extractor_free(extractor)
        unsafe entries.deallocate()
        unsafe counts.deallocate()
    }

    /// Checks `event` without taking any field.
    package func validate(_ event: Span<UInt8>) -> JSONEventVerdict {
        let status = unsafe event.withUnsafeBufferPointer {
            unsafe sj_extractor_validate(extractor, $0.baseAddress, $0.count)
        }
        return JSONEventVerdict(status, on: event)
    }

    /// Checks `event` and adds a row for it to `table`, which must be made for the same paths.
    ///
    /// An event that is no object adds a row too, with every field absent, so that rows and
    /// events of a batch keep the same numbers.
    package func extract(_ event: Span<UInt8>, into table: inout FieldTable) -> JSONEventVerdict {
        precondition(
            table.columnCount == paths.count,
            "a table of \(table.columnCount) columns for \(paths.count) paths"
        )
        var leftOut: UInt64 = 0
        let status = unsafe event.withUnsafeBufferPointer {
            unsafe sj_extractor_extract(
                extractor,
                $0.baseAddress,
                $0.count,
                entries.baseAddress,
                counts.baseAddress,
                &leftOut
            )
        }
        guard Int(status) == SJ_OBJECT else {
            table.appendAbsentRow()
            return JSONEventVerdict(status, on: event)
        }
        for column in 0..<paths.count {
            let first = column * JSONFieldLimits.valuesPerField
            for index in unsafe first..<first + Int(counts[column]) {
                unsafe append(entries[index], to: &table)
            }
            table.endCell()
        }
        table.endRow(leavingOut: Int(leftOut))
        return .object
    }

    private func append(_ entry: sj_entry, to table: inout FieldTable) {
        switch unsafe Int(entry.kind) {
        case SJ_BOOL: unsafe table.append(.bool, bits: entry.bits)
        case SJ_INT64: unsafe table.append(.signed, bits: entry.bits)
        case SJ_UINT64: unsafe table.append(.unsigned, bits: entry.bits)
        case SJ_DOUBLE: unsafe table.append(.double, bits: entry.bits)
        case SJ_TEXT:
            // The text lies in the parser's buffer, which holds until its next event.
            unsafe table.append(
                text: UnsafeBufferPointer(start: entry.text, count: Int(entry.text_length))
            )
        default: table.append(.null, bits: 0)
        }
    }

    private static func outOfMemory(_ eventBytesMax: Int) -> JSONFieldsError {
        JSONFieldsError(.outOfMemory, "no memory to parse events of \(eventBytesMax) bytes")
    }
}

extension JSONEventVerdict {
    /// What the shim's `status` says of `event`.
    init(_ status: CInt, on event: Span<UInt8>) {
        let reason: JSONMalformation
        switch Int(status) {
        case SJ_OBJECT:
            self = .object
            return
        case SJ_NOT_AN_OBJECT:
            self = .notAnObject
            return
        case SJ_TOO_LARGE:
            self = .tooLarge
            return
        case SJ_INVALID_UTF8:
            self = .invalidUTF8
            return
        case SJ_EMPTY: reason = .empty
        case SJ_TOO_DEEP: reason = .tooDeep
        case SJ_BAD_STRING: reason = .badString
        case SJ_BAD_NUMBER: reason = .badNumber
        case SJ_BAD_LITERAL: reason = .badLiteral
        default: reason = .badStructure
        }
        var locator = JSONErrorLocator(event)
        self = .malformed(reason: reason, offset: locator.firstError())
    }
}
