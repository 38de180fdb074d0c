// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import HTTP2Wire
package import Observability
package import PosixIO
package import Reactor
package import TLSEngine

/// Accepts HTTP connections on one loop, over TLS or without, and serves them there.
///
/// View: shard. Threads: its loop's; only the initialiser may run elsewhere. Each loop has a
/// listener of its own on the same port (SO_REUSEPORT), and a connection stays on the loop that
/// accepted it. Lifecycle: ``start()`` once; to drain, ``announceDrain()`` while the observers
/// finish their streams, then ``stopAccepting()`` and ``closeIdleConnections()``; ``stop()`` closes
/// what is left. The loop keeps a started listener alive until it has stopped.
package final class HTTPListener: ReadinessHandler {
    let loop: EventLoop
    let settings: HTTPServerSettings
    /// What the sessions of this listener's HTTP/2 connections share.
    let http2Settings: HTTP2Settings
    let metrics: HTTPServerMetrics
    let admission: (any HTTPAdmission)?
    /// Given up by ``stop()``: a handler usually holds streams, and they their listener.
    private(set) var handler: (any HTTPRequestHandler)?
    let log: Logger
    /// Where every read of this loop's connections goes first.
    let scratch = ReadScratch()
    let heldBytes = HeldBytes()
    /// Where sessions put their records together.
    private(set) lazy var records = TLSRecordBuffer()
    /// True once no new request is wanted on connections that are open.
    private(set) var isDraining = false
    /// Bytes given to sockets since the last sweep.
    var bytesSent = 0
    private var lastStreamHead: (status: Int, headers: [(String, String)], bytes: [UInt8])?

    private let address: SocketAddress
    private let encryption: Encryption?
    /// Steps of handshakes in the turn that began at `turn`.
    private var handshakes = (turn: MonotonicTime(nanoseconds: 0), count: 0)
    private var hasSpokenTLS = false
    private var socket: OwnedDescriptor?
    private var registration: Registration?
    private var boundAddress: SocketAddress?
    private var isAcceptPaused = false
    private var nextWarning = MonotonicTime(nanoseconds: 0)
    /// Kept so that a connection can be accepted and closed when descriptors have run out.
    private var spare: OwnedDescriptor?
    private var connections = Slab<any ListenerConnection>()
    private var rejectionsPending = 0
    private var deadlines: DeadlineBuckets
    private var sweepTimer: LoopTimer?
    private var acceptTimer: LoopTimer?
    private var waitingForTurn: [Slab<any ListenerConnection>.Key] = []
    private var dateText = (second: UInt64.max, text: "")

    /// What makes a listener one for TLS.
    package struct Encryption {
        let server: TLSServer
        let metrics: TLSServerMetrics

        package init(_ server: TLSServer, _ metrics: TLSServerMetrics) {
            self.server = server
            self.metrics = metrics
        }
    }

    /// - Parameters:
    ///   - address: Port 0 lets the kernel choose; ``localAddress`` says which.
    ///   - handler: Kept until ``stop()``.
    ///   - admission: Who decides whether one more connection may be open; `nil` admits all.
    ///   - encryption: `nil` for a port that speaks plain HTTP.
    package init(
        loop: EventLoop, address: SocketAddress, settings: HTTPServerSettings,
        handler: any HTTPRequestHandler, metrics: HTTPServerMetrics,
        admission: (any HTTPAdmission)?, encryption: Encryption? = nil, log: Logger
    ) {
        self.loop = loop
        self.address = address
        self.settings = settings
        http2Settings = HTTP2Settings(
            limits: settings.http2 ?? HTTP2Limits(), requests: settings.limits,
            headerTimeout: settings.headerTimeout, bodyTimeout: settings.bodyTimeout,
            answerTimeout: settings.idleTimeout)
        self.handler = handler
        self.metrics = metrics
        self.admission = admission
        self.encryption = encryption
        self.log = log
        deadlines = DeadlineBuckets(step: settings.sweepInterval, now: .now)
    }

    /// Begins to accept.
    ///
    /// - Throws: An error that names the address and what to do about it.
    package func start() throws(HTTPServerError) {
        loop.requireCurrent()
        precondition(registration == nil && sweepTimer == nil, "\(address) is started twice")
        do {
            let socket = try StreamSocket.listen(
                on: address, backlog: settings.backlog, sharesPort: true)
            try prepare(socket.number)
            boundAddress = try StreamSocket.localAddress(of: socket.number)
            registration = try loop.register(socket.number, for: .readable, handler: self)
            self.socket = consume socket
        } catch { throw HTTPServerError(error, listeningOn: address) }
        openSpare()
        // Weak: the loop may hold a timer longer than the listener lives.
        sweepTimer = LoopTimer { [weak self] in self?.sweep() }
        acceptTimer = LoopTimer { [weak self] in self?.resumeAccepting() }
        loop.schedule(sweepTimer!, after: settings.sweepInterval)
        log.info(
            "listening", LogField("address", boundAddress ?? address),
            LogField("tls", encryption != nil))
    }

    /// Where the listener listens, once started.
    package var localAddress: SocketAddress? { boundAddress }

    /// Connections that are open on this loop, those included that are about to close.
    package var connectionCount: Int { connections.count }

    /// Goes on accepting and answering, and tells clients that this will end: HTTP/1.1 with
    /// `Connection: close`, HTTP/2 with GOAWAY, which leaves open streams as they are.
    package func announceDrain() {
        loop.requireCurrent()
        isDraining = true
        for connection in openConnections() { connection.drainBegins() }
    }

    /// Closes the listening socket, after accepting what had already arrived. Requests on open
    /// connections are still answered, with `Connection: close`.
    package func stopAccepting() {
        loop.requireCurrent()
        isDraining = true
        guard let registration, let number = socket?.number else { return }
        // The kernel would reset connections that wait here when their listener closes.
        let rounds = Int(settings.backlog) / settings.acceptsPerTurn + 1
        for _ in 0..<rounds where !acceptSome(settings.acceptsPerTurn) { break }
        loop.deregister(registration, descriptor: number)
        self.registration = nil
        socket = nil
        spare = nil
        if let acceptTimer { loop.cancel(acceptTimer) }
        for connection in openConnections() { connection.drainBegins() }
    }

    /// Closes the connections that wait for a request and have sent no part of one.
    package func closeIdleConnections() {
        loop.requireCurrent()
        for connection in openConnections() { connection.closeIfIdle() }
    }

    /// Closes everything now. Observers of open streams are told from inside this call.
    package func stop() {
        stopAccepting()
        for connection in openConnections() { connection.stop() }
        if let sweepTimer { loop.cancel(sweepTimer) }
        publishBytesSent()
        handler = nil
    }

    /// A copy, because closing a connection changes the slab.
    private func openConnections() -> [any ListenerConnection] {
        var open: [any ListenerConnection] = []
        connections.forEach { open.append($1) }
        return open
    }

    /// Accepted sockets inherit these options from their listener, which saves the calls.
    private func prepare(_ socket: CInt) throws(Errno) {
        if case .unix = address {} else { try StreamSocket.disableDelay(socket) }
        if let bytes = settings.sendBufferBytes {
            try StreamSocket.set(socket, level: SOL_SOCKET, option: SO_SNDBUF, to: bytes)
        }
    }

    // MARK: - Accepting

    package func descriptorIsReady(_ readiness: Readiness) {
        _ = acceptSome(settings.acceptsPerTurn)
    }

    /// Accepts up to `count` connections; false once none waits.
    private func acceptSome(_ count: Int) -> Bool {
        guard let number = socket?.number else { return false }
        for _ in 0..<count {
            do throws(Errno) {
                guard let accepted = try StreamSocket.accept(from: number) else { return false }
                metrics.connectionsAccepted.add()
                admit(accepted)
            } catch {
                acceptFailed(error, listener: number)
                return false
            }
        }
        return true
    }

    private func admit(_ accepted: consuming AcceptedSocket) {
        let isAdmitted = admission?.tryAcquire() ?? true
        if !isAdmitted {
            metrics.countRejection(.connectionLimit)
            guard rejectionsPending < settings.rejectionsPending else {
                // A client that expects TLS could not read the answer.
                if encryption == nil { HTTP1Connection.reject(accepted.number, by: self) }
                return
            }
        }
        let peer = accepted.peer
        let transport = ConnectionTransport(accepted)
        let connection: any ListenerConnection =
            if let encryption {
                TLSHandshake(
                    transport, peer: peer, listener: self, encryption: encryption,
                    isAdmitted: isAdmitted)
            } else {
                makeConnection(.http1, over: transport, peer: peer, isAdmitted: isAdmitted)
            }
        connection.key = connections.insert(connection)
        metrics.connectionsOpen.add(1)
        if !isAdmitted { rejectionsPending += 1 }
        connection.start()
    }

    private func acceptFailed(_ error: Errno, listener: CInt) {
        switch error.code {
        case EMFILE, ENFILE:
            metrics.countRejection(.descriptors)
            // The connection is closed rather than left to wait for its client's timeout.
            spare = nil
            if let accepted = try? StreamSocket.accept(from: listener) { _ = accepted.number }
            openSpare()
        default: metrics.countRejection(.memory)
        }
        if loop.now >= nextWarning {
            nextWarning = loop.now + .seconds(10)
            log.warning(
                "cannot accept, resting", LogField("address", address), LogField("error", error),
                LogField("pause", settings.acceptPause))
        }
        guard let registration, let acceptTimer, !isAcceptPaused else { return }
        isAcceptPaused = true
        loop.update(registration, descriptor: listener, to: [])
        loop.schedule(acceptTimer, after: settings.acceptPause)
    }

    private func resumeAccepting() {
        guard isAcceptPaused, let registration, let number = socket?.number else { return }
        isAcceptPaused = false
        if spare == nil { openSpare() }
        loop.update(registration, descriptor: number, to: .readable)
    }

    private func openSpare() { spare = try? OwnedDescriptor.open("/dev/null", flags: O_RDONLY) }

    // MARK: - For connections

    /// Makes the connection that speaks `wireProtocol` over `transport`.
    func makeConnection(
        _ wireProtocol: WireProtocol, over transport: consuming ConnectionTransport,
        peer: SocketAddress, isAdmitted: Bool
    ) -> any ListenerConnection {
        switch wireProtocol {
        case .http1:
            HTTP1Connection(transport, peer: peer, listener: self, isAdmitted: isAdmitted)
        case .http2:
            HTTP2Connection(transport, peer: peer, listener: self, isAdmitted: isAdmitted)
        }
    }

    /// Gives the place of `former` to `next`, which goes on with the same transport under another
    /// protocol: the count of connections, the admission's slot and the key stay as they are.
    ///
    /// `former` has given up its registration and its transport.
    func replace(_ former: any ListenerConnection, with next: any ListenerConnection) {
        precondition(former.isAdmitted == next.isAdmitted, "a slot of the admission changes hands")
        next.key = former.key
        connections[former.key] = next
        next.start()
    }

    /// Forgets a connection whose descriptor is closed.
    func connectionClosed(_ connection: any ListenerConnection) {
        guard connections.remove(connection.key) != nil else { return }
        metrics.connectionsOpen.add(-1)
        if connection.isAdmitted {
            admission?.release()
        } else {
            rejectionsPending -= 1
        }
    }

    /// True where this turn has time for one more step of a handshake.
    func mayHandshake() -> Bool {
        if handshakes.turn != loop.now { handshakes = (loop.now, 0) }
        handshakes.count += 1
        return handshakes.count <= settings.handshakesPerTurn
    }

    /// Says once a loop what TLS is like here: whether the kernel does the work most of all.
    func noteAgreement(_ agreement: TLSSession.Agreement) {
        guard !hasSpokenTLS else { return }
        hasSpokenTLS = true
        log.info(
            "first TLS connection", LogField("version", agreement.version.rawValue),
            LogField("cipher", agreement.cipher), LogField("kernelSends", agreement.kernelSends),
            LogField("kernelReceives", agreement.kernelReceives))
    }

    /// Queues a connection's deadline; see ``DeadlineBuckets``.
    func step(after delay: Duration) -> UInt32 { deadlines.step(of: loop.now + delay) }

    func queue(_ connection: any ListenerConnection, step: UInt32) -> UInt32 {
        deadlines.append(connection.key.packed, step: step)
    }

    /// Lets a connection with more requests in hand go on when others have had their turn.
    func continueLater(_ connection: any ListenerConnection) {
        waitingForTurn.append(connection.key)
        guard waitingForTurn.count == 1 else { return }
        let bound = LoopBound(self, on: loop)
        loop.post { bound.value.continueWaiting() }
    }

    private func continueWaiting() {
        let keys = waitingForTurn
        waitingForTurn.removeAll(keepingCapacity: true)
        for key in keys { connections[key]?.continueReading() }
    }

    private func sweep() {
        while let keys = deadlines.takeNext(now: loop.now) {
            for key in keys {
                connections[.init(packed: key)]?.deadlineWasQueued(for: deadlines.currentStep)
            }
        }
        publishBytesSent()
        if let sweepTimer, socket != nil || connections.count > 0 {
            loop.schedule(sweepTimer, after: settings.sweepInterval)
        }
    }

    private func publishBytesSent() {
        metrics.bytesSent.add(bytesSent)
        bytesSent = 0
    }

    /// The head of a stream over HTTP/1.1. Made anew only where it differs from the last one: clients
    /// that come back all at once ask for the same.
    func streamHead(status: Int, headers: [(String, String)]) -> [UInt8] {
        if let last = lastStreamHead, last.status == status,
            last.headers.elementsEqual(headers, by: { $0 == $1 })
        {
            return last.bytes
        }
        let head = ResponseHead(
            status: status, headers: headers, persistence: .close, server: settings.serverHeader)
        lastStreamHead = (status, headers, head.bytes)
        return head.bytes
    }

    /// The `Date` of an answer sent now (RFC 9110, section 6.6.1); made once a second.
    var date: String {
        let second = WallClock.milliseconds / 1000
        if dateText.second != second { dateText = (second, HTTPDate.text(seconds: second)) }
        return dateText.text
    }
}
