// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import CLinux
package import PosixIO

/// An answer without an end: bytes to one client until either side has had enough.
///
/// View: connection. Threads: its loop's. It keeps no bytes of its caller: what the socket did
/// not take stays with the caller, who goes on when ``ByteStreamObserver/streamIsWritable(_:)``
/// says so. Each protocol has its own subclass in this module (over HTTP/1.1 the stream is the
/// connection itself, so that an idle one costs one object); users see only this type.
package class ByteStream {
    /// Free for the observer, such as the index of its own record of this stream.
    package final var context = 0

    package final let peer: SocketAddress

    init(peer: SocketAddress) { self.peer = peer }

    /// Gives `pieces` to the socket, in order, without copying or queueing them.
    ///
    /// Never calls the observer. After ``ByteStreamWrite/some(_:)`` further writes answer
    /// `.some(0)` until the observer is told that the stream is writable.
    package func write(_ pieces: UnsafeBufferPointer<iovec>) -> ByteStreamWrite {
        preconditionFailure("a subclass writes")
    }

    /// The socket whose bytes are those of the stream and nothing else, where it has just taken all
    /// that was given to it; `nil` where bytes have to go through ``write(_:)``.
    ///
    /// Whoever writes to it tells ``sentToSocket(_:isFull:)``, and stops to when the stream has been
    /// written to otherwise, finished, aborted, or reported as ended: the number may then be
    /// another's.
    package var openSocket: CInt? { nil }

    /// So many bytes went to the ``openSocket`` of this stream, or of others of its listener.
    ///
    /// - Parameter isFull: It took less than it was offered: further writes answer `.some(0)`
    ///   until the observer is told that the stream is writable.
    package func sentToSocket(_ bytes: Int, isFull: Bool) {}

    /// Ends the stream after what was accepted so far. The peer reads all of it and then the end.
    ///
    /// The observer is told ``StreamEnd/finished`` at the end of this turn. On a stream that has
    /// ended already it does nothing.
    package func finish() { preconditionFailure("a subclass finishes") }

    /// Ends the stream now; what the peer has not received yet is discarded with a reset.
    ///
    /// The observer is told ``StreamEnd/aborted`` at the end of this turn. On a stream that has
    /// ended already it does nothing.
    package func abort() { preconditionFailure("a subclass aborts") }

    /// Bytes that were accepted and that the peer has not acknowledged. One system call.
    package var unsentBytes: Int { preconditionFailure("a subclass counts") }
}

extension ByteStream {
    /// Gives one run of bytes to the socket; see ``write(_:)``.
    package final func write(_ bytes: [UInt8]) -> ByteStreamWrite {
        unsafe bytes.withUnsafeBytes { raw in
            var piece = unsafe iovec(
                iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count)
            return unsafe withUnsafePointer(to: &piece) {
                unsafe write(UnsafeBufferPointer(start: $0, count: 1))
            }
        }
    }
}

/// How much of a write the socket took.
package enum ByteStreamWrite: Sendable, Equatable {
    case all
    /// This many bytes, counted over the pieces; then the socket was full. The observer will be
    /// told when it is writable again.
    case some(Int)
    /// Nothing: the stream has ended. The observer is told why at the end of this turn, unless it
    /// has been told already.
    case ended
}

/// Why a stream ended.
package enum StreamEnd: Sendable, Equatable {
    /// The peer has closed the connection or its half of it.
    case peerClosed
    /// The socket failed, such as by a reset.
    case failed(Errno)
    /// The peer sent more than a stream's peer has any reason to send.
    case peerSentData
    /// The observer called ``ByteStream/finish()``.
    case finished
    /// The observer called ``ByteStream/abort()``.
    case aborted
    /// The listener was stopped.
    case listenerStopped

    /// The metric label and log value of this reason. Stable.
    package var name: String {
        switch self {
        case .peerClosed: "peerClosed"
        case .failed: "failed"
        case .peerSentData: "peerSentData"
        case .finished: "finished"
        case .aborted: "aborted"
        case .listenerStopped: "listenerStopped"
        }
    }

    package static let names = [
        "peerClosed", "failed", "peerSentData", "finished", "aborted", "listenerStopped",
    ]
}

/// Whoever feeds a stream. Called on the stream's loop.
package protocol ByteStreamObserver: AnyObject {
    /// The socket was full and takes bytes again. Called from the loop's readiness dispatch; also
    /// where it was the stream's own head that had found the socket full.
    func streamIsWritable(_ stream: ByteStream)

    /// The stream is over; called exactly once for each stream that was opened.
    ///
    /// It is called from the loop's readiness dispatch where the peer or the socket ended the
    /// stream; at the end of the turn where the observer itself did (``ByteStream/finish()``,
    /// ``ByteStream/abort()``) or learnt it from a write; from inside ``HTTPListener/stop()``
    /// where that ended it. So it never runs inside a call that the observer makes to the stream.
    func streamEnded(_ stream: ByteStream, _ reason: StreamEnd)

    /// The peer of an upgraded stream has sent `bytes`, which last until this returns. Never called
    /// for other streams, nor once the stream has ended.
    ///
    /// It is called from the loop's readiness dispatch; at the end of the turn for what came
    /// together with the request.
    func stream(_ stream: ByteStream, received bytes: borrowing Span<UInt8>)
}

extension ByteStreamObserver {
    /// For observers whose streams only send.
    package func stream(_ stream: ByteStream, received bytes: borrowing Span<UInt8>) {}
}
