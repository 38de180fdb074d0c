// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Bytes that were written once and are read by many threads at a stable address.
///
/// Threads: any. The memory is written only by the initialiser, so readers need no lock. The
/// address is stable for the life of the value, which is what lets a socket write take it
/// without a copy.
@safe
package final class SharedBytes: @unchecked Sendable {
    // @unchecked: the memory is never written after init returned.
    private let start: UnsafeMutableRawPointer
    package let count: Int

    /// Copies `bytes`.
    package convenience init(_ bytes: [UInt8]) {
        unsafe self.init(count: bytes.count) { target in
            unsafe bytes.withUnsafeBytes { source in
                unsafe target.copyMemory(from: source)
            }
        }
    }

    /// Allocates `count` bytes and lets `fill` write them, all of them, once.
    package init(count: Int, fill: (UnsafeMutableRawBufferPointer) -> Void) {
        unsafe start = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 8)
        self.count = count
        unsafe fill(UnsafeMutableRawBufferPointer(start: start, count: count))
    }

    deinit { unsafe start.deallocate() }

    /// The bytes as a checked view.
    package var span: Span<UInt8> {
        @_lifetime(borrow self)
        get {
            let buffer = unsafe UnsafeBufferPointer(
                start: start.assumingMemoryBound(to: UInt8.self),
                count: count
            )
            let span = unsafe Span(_unsafeElements: buffer)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// The address of byte `offset`. Valid while the caller keeps this object alive.
    @unsafe
    package func pointer(at offset: Int) -> UnsafeMutableRawPointer {
        precondition(offset >= 0 && offset <= count, "offset \(offset) is outside \(count) bytes")
        return unsafe start + offset
    }

    /// A copy of the bytes in `range`.
    package func copy(_ range: Range<Int>) -> [UInt8] {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        return unsafe [UInt8](
            UnsafeRawBufferPointer(start: start + range.lowerBound, count: range.count)
        )
    }
}
