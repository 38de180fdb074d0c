// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import PosixIO

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

    /// Why ``send(toEach:from:)`` went no further.
    enum Stop {
        case ended
        /// The next one has no open socket, or its socket has failed.
        case closed
        /// The next one's socket took so many bytes and then no more.
        case full(Int)
    }

    /// Sends all pieces to each of `sockets` from `first` on, one system call each, and nothing of
    /// any other object is looked at in between.
    ///
    /// - Returns: The index at which it stopped, and why.
    func send(toEach sockets: [CInt], from first: Int) -> (index: Int, stop: Stop) {
        unsafe pieces.withUnsafeBufferPointer { pieces in
            unsafe sockets.withUnsafeBufferPointer { sockets in
                let only =
                    unsafe pieces.count == 1
                    ? UnsafeRawBufferPointer(start: pieces[0].iov_base, count: pieces[0].iov_len)
                    : nil
                var index = first
                while index < sockets.count {
                    let socket = unsafe sockets[index]
                    guard socket >= 0 else { return (index, .closed) }
                    let outcome: TransferOutcome
                    if let only = unsafe only {
                        outcome = unsafe StreamSocket.write(socket, only)
                    } else {
                        outcome = unsafe StreamSocket.write(socket, pieces: pieces)
                    }
                    switch outcome {
                    case .transferred(byteCount): index += 1
                    case .transferred(let count): return (index, .full(count))
                    case .wouldBlock: return (index, .full(0))
                    case .endOfFile, .failed: return (index, .closed)
                    }
                }
                return (index, .ended)
            }
        }
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
