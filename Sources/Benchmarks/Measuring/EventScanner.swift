// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Reads the part of an event stream that measuring needs: where events end, and when they were
/// due.
///
/// It knows the `text/event-stream` format with LF line ends, which is what both servers write. No
/// state is kept: the caller brings back the bytes of an event that was not complete.
enum EventScanner {
    struct Event {
        /// Nanoseconds on the monotonic clock; 0 where the event does not say.
        var due: UInt64 = 0
        /// The server says that events are missing here.
        var isGap = false
    }

    /// Calls `body` for each complete event in `bytes`, and returns how many bytes those took.
    @inline(__always)
    static func scan(_ bytes: UnsafeRawBufferPointer, _ body: (Event) -> Void) -> Int {
        guard let base = bytes.baseAddress else { return 0 }
        let count = bytes.count
        var consumed = 0
        var lineStart = 0
        var event = Event()
        var hasData = false
        while lineStart < count,
            let found = unsafe memchr(base + lineStart, 10, count - lineStart)
        {
            let lineEnd = unsafe UnsafeRawPointer(found) - base
            if lineEnd == lineStart {
                if hasData { body(event) }
                event = Event()
                hasData = false
                consumed = lineEnd + 1
            } else if unsafe bytes[lineStart] == UInt8(ascii: "d") {
                hasData = true
                unsafe event.due = due(base + lineStart, lineEnd - lineStart)
            } else if unsafe isGapLine(base + lineStart, lineEnd - lineStart) {
                event.isGap = true
            }
            lineStart = lineEnd + 1
        }
        return consumed
    }

    @inline(__always)
    private static func due(_ line: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let prefix = TimedEvent.dataPrefix
        let size = prefix.utf8CodeUnitCount
        guard count > size, unsafe memcmp(line, prefix.utf8Start, size) == 0 else { return 0 }
        var value: UInt64 = 0
        var index = size
        while index < count {
            let digit = unsafe line.load(fromByteOffset: index, as: UInt8.self) &- 48
            guard digit <= 9 else { break }
            value = value &* 10 &+ UInt64(digit)
            index += 1
        }
        return value
    }

    @inline(__always)
    private static func isGapLine(_ line: UnsafeRawPointer, _ count: Int) -> Bool {
        let text: StaticString = "event: gap"
        return unsafe count == text.utf8CodeUnitCount && memcmp(line, text.utf8Start, count) == 0
    }
}
