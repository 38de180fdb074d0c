// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import Observability
import PosixIO
import Reactor
import TLSEngine

/// A connection on a TLS port until it is known what is spoken on it.
///
/// View: connection. Threads: its loop's. It looks at the first byte, leads the handshake, and
/// then gives its place to the connection that speaks the protocol agreed on. No session is made
/// before the peer has sent something, so that a silent one costs little.
final class TLSHandshake: ListenerConnection, ReadinessHandler {
    var key = Slab<any ListenerConnection>.Key(index: .max, generation: 0)
    let isAdmitted: Bool
    private let listener: HTTPListener
    private let encryption: HTTPListener.Encryption
    private let peer: SocketAddress
    private var transport: ConnectionTransport
    private var session: TLSSession?
    private var registration: Registration?
    private var deadline = ConnectionDeadline()
    private var isOver = false

    init(
        _ transport: consuming ConnectionTransport, peer: SocketAddress, listener: HTTPListener,
        encryption: HTTPListener.Encryption, isAdmitted: Bool
    ) {
        self.transport = transport
        self.peer = peer
        self.listener = listener
        self.encryption = encryption
        self.isAdmitted = isAdmitted
    }

    func start() {
        encryption.metrics.pending.add(1)
        do throws(Errno) {
            registration = try listener.loop.register(
                transport.number, for: .readable, handler: self)
        } catch {
            listener.metrics.countRejection(.memory)
            return close()
        }
        deadline.set(after: listener.settings.headerTimeout, of: self, listener)
    }

    // MARK: - Readiness

    func descriptorIsReady(_ readiness: Readiness) {
        if readiness.contains(.failed) { return fail("socketFailed", nil) }
        // What is left for the next turn the loop reports again.
        guard listener.mayHandshake() else { return }
        if session == nil { lookAtFirstByte() }
        if let session, !isOver { proceed(session) }
    }

    /// TLS speaks first, with a handshake record (RFC 8446, section 5.1).
    private func lookAtFirstByte() {
        var first: UInt8 = 0
        let count = unsafe recv(transport.number, &first, 1, CInt(MSG_PEEK))
        guard count > 0 else {
            if count == 0 { return fail("peerClosed", nil) }
            return errno == EAGAIN || errno == EINTR ? () : fail("socketFailed", nil)
        }
        switch first {
        case 0x16: beginSession()
        // No method begins with anything else (RFC 9110, section 9.1 and its registry).
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): refusePlainHTTP()
        default: closeGently(TLSError.Code.notTLS.rawValue, nil)
        }
    }

    private func beginSession() {
        do throws(TLSError) {
            let session = try TLSSession(
                server: encryption.server.context, descriptor: transport.number,
                records: listener.records)
            transport.encrypt(with: session)
            self.session = session
        } catch { fail(error.code.rawValue, error) }
    }

    private func proceed(_ session: TLSSession) {
        switch session.handshake() {
        case .done: handOver(session.agreement)
        case .wantRead: wait(for: .readable)
        case .wantWrite: wait(for: .writable)
        case .failed(let error):
            switch error.code {
            // The other side knows already, or there is none.
            case .peerClosed, .socketFailed, .peerAlert: fail(error.code.rawValue, error)
            default: closeGently(error.code.rawValue, error)
            }
        }
    }

    private func wait(for interest: Interest) {
        guard let registration else { return }
        listener.loop.update(registration, descriptor: transport.number, to: interest)
    }

    // MARK: - The end of it

    private func handOver(_ agreement: TLSSession.Agreement) {
        encryption.metrics.count(agreement)
        listener.noteAgreement(agreement)
        // A client that does not ask for a protocol by name speaks HTTP/1.1.
        let wireProtocol = agreement.applicationProtocol.flatMap(WireProtocol.init) ?? .http1
        leaveLoop()
        listener.replace(
            self,
            with: listener.makeConnection(
                wireProtocol, over: transport.take(), peer: peer, isAdmitted: isAdmitted))
    }

    private func refusePlainHTTP() {
        countFailure(TLSError.Code.plainHTTP.rawValue, nil)
        becomePlain().refusePlainHTTP()
    }

    /// Lets the peer read the alert that says why, before the connection goes.
    private func closeGently(_ reason: String, _ error: TLSError?) {
        countFailure(reason, error)
        becomePlain().closeGently()
    }

    private func becomePlain() -> HTTP1Connection {
        leaveLoop()
        transport.dropSession()
        let connection = HTTP1Connection(
            transport.take(), peer: peer, listener: listener, isAdmitted: isAdmitted)
        listener.replace(self, with: connection)
        return connection
    }

    private func fail(_ reason: String, _ error: TLSError?) {
        countFailure(reason, error)
        transport.dropSession()
        close()
    }

    private func countFailure(_ reason: String, _ error: TLSError?) {
        encryption.metrics.countFailure(reason)
        listener.log.debug(
            "TLS handshake failed", LogField("peer", peer), LogField("reason", reason),
            LogField("detail", error?.detail ?? ""))
    }

    private func leaveLoop() {
        isOver = true
        session = nil
        deadline.clear()
        encryption.metrics.pending.add(-1)
        if let registration {
            listener.loop.deregister(registration, descriptor: transport.number)
        }
        registration = nil
    }

    private func close() {
        guard !isOver else { return }
        leaveLoop()
        transport.close()
        listener.connectionClosed(self)
    }

    // MARK: - For the listener

    func deadlineWasQueued(for step: UInt32) {
        guard deadline.wasQueued(for: step, of: self, listener), !isOver else { return }
        fail(TLSServerMetrics.timeout, nil)
    }

    func continueReading() {}

    func closeIfIdle() { close() }

    func stop() { close() }
}
