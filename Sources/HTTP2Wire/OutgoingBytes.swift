// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux

/// Frames that are ready to leave, in one run of bytes.
struct OutgoingBytes {
    private var bytes: [UInt8] = []
    private var start = 0
    /// What the last run grew to, so that the next one need not grow there step by step.
    private var expected = 0

    var count: Int { bytes.count - start }

    mutating func append(_ more: UnsafeRawBufferPointer) {
        if bytes.isEmpty { bytes.reserveCapacity(max(expected, more.count)) }
        unsafe bytes.append(contentsOf: more)
    }

    /// Forgets the first `count` bytes, and gives the memory back where they were all.
    mutating func removeFirst(_ count: Int) {
        start += count
        precondition(start <= bytes.count, "\(count) bytes more than there were are sent")
        if start == bytes.count {
            expected = min(bytes.count, 32 << 10)
            bytes = []
            start = 0
        } else if start >= 64 << 10 {
            bytes.removeFirst(start)
            start = 0
        }
    }

    func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe bytes.withUnsafeBytes {
            unsafe body(UnsafeRawBufferPointer(rebasing: $0[start...]))
        }
    }
}

/// The pieces that a caller lends for the time of one call.
@safe
struct LentPieces {
    private(set) var remaining = 0
    private var pieces: UnsafeBufferPointer<iovec>
    private var index = 0
    private var offset = 0

    init(_ pieces: UnsafeBufferPointer<iovec>, atMost limit: Int) {
        unsafe self.pieces = pieces
        for index in pieces.indices { unsafe remaining += pieces[index].iov_len }
        remaining = min(remaining, limit)
    }

    /// Moves the next `count` bytes to `output`.
    mutating func move(_ count: Int, to output: inout OutgoingBytes) {
        var left = count
        remaining -= count
        while left > 0 {
            let piece = unsafe pieces[index]
            let taken = unsafe min(left, piece.iov_len - offset)
            if taken > 0, let base = unsafe piece.iov_base {
                unsafe output.append(UnsafeRawBufferPointer(start: base + offset, count: taken))
            }
            left -= taken
            offset += taken
            if unsafe offset == piece.iov_len {
                index += 1
                offset = 0
            }
        }
    }
}
