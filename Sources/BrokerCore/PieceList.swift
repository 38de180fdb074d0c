// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux

/// Runs of shared bytes on their way into one system call.
///
/// Holds addresses, not references: whoever appends keeps the bytes alive until the call is made.
/// The list keeps its memory when it is emptied, so filling it again allocates nothing.
@safe
struct PieceList {
    private var pieces: [iovec] = unsafe []
    private(set) var byteCount = 0

    /// As many pieces as one sendmsg(2) takes on Linux (UIO_MAXIOV).
    static let countMax = 1024

    var count: Int { unsafe pieces.count }
    var isEmpty: Bool { unsafe pieces.isEmpty }

    mutating func removeAll() {
        unsafe pieces.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    mutating func append(_ range: Range<Int>, of bytes: SharedBytes) {
        byteCount += range.count
        unsafe pieces.append(
            iovec(iov_base: bytes.pointer(at: range.lowerBound), iov_len: range.count))
    }

    func write(to sink: any EventSink) -> SinkWrite {
        unsafe pieces.withUnsafeBufferPointer { unsafe sink.write($0) }
    }
}

extension EventSink {
    /// Offers bytes that a caller owns.
    func write(_ bytes: [UInt8]) -> SinkWrite {
        var bytes = bytes
        return unsafe bytes.withUnsafeMutableBytes { raw in
            let piece = unsafe iovec(iov_base: raw.baseAddress, iov_len: raw.count)
            return unsafe withUnsafePointer(to: piece) {
                unsafe write(UnsafeBufferPointer(start: $0, count: 1))
            }
        }
    }
}
