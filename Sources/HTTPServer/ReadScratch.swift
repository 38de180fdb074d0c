// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import TLSEngine

/// Where a loop's reads land before it is known whether any of it has to be kept.
///
/// View: shard. One for all connections of a listener, because only one of them reads at a time
/// and most reads hold a whole request, which leaves nothing to keep.
@safe
final class ReadScratch {
    static let byteCount = 64 << 10

    private let start: UnsafeMutableRawPointer

    init() { unsafe start = .allocate(byteCount: Self.byteCount, alignment: 64) }

    deinit { unsafe start.deallocate() }

    /// Reads what `socket` holds, at most the whole scratch.
    func read(from socket: CInt) -> TransferOutcome {
        unsafe StreamSocket.read(
            socket, into: UnsafeMutableRawBufferPointer(start: start, count: Self.byteCount))
    }

    /// Reads what `session` holds, at most the whole scratch.
    func read(from session: TLSSession) -> TLSOutcome {
        unsafe session.read(
            into: UnsafeMutableRawBufferPointer(start: start, count: Self.byteCount))
    }

    /// The first `count` bytes of the last read. They last until the next one.
    @_lifetime(borrow self)
    func bytes(_ count: Int) -> Span<UInt8> {
        precondition(count >= 0 && count <= Self.byteCount, "\(count) bytes of the scratch")
        let buffer = unsafe UnsafeBufferPointer(
            start: start.assumingMemoryBound(to: UInt8.self), count: count)
        let span = unsafe Span(_unsafeElements: buffer)
        return unsafe _overrideLifetime(span, borrowing: self)
    }
}
