// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux

/// Where short pieces are put together into one record.
///
/// View: shard. Threads: its loop's. One for all sessions of a loop, because only one of them
/// writes at a time and nothing stays in it afterwards.
@safe
package final class TLSRecordBuffer {
    private let start: UnsafeMutableRawPointer

    package init() {
        unsafe start = .allocate(byteCount: TLSSession.recordBytes, alignment: 64)
    }

    deinit { unsafe start.deallocate() }

    fileprivate func fill(_ count: Int, from source: UnsafeRawPointer, at offset: Int) {
        unsafe (start + offset).copyMemory(from: source, byteCount: count)
    }

    fileprivate func bytes(_ count: Int) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: start, count: count)
    }
}

/// Cuts a list of pieces into records. It lives within one write.
@unsafe
struct PieceCursor {
    private let pieces: UnsafeBufferPointer<iovec>
    private var index = 0
    /// Bytes of the piece at `index` that are used up.
    private var offset = 0

    init(_ pieces: UnsafeBufferPointer<iovec>) { unsafe self.pieces = pieces }

    /// The next record of at most `limit` bytes, lying in its piece where it has one for itself,
    /// else in `buffer`; `nil` at the end.
    mutating func next(_ limit: Int, _ buffer: TLSRecordBuffer) -> UnsafeRawBufferPointer? {
        unsafe skipEmpty()
        guard unsafe index < pieces.count else { return nil }
        let left = unsafe pieces[index].iov_len - offset
        if unsafe left >= limit || index + 1 == pieces.count {
            let count = min(left, limit)
            let start = unsafe UnsafeRawPointer(pieces[index].iov_base!) + offset
            unsafe offset += count
            return unsafe UnsafeRawBufferPointer(start: start, count: count)
        }
        var filled = 0
        while filled < limit, unsafe index < pieces.count {
            let count = unsafe min(limit - filled, pieces[index].iov_len - offset)
            if count > 0 {
                let start = unsafe UnsafeRawPointer(pieces[index].iov_base!) + offset
                unsafe buffer.fill(count, from: start, at: filled)
            }
            filled += count
            unsafe offset += count
            unsafe skipEmpty()
        }
        return unsafe buffer.bytes(filled)
    }

    private mutating func skipEmpty() {
        while unsafe index < pieces.count, unsafe offset == pieces[index].iov_len {
            unsafe index += 1
            unsafe offset = 0
        }
    }
}
