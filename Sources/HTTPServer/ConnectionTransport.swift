// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import TLSEngine

/// The bytes of one accepted connection, to and from its peer: a nonblocking socket, owned, and
/// the TLS session on it where there is one.
///
/// View: connection. Threads: its loop's. Every protocol reads and writes through this alone and
/// so does not know what is underneath. It calls nobody and keeps no deadline; whoever holds it
/// registers ``number`` with the loop, ends that registration before ``close()`` or ``take()``,
/// and asks the kernel for readiness when a call would block.
struct ConnectionTransport: ~Copyable {
    /// The socket's descriptor, for the loop and for socket options. Not open after ``close()``.
    let number: CInt
    private var socket: OwnedDescriptor?
    private var session: TLSSession?

    init(_ accepted: consuming AcceptedSocket) {
        number = accepted.number
        socket = accepted.takeDescriptor()
    }

    private init(adopting socket: consuming OwnedDescriptor, _ session: TLSSession?) {
        number = socket.number
        self.socket = consume socket
        self.session = session
    }

    /// Moves the open connection to a new owner, such as the next protocol spoken on it; this
    /// value is closed afterwards.
    mutating func take() -> ConnectionTransport {
        guard let socket = socket.take() else {
            preconditionFailure("a connection is taken after it was closed")
        }
        return ConnectionTransport(adopting: socket, session.take())
    }

    // MARK: - TLS

    /// Goes on through `session`, whose handshake the caller leads.
    mutating func encrypt(with session: TLSSession) { self.session = session }

    /// Goes on with the bare socket: the session has failed and said so to the peer.
    mutating func dropSession() { session = nil }

    /// As ``TransferOutcome``, which protocols know.
    private static func outcome(_ outcome: TLSOutcome) -> TransferOutcome {
        switch outcome {
        case .transferred(let count): .transferred(count)
        case .wantRead, .wantWrite: .wouldBlock
        case .closed: .endOfFile
        case .failed(let error): .failed(Errno(error.systemCode ?? EPROTO))
        }
    }

    /// The same of a write, to which a session that has ended is a failure.
    private static func written(_ outcome: TLSOutcome) -> TransferOutcome {
        if case .closed = outcome { return .failed(Errno(EPIPE)) }
        return Self.outcome(outcome)
    }

    // MARK: - Transfer

    /// Reads what has come, at most the whole scratch.
    ///
    /// What it leaves behind the loop reports again.
    func read(into scratch: ReadScratch) -> TransferOutcome {
        guard let session else { return scratch.read(from: number) }
        return Self.outcome(scratch.read(from: session))
    }

    /// Writes as much of `bytes` as is taken. Bytes count as taken once they will reach the peer
    /// without being offered again; see ``holdsUnsent``. Where `moreFollows` the kernel may wait a
    /// moment with them for what is written next.
    func write(_ bytes: UnsafeRawBufferPointer, moreFollows: Bool = false) -> TransferOutcome {
        guard let session else {
            return unsafe StreamSocket.write(number, bytes, moreFollows: moreFollows)
        }
        return unsafe Self.written(session.write(bytes))
    }

    /// Writes several pieces, at most `UIO_MAXIOV` of them, in order.
    func write(pieces: UnsafeBufferPointer<iovec>) -> TransferOutcome {
        if let session { return unsafe Self.written(session.write(pieces: pieces)) }
        // send(2) is cheaper than sendmsg(2), which has its array of pieces to read.
        guard pieces.count == 1 else { return unsafe StreamSocket.write(number, pieces: pieces) }
        return unsafe StreamSocket.write(
            number, UnsafeRawBufferPointer(start: pieces[0].iov_base, count: pieces[0].iov_len))
    }

    /// True where bytes that were taken wait in this process for the socket: wait for it to be
    /// writable and call ``flush()``. Nothing more is taken meanwhile. Never so on a plain socket.
    var holdsUnsent: Bool { session?.holdsUnsent ?? false }

    /// Sends what ``holdsUnsent`` speaks of: `.transferred(0)` once none is left.
    func flush() -> TransferOutcome {
        guard let session else { return .transferred(0) }
        return Self.written(session.flush())
    }

    /// Bytes that were taken and that the peer has not acknowledged. One system call.
    var unsentBytes: Int {
        max(0, Int(clinux_unsent_bytes(number))) + (session?.heldCount ?? 0)
    }

    // MARK: - Ending

    /// True where the peer takes the end for a failure unless ``closeWriting()`` comes first.
    var endsInBand: Bool { session != nil }

    /// Tells the peer that nothing more comes.
    ///
    /// - Returns: False where the socket is too full for that: call it again when it is writable.
    func closeWriting() -> Bool {
        if let session, !session.closeWriting() { return false }
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
    mutating func close() {
        if let session, socket != nil { _ = session.closeWriting() }
        session = nil
        socket = nil
    }
}
