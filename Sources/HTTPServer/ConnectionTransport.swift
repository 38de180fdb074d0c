// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO

/// The bytes of one accepted connection, to and from its peer: a nonblocking socket, owned.
///
/// View: connection. Threads: its loop's. Every protocol reads and writes through this alone and
/// so does not know what is underneath. It calls nobody and keeps no deadline; whoever holds it
/// registers ``number`` with the loop, ends that registration before ``close()`` or ``take()``,
/// and asks the kernel for readiness when a call would block.
struct ConnectionTransport: ~Copyable {
    /// The socket's descriptor, for the loop and for socket options. Not open after ``close()``.
    let number: CInt
    private var socket: OwnedDescriptor?

    init(_ accepted: consuming AcceptedSocket) {
        number = accepted.number
        socket = accepted.takeDescriptor()
    }

    private init(adopting socket: consuming OwnedDescriptor) {
        number = socket.number
        self.socket = consume socket
    }

    /// Moves the open connection to a new owner, such as the next protocol spoken on it; this
    /// value is closed afterwards.
    mutating func take() -> ConnectionTransport {
        guard let socket = socket.take() else {
            preconditionFailure("a connection is taken after it was closed")
        }
        return ConnectionTransport(adopting: socket)
    }

    // MARK: - Transfer

    /// Reads what has come, at most the whole scratch.
    ///
    /// One read leaves nothing behind that the loop would not report again.
    @inline(__always)
    func read(into scratch: ReadScratch) -> TransferOutcome { scratch.read(from: number) }

    /// Writes as much of `bytes` as is taken. Bytes count as taken once they will reach the peer
    /// without being offered again; see ``holdsUnsent``.
    @inline(__always)
    func write(_ bytes: UnsafeRawBufferPointer) -> TransferOutcome {
        unsafe StreamSocket.write(number, bytes)
    }

    /// Writes several pieces, at most `UIO_MAXIOV` of them, in order.
    @inline(__always)
    func write(pieces: UnsafeBufferPointer<iovec>) -> TransferOutcome {
        // send(2) is cheaper than sendmsg(2), which has its array of pieces to read.
        guard pieces.count == 1 else { return unsafe StreamSocket.write(number, pieces: pieces) }
        return unsafe write(
            UnsafeRawBufferPointer(start: pieces[0].iov_base, count: pieces[0].iov_len))
    }

    /// True where bytes that were taken wait in this process for the socket: wait for it to be
    /// writable and call ``flush()``. Never so on a plain socket.
    var holdsUnsent: Bool { false }

    /// Sends what ``holdsUnsent`` speaks of: `.transferred` once none is left.
    func flush() -> TransferOutcome { .transferred(0) }

    /// Bytes that were taken and that the peer has not acknowledged. One system call.
    var unsentBytes: Int { max(0, Int(clinux_unsent_bytes(number))) }

    // MARK: - Ending

    /// True where the peer takes the end for a failure unless ``closeWriting()`` comes first.
    var endsInBand: Bool { false }

    /// Tells the peer that nothing more comes.
    ///
    /// - Returns: False where the socket is too full for that: call it again when it is writable.
    func closeWriting() -> Bool {
        _ = Glibc.shutdown(number, CInt(SHUT_WR))
        return true
    }

    /// Makes the close that follows discard what is unsent and reset the connection.
    func resetOnClose() {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        let size = socklen_t(MemoryLayout<Glibc.linger>.size)
        _ = unsafe setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, size)
    }

    /// Closes the socket. Its registration has ended.
    mutating func close() { socket = nil }
}
