// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO

/// Takes the lines out of a file, a pipe or a terminal as they come.
///
/// Threads: one. Never holds more than one line and what was read with it: of a line past the
/// limit only the length is kept. A line ends at LF; a CR before it belongs to the end. The last
/// line may lack its end.
struct LineReader: ~Copyable {
    enum Line: Sendable, Equatable {
        /// Where the line lies; see ``bytes(of:)``. Holds until the next one is asked for.
        case text(Range<Int>)
        /// A line of this many bytes, past the limit, that was skipped.
        case tooLong(bytes: Int)
        case end
        /// A signal came first.
        case stopped
    }

    private static let firstBufferBytes = 64 * 1024

    /// The number of the line that came last, from 1.
    private(set) var lineNumber = 0

    private let descriptor: CInt
    private let lineBytesMax: Int
    private let stop: StopSignals?
    private var buffer: [UInt8]
    private var start = 0
    private var end = 0
    /// Up to here the buffer holds no LF.
    private var searched = 0
    /// How much of the line has been dropped, if any.
    private var dropped = 0
    private var isAtEnd = false

    /// - Parameters:
    ///   - descriptor: Stays the caller's.
    ///   - stop: Lets a signal end a wait for input.
    init(_ descriptor: CInt, lineBytesMax: Int, stop: StopSignals? = nil) {
        self.descriptor = descriptor
        self.lineBytesMax = lineBytesMax
        self.stop = stop
        // Two more than the line, for its end.
        buffer = [UInt8](repeating: 0, count: min(Self.firstBufferBytes, lineBytesMax + 2))
    }

    @_lifetime(borrow self)
    func bytes(of line: Range<Int>) -> Span<UInt8> { buffer.span.extracting(line) }

    mutating func next() throws(Errno) -> Line {
        while true {
            if let lineFeed = nextLineFeed {
                return take(upTo: lineFeed, next: lineFeed + 1)
            }
            searched = end
            if start < end, dropped > 0 || end - start > lineBytesMax + 1 {
                // The last byte stays: it may be the CR of the line's end.
                dropped += end - start - 1
                buffer[0] = buffer[end - 1]
                (start, end, searched) = (0, 1, 1)
            }
            if isAtEnd {
                guard start < end || dropped > 0 else { return .end }
                return take(upTo: end, next: end)
            }
            makeRoom()
            guard try fill() else { return .stopped }
        }
    }

    private var nextLineFeed: Int? {
        buffer.span.extracting(0..<end).firstIndex(of: UInt8(ascii: "\n"), from: searched)
    }

    private mutating func take(upTo lineEnd: Int, next: Int) -> Line {
        lineNumber += 1
        var lineEnd = lineEnd
        if lineEnd > start, buffer[lineEnd - 1] == UInt8(ascii: "\r") { lineEnd -= 1 }
        let line = start..<lineEnd
        let total = dropped + line.count
        dropped = 0
        start = next
        searched = next
        return total > lineBytesMax ? .tooLong(bytes: total) : .text(line)
    }

    private mutating func makeRoom() {
        if start > 0 {
            let held = start..<end
            unsafe buffer.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                unsafe memmove(base, base + held.lowerBound, held.count)
            }
            end -= start
            searched -= start
            start = 0
        }
        guard end == buffer.count else { return }
        let size = min(max(buffer.count * 2, Self.firstBufferBytes), lineBytesMax + 2)
        buffer += [UInt8](repeating: 0, count: size - buffer.count)
    }

    /// Reads once; false where a signal came first.
    private mutating func fill() throws(Errno) -> Bool {
        while true {
            if let stop {
                var entries = [pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)]
                guard stop.wait(on: &entries, until: nil) == .ready else { return false }
            }
            let from = end
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe read(descriptor, bytes.baseAddress! + from, bytes.count - from)
            }
            if count > 0 {
                end += count
                return true
            }
            if count == 0 {
                isAtEnd = true
                return true
            }
            guard errno == EINTR || errno == EAGAIN else { throw .current }
        }
    }
}
