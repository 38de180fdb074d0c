// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import HTTP1Wire
import HTTP2Wire
import Observability
import PosixIO
import Reactor

/// One connection that speaks HTTP/2, with all its streams.
///
/// View: connection. Threads: its loop's. What the streams write in one turn becomes frames in one
/// output, which leaves at the end of the turn, or before that where it is full.
///
/// The streams share the connection's window and its socket fairly: one that found no room waits
/// in line, and while any waits, nobody gets ahead of it nor more than a frame's worth in its turn.
final class HTTP2Connection: ListenerConnection, ReadinessHandler, EndOfTurnWork {
    enum Phase {
        /// Until the client's SETTINGS have come.
        case handshake
        case serving
        /// Nothing more is read or answered; the output is sent and the connection ends.
        case closing
        /// Our side is closed; what still comes is discarded so that no reset overtakes our end.
        case lingering
        case closed
    }

    let listener: HTTPListener
    let peer: SocketAddress
    let isAdmitted: Bool
    var key = Slab<any ListenerConnection>.Key(index: .max, generation: 0)
    let session: HTTP2Session
    private(set) var phase = Phase.handshake
    var streams: [Int32: HTTP2Stream] = [:]
    /// Requests that are whole and have not been handled.
    var requests: [WaitingRequest] = []
    /// Streams that wait for room, the first of them for longest.
    var waiting: [HTTP2Stream] = []
    /// Streams whose observers are told at the end of the turn that they have ended.
    var ended: [HTTP2Stream] = []
    /// The stream whose turn it is to write, and how much of its turn is left.
    var turn: (stream: HTTP2Stream, bytesLeft: Int)?
    var awaitsTurn = false

    private var transport: ConnectionTransport
    private var registration: Registration?
    private var interest: Interest = .readable
    private var deadline = ConnectionDeadline()
    /// What the deadline is set for while serving.
    private var deadlineFor = DeadlineReason.other
    /// The socket has taken less than it was offered and has not said that it takes more.
    private var isBlocked = false
    private var workIsQueued = false
    private var discardedBytes = 0
    /// Bytes that the listener counts for this connection.
    private var heldBytes = 0
    /// The socket failed inside a call of an observer, whose streams hear of it after the turn.
    private var socketError: Errno?

    private enum DeadlineReason: Equatable {
        case other
        case idle
        case overdue(MonotonicTime)
    }

    struct WaitingRequest {
        let stream: HTTP2Stream
        let head: HTTP1RequestHead
        let body: [UInt8]
    }

    init(
        _ transport: consuming ConnectionTransport, peer: SocketAddress, listener: HTTPListener,
        isAdmitted: Bool
    ) {
        session = HTTP2Session(listener.http2Settings, now: listener.loop.now)
        self.listener = listener
        self.peer = peer
        self.isAdmitted = isAdmitted
        self.transport = transport
    }

    func start() {
        listener.metrics.http2.connections.add()
        listener.metrics.http2.connectionsOpen.add(1)
        do {
            registration = try listener.loop.register(
                transport.number, for: .readable, handler: self)
        } catch {
            listener.metrics.countRejection(.memory)
            return close()
        }
        deadline.set(after: listener.settings.headerTimeout, of: self, listener)
        workAtEndOfTurn()
    }

    // MARK: - Readiness

    func descriptorIsReady(_ readiness: Readiness) {
        if readiness.contains(.failed) {
            return end(StreamSocket.pendingError(of: transport.number).map { .failed($0) })
        }
        if readiness.contains(.writable) {
            isBlocked = false
            session.advance(to: listener.loop.now)
            sendOutput()
            serveWaiting()
        }
        if phase != .closed, readiness.hasInput { read() }
        workAtEndOfTurn()
    }

    private func read() {
        let scratch = listener.scratch
        switch transport.read(into: scratch) {
        case .transferred(let count):
            guard phase == .handshake || phase == .serving else {
                discardedBytes += count
                if discardedBytes > listener.settings.lingerBytes { close() }
                return
            }
            receive(scratch.bytes(count))
        case .wouldBlock: break
        case .endOfFile: end(nil)
        case .failed(let error): end(.failed(error))
        }
    }

    /// Takes bytes of the peer, the preface included.
    func receive(_ bytes: borrowing Span<UInt8>) {
        do throws(HTTP2Error) {
            try session.receive(bytes, now: listener.loop.now)
        } catch { return fail(error) }
        takeEvents()
        serveRequests()
        countHeldBytes()
        serveWaiting()
        workAtEndOfTurn()
    }

    func clientSettingsArrived() {
        if phase == .handshake { phase = .serving }
    }

    func continueReading() {
        awaitsTurn = false
        guard phase == .serving else { return }
        serveRequests()
        countHeldBytes()
        workAtEndOfTurn()
    }

    // MARK: - Sending

    var unsentBytes: Int { phase == .closed ? 0 : transport.unsentBytes + session.outputBytes }

    /// Sends what is in the output and what follows into it.
    private func sendOutput() {
        guard phase != .closed, phase != .lingering else { return }
        var wasFull = true
        while wasFull {
            session.pump()
            wasFull = session.outputIsFull
            guard send() else { return }
        }
    }

    /// Sends what is in the output, once.
    ///
    /// - Returns: True where the socket took all of it.
    func send() -> Bool {
        guard !isBlocked, socketError == nil, phase != .closed else { return false }
        if transport.holdsUnsent, case .failed(let error) = transport.flush() {
            socketError = error
        }
        if session.outputBytes > 0, !transport.holdsUnsent {
            listener.metrics.http2.sends.add()
            switch unsafe session.withOutput({ unsafe transport.write($0) }) {
            case .transferred(let count):
                session.outputWasSent(count)
                listener.bytesSent += count
            case .wouldBlock, .endOfFile: break
            case .failed(let error): socketError = error
            }
        }
        isBlocked = session.outputBytes > 0 || transport.holdsUnsent
        return !isBlocked
    }

    /// Asks for the end of the turn: what was put into the session leaves then.
    func workAtEndOfTurn() {
        guard !workIsQueued else { return }
        workIsQueued = true
        listener.loop.atEndOfTurn(self)
    }

    func runAtEndOfTurn() {
        workIsQueued = false
        session.advance(to: listener.loop.now)
        sendOutput()
        takeEvents()
        tellEnded()
        if let failure = session.sendingFailure { fail(failure) }
        if phase != .closed, session.isOver { beginClose() }
        if phase == .closing { sendOutput() }
        if let socketError { end(.failed(socketError)) }
        guard phase != .closed, phase != .lingering else { return }
        if phase == .closing, !isBlocked { return finishClose() }
        if !requests.isEmpty { continueServing() }
        updateInterest()
        updateDeadline()
    }

    private func updateInterest() {
        guard let registration else { return }
        var wanted: Interest = []
        // A peer that does not read what it asked for is not heard either, once that is much.
        if !(isBlocked && session.outputIsFull) { wanted.insert(.readable) }
        let hasTurns = !waiting.isEmpty && session.connectionWindow > 0
        if isBlocked || hasTurns { wanted.insert(.writable) }
        guard wanted != interest else { return }
        interest = wanted
        listener.loop.update(registration, descriptor: transport.number, to: wanted)
    }

    // MARK: - Deadlines

    private func updateDeadline() {
        guard phase == .serving else { return }
        if let earliest = session.earliestDeadline {
            guard deadlineFor != .overdue(earliest) else { return }
            deadlineFor = .overdue(earliest)
            let left = earliest > listener.loop.now ? earliest - listener.loop.now : .zero
            deadline.set(after: left, of: self, listener)
        } else if streams.isEmpty {
            guard deadlineFor != .idle else { return }
            deadlineFor = .idle
            deadline.set(after: listener.settings.idleTimeout, of: self, listener)
        } else if deadlineFor != .other {
            deadlineFor = .other
            deadline.clear()
        }
    }

    func deadlineWasQueued(for step: UInt32) {
        guard deadline.wasQueued(for: step, of: self, listener) else { return }
        let reason = deadlineFor
        deadlineFor = .other
        switch phase {
        case .handshake:
            listener.metrics.idleCloses.add()
            session.terminate(.noError)
            beginClose()
        case .serving where reason == .idle:
            listener.metrics.idleCloses.add()
            session.goAway()
        case .serving: resolveOverdue()
        case .closing:
            listener.metrics.idleCloses.add()
            transport.resetOnClose()
            end(nil)
        case .lingering: close()
        case .closed: break
        }
        workAtEndOfTurn()
    }

    private func resolveOverdue() {
        for (stream, what) in session.takeOverdue(now: listener.loop.now) {
            switch what {
            case .head:
                listener.metrics.countBadRequest(.headerTimeout)
                session.terminate(.enhanceYourCalm)
                return beginClose()
            case .body:
                listener.metrics.countBadRequest(.bodyTimeout)
                refuse(stream, bodyTimeoutProblem)
            case .answer:
                listener.metrics.idleCloses.add()
                guard !isBlocked else {
                    // The socket is stuck, and all streams with it.
                    transport.resetOnClose()
                    return end(nil)
                }
                session.reset(stream: stream, .cancel)
            }
        }
    }

    // MARK: - Held bytes

    /// Counts what is held of requests, and gives some up where the listener holds too much.
    private func countHeldBytes() {
        let held = requests.reduce(session.heldRequestBytes) { $0 + $1.body.count }
        listener.heldBytes.add(held - heldBytes)
        heldBytes = held
        guard listener.heldBytes.count > listener.settings.heldBytes else { return }
        for stream in session.takeUnfinished() {
            listener.metrics.countBadRequest(.tooMuchHeld)
            refuse(
                stream,
                ProblemDetails(status: 503, detail: "too many requests are arriving at once"),
                listener.retryHeaders)
        }
        let left = requests.reduce(session.heldRequestBytes) { $0 + $1.body.count }
        listener.heldBytes.add(left - heldBytes)
        heldBytes = left
    }

    // MARK: - Ending

    /// The listener wants no new requests soon; those on their way are still answered.
    func drainBegins() {
        guard phase == .handshake || phase == .serving else { return }
        session.beginDrain()
        workAtEndOfTurn()
    }

    /// Takes no new stream. The connection ends with the last one that is open.
    func closeIfIdle() {
        guard phase == .handshake || phase == .serving else { return }
        session.goAway()
        workAtEndOfTurn()
    }

    func stop() {
        session.terminate(.noError)
        _ = send()
        end(.listenerStopped)
        tellEnded()
    }

    /// The peer did what ends the connection.
    private func fail(_ error: HTTP2Error) {
        guard phase != .closing, phase != .closed else { return }
        listener.metrics.http2.countError(error.code)
        session.terminate(error.code.reset)
        endStreams(.failed(Errno(EPROTO)))
        beginClose()
        workAtEndOfTurn()
    }

    private func beginClose() {
        guard phase == .handshake || phase == .serving else { return }
        phase = .closing
        endStreams(.peerClosed)
        deadline.set(after: listener.settings.idleTimeout, of: self, listener)
    }

    /// The output is out: closes this side and waits for the peer to have seen it.
    private func finishClose() {
        guard transport.closeWriting() else {
            isBlocked = true
            return updateInterest()
        }
        phase = .lingering
        releaseHeldBytes()
        deadline.set(after: listener.settings.lingerTimeout, of: self, listener)
        updateInterest()
    }

    /// Ends the connection and every stream of it now; with `nil` because the peer has closed it.
    private func end(_ reason: StreamEnd?) {
        guard phase != .closed else { return }
        close()
        endStreams(reason ?? .peerClosed)
    }

    private func releaseHeldBytes() {
        requests = []
        waiting = []
        listener.heldBytes.add(-heldBytes)
        heldBytes = 0
    }

    private func close() {
        guard phase != .closed else { return }
        phase = .closed
        deadline.clear()
        releaseHeldBytes()
        if let registration { listener.loop.deregister(registration, descriptor: transport.number) }
        registration = nil
        transport.close()
        listener.metrics.http2.connectionsOpen.add(-1)
        listener.connectionClosed(self)
    }
}
