// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire

/// The events that a load publishes: JSON of a given size that begins with which run it is of and
/// when it was due.
package enum LoadEvent {
    /// The least room for what every event says.
    package static let bytesMin = 120

    /// What the data of every event of one run begins with.
    package static func prefix(run: String) -> [UInt8] {
        Array("{\"run\":\"\(run)\",\"due_us\":".utf8)
    }

    /// - Parameters:
    ///   - due: When it was due by the schedule, microseconds since 1970.
    ///   - key: Which of the subjects it is about.
    package static func text(
        run: String, due: UInt64, number: Int, key: Int, bytes: Int
    ) -> [UInt8] {
        var writer = ByteWriter(reserving: bytes)
        writer.append(prefix(run: run))
        writer.append(
            "\(due),\"n\":\(number),\"event_type\":\"load\",\"camera_id\":\"cam\(key)\",\"pad\":\"")
        while writer.count < bytes - 2 { writer.append(UInt8(ascii: "x")) }
        writer.append("\"}")
        return writer.bytes
    }
}

/// Reads what a load needs of an event stream: IDs, `retry:`, gaps, and when its own events were
/// due. Keeps nothing; the caller brings back the bytes of an event that was not complete.
///
/// It knows `text/event-stream` with LF line ends, which is what the nodes write.
struct LoadScanner {
    enum Found {
        /// One of this run's, due at so many microseconds since 1970.
        case event(milliseconds: UInt64, sequence: UInt64, due: UInt64)
        case gap
        case rateLimited
        /// An event that is somebody else's.
        case other(milliseconds: UInt64, sequence: UInt64)
        case retry(milliseconds: UInt64)
    }

    let prefix: [UInt8]

    /// Calls `body` with what is found in `bytes`, and returns how many of them that took.
    func scan(_ bytes: borrowing Span<UInt8>, _ body: (Found) -> Void) -> Int {
        var consumed = 0
        var start = 0
        var id: (UInt64, UInt64) = (0, 0)
        var name = UInt8(0)
        var due: UInt64?
        var hasData = false
        while start < bytes.count, let end = bytes.firstIndex(of: UInt8(ascii: "\n"), from: start) {
            if end == start {
                if hasData {
                    switch name {
                    case UInt8(ascii: "g"): body(.gap)
                    case UInt8(ascii: "r"): body(.rateLimited)
                    default:
                        if let due {
                            body(.event(milliseconds: id.0, sequence: id.1, due: due))
                        } else {
                            body(.other(milliseconds: id.0, sequence: id.1))
                        }
                    }
                }
                (id, name, due, hasData) = ((0, 0), 0, nil, false)
                consumed = end + 1
            } else {
                switch bytes[start] {
                case UInt8(ascii: "d") where !hasData:
                    hasData = true
                    due = self.due(bytes, start + 6, end)
                case UInt8(ascii: "i"): id = Self.id(bytes, start + 4, end)
                case UInt8(ascii: "e"): name = Self.notice(bytes, start + 7, end)
                case UInt8(ascii: "r"):
                    if let value = Self.number(bytes, start + 7, end)?.value {
                        body(.retry(milliseconds: value))
                    }
                    // It belongs to no event.
                    if !hasData, id == (0, 0) { consumed = end + 1 }
                case UInt8(ascii: ":") where !hasData && id == (0, 0): consumed = end + 1
                default: break
                }
            }
            start = end + 1
        }
        return consumed
    }

    private func due(_ bytes: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> UInt64? {
        guard end - start > prefix.count else { return nil }
        for index in prefix.indices where bytes[start + index] != prefix[index] { return nil }
        return Self.number(bytes, start + prefix.count, end)?.value
    }

    /// The first letter of an event that is a notice, else 0.
    private static func notice(_ bytes: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> UInt8 {
        for name in ["gap", "rate_limited"] as [StaticString] {
            guard end - start == name.utf8CodeUnitCount else { continue }
            let isSame = name.withUTF8Buffer { text in
                for index in text.indices {
                    guard unsafe bytes[start + index] == text[index] else { return false }
                }
                return true
            }
            if isSame { return bytes[start] }
        }
        return 0
    }

    private static func id(_ bytes: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> (
        UInt64, UInt64
    ) {
        guard let first = number(bytes, start, end), first.end < end,
            bytes[first.end] == UInt8(ascii: "-"),
            let second = number(bytes, first.end + 1, end)
        else { return (0, 0) }
        return (first.value, second.value)
    }

    private static func number(_ bytes: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> (
        value: UInt64, end: Int
    )? {
        var index = start
        var value: UInt64 = 0
        while index < end, index - start < 19 {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { break }
            value = value &* 10 &+ UInt64(digit)
            index += 1
        }
        return index > start ? (value, index) : nil
    }
}
