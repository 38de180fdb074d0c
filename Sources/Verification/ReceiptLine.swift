// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import JSONFields

/// Reads receipts from lines of JSON, as `rivulet tail --json` and `rivulet load` write them.
///
/// An object with `id` and `data`, and where they are known `event`, `client`, `topic`, `partition`
/// and `offset`. `data` is the event's JSON as it is, or text. Threads: one.
package final class ReceiptLine {
    private enum Column: Int, CaseIterable {
        case client, id, event, topic, partition, offset, text, gapFrom, gapTo
    }

    private static let paths = [
        "client", "id", "event", "topic", "partition", "offset", "data", "data.from", "data.to",
    ]

    private let extractor: JSONFieldExtractor
    private var fields: FieldTable

    /// The client that the last line named, if it did.
    package private(set) var client: String?

    package init(lineBytesMax: Int) throws(VerificationError) {
        do {
            let paths = try JSONFieldPaths(Self.paths)
            extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: lineBytesMax)
            fields = FieldTable(for: paths)
        } catch { throw VerificationError(.unavailable, error.detail) }
    }

    /// Reads a line and lends the receipt to `body`.
    package func read(_ line: Span<UInt8>, _ body: (borrowing Receipt) -> Void) {
        fields.removeAll()
        client = nil
        let nothing: [UInt8] = []
        guard extractor.extract(line, into: &fields) == .object else {
            return body(Receipt(.unreadable("no JSON object"), data: nothing.span))
        }
        client = text(.client) ?? number(.client).map(String.init)
        if text(.event) == "gap" {
            guard let from = cursor(.gapFrom), let to = cursor(.gapTo) else {
                return body(Receipt(.unreadable("a gap without from and to"), data: nothing.span))
            }
            return body(Receipt(.gap(from: from, to: to), data: nothing.span))
        }
        guard let id = cursor(.id) else {
            let given = text(.id).map { "\"\(PeerText.display($0))\" is no event ID" }
            return body(Receipt(.unreadable(given ?? "no ID"), data: nothing.span))
        }
        if let place = TopLevelMember.value(of: "data", in: line) {
            if line[place.lowerBound] == UInt8(ascii: "\""),
                case .text(let range) = fields.first(row: 0, column: Column.text.rawValue)
            {
                let data = Array(fields.string(of: range).utf8)
                return body(Receipt(.event, id: id, data: data.span, place: self.place))
            }
            return body(
                Receipt(.event, id: id, data: line.extracting(place), place: self.place))
        }
        body(Receipt(.unreadable("\(id) has no data"), data: nothing.span))
    }

    private func text(_ column: Column) -> String? {
        guard case .text(let range) = fields.first(row: 0, column: column.rawValue) else {
            return nil
        }
        return fields.string(of: range)
    }

    private func number(_ column: Column) -> Int64? {
        guard case .number(let value) = fields.first(row: 0, column: column.rawValue) else {
            return nil
        }
        return Int64(exactly: value)
    }

    private func cursor(_ column: Column) -> EventID? {
        text(column).flatMap { try? EventID.parse($0) }
    }

    private var place: Truth.Place? {
        guard let topic = text(.topic), let offset = number(.offset),
            let partition = number(.partition).flatMap(Int32.init(exactly:))
        else { return nil }
        return Truth.Place(topic: topic, partition: partition, offset: offset)
    }
}

/// Where the value of a member of the outermost object lies.
enum TopLevelMember {
    /// - Parameter object: JSON that has been checked; anything else ends the search.
    static func value(of name: StaticString, in object: Span<UInt8>) -> Range<Int>? {
        var scan = Scan(offset: 0)
        scan.skipBlanks(object)
        guard scan.take(UInt8(ascii: "{"), object) else { return nil }
        while true {
            scan.skipBlanks(object)
            let key = scan.skipValue(object)
            scan.skipBlanks(object)
            guard scan.take(UInt8(ascii: ":"), object) else { return nil }
            scan.skipBlanks(object)
            let value = scan.skipValue(object)
            guard !value.isEmpty else { return nil }
            if isKey(object.extracting(key), name) { return value }
            scan.skipBlanks(object)
            guard scan.take(UInt8(ascii: ","), object) else { return nil }
        }
    }

    private static func isKey(_ quoted: Span<UInt8>, _ name: StaticString) -> Bool {
        guard quoted.count == name.utf8CodeUnitCount + 2 else { return false }
        for index in 0..<name.utf8CodeUnitCount {
            guard unsafe quoted[index + 1] == name.utf8Start[index] else { return false }
        }
        return true
    }

    private struct Scan {
        var offset: Int

        mutating func skipBlanks(_ text: Span<UInt8>) {
            while offset < text.count, text[offset] <= 0x20 { offset += 1 }
        }

        mutating func take(_ byte: UInt8, _ text: Span<UInt8>) -> Bool {
            guard offset < text.count, text[offset] == byte else { return false }
            offset += 1
            return true
        }

        /// Steps over a string, a scalar, or everything between brackets.
        mutating func skipValue(_ text: Span<UInt8>) -> Range<Int> {
            let start = offset
            var depth = 0
            while offset < text.count {
                switch text[offset] {
                case UInt8(ascii: "\""): skipString(text)
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    depth += 1
                    offset += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    guard depth > 0 else { return start..<offset }
                    depth -= 1
                    offset += 1
                case UInt8(ascii: ","), UInt8(ascii: ":"):
                    guard depth > 0 else { return start..<offset }
                    offset += 1
                default: offset += 1
                }
                if depth == 0, offset < text.count, text[offset] <= 0x20 { break }
            }
            return start..<offset
        }

        private mutating func skipString(_ text: Span<UInt8>) {
            offset += 1
            while offset < text.count, text[offset] != UInt8(ascii: "\"") {
                offset += text[offset] == UInt8(ascii: "\\") ? 2 : 1
            }
            offset = min(offset + 1, text.count)
        }
    }
}
