// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Dependability
package import Observability
package import PosixIO
package import Reactor

/// One connection to a Redis server, which comes back by itself whenever it is lost.
///
/// View: shard. Threads: its loop's alone; not Sendable. Keep it until ``stop()``.
///
/// Commands are pipelined: all that are sent within a turn of the loop leave in one write at its
/// end, and their replies come in the order they were sent. The exception is a script call whose
/// script the server has forgotten (NOSCRIPT): it is sent once more as EVAL, after everything sent
/// meanwhile, so calls that must not overtake each other wait for each other's replies.
///
/// Every command has a deadline. When one passes, or the connection breaks or the server sends
/// what is not RESP2, the connection is dropped, because a late reply could no longer be told from
/// the reply to a later command; everything that waited fails, each exactly once, and
/// ``RedisError/mayHaveExecuted`` says whether the server may have acted on it. A command that
/// blocks in the server (XREAD BLOCK) holds up the replies behind it: give it a connection of its
/// own and a deadline of the block time plus a margin.
///
/// Connections to one server share a ``Dependency``: while its breaker is open only one of them
/// tries to connect, and the others follow, each at a moment of its own, once that one has.
package final class RedisConnection: ReadinessHandler, EndOfTurnWork {
    /// Receives a reply, which is valid only until it returns, or why there is none. An error
    /// reply is a failure. It runs on the loop, never inside `send`, and may call anything here.
    package typealias Completion = (Result<RedisReplyView, RedisError>) -> Void

    package enum State: Sendable, Equatable {
        case stopped
        /// Resolving, connecting, or introducing itself to the server.
        case connecting
        case ready
        /// Between attempts.
        case waiting(until: MonotonicTime)
    }

    package private(set) var state: State = .stopped
    /// Called after each change of ``state``.
    package var onStateChange: ((State) -> Void)?

    private let loop: EventLoop
    private let settings: RedisSettings
    private let purpose: String
    private let log: Logger
    private let metrics: RedisMetrics?
    private let dependency: Dependency?
    private var random: any RandomNumberGenerator
    private var scripts: ScriptBook
    private var backoff: ReconnectBackoff

    /// Counts attempts and ends of connections, so that work begun for one does not go on with
    /// the next.
    private var generation = 0
    private var peer = ""
    private var transport: SocketTransport?
    private var watch: SocketWatch?

    private var pending = PendingCommands()
    private var outgoing = OutgoingBytes()
    private var decoder: ReplyDecoder?
    private var incoming: [UInt8]
    private var isFlushPlanned = false
    private var lastReceived = MonotonicTime(nanoseconds: 0)
    /// When the deadline timer is due: no later than the earliest deadline.
    private var nextDeadline: MonotonicTime?
    private var rejected: [(Completion, RedisError)] = []
    /// Why the last attempt to connect failed; empty where it has succeeded.
    package private(set) var lastFailure = ""

    private lazy var dialer = Dialer(
        loop: loop, address: settings.address, tls: settings.usesTLS ? settings.tls : nil,
        connected: { [weak self] in self?.connected($0, to: $1) },
        failed: { [weak self] in self?.drop($0) })
    private lazy var attemptTimer = LoopTimer { [weak self] in self?.attemptTimedOut() }
    private lazy var reconnectTimer = LoopTimer { [weak self] in self?.beginAttempt() }
    private lazy var deadlineTimer = LoopTimer { [weak self] in self?.deadlineIsDue() }
    private lazy var idleTimer = LoopTimer { [weak self] in self?.pingIfIdle() }

    /// When an answer was last found to be slow, so that a slow server costs no more.
    private var nextSlowNotice = MonotonicTime(nanoseconds: 0)

    private static let readBytes = 64 << 10
    /// Reads per call of the loop, so that one busy connection leaves room for its neighbours.
    private static let readsPerTurn = 16

    /// - Parameters:
    ///   - purpose: What the connection is for, in log lines: `append`, `tail`.
    ///   - scripts: Loaded at each connect. A script that is not among them is loaded when it is
    ///     first called.
    ///   - dependency: What the connections to this server know of it together; without one this
    ///     connection keeps to itself.
    package init(
        loop: EventLoop, settings: RedisSettings, purpose: String, scripts: [RedisScript] = [],
        log: Logger, metrics: RedisMetrics? = nil, dependency: Dependency? = nil,
        random: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.loop = loop
        self.settings = settings
        self.purpose = purpose
        self.log = log
        self.metrics = metrics
        self.dependency = dependency
        self.random = random
        self.scripts = ScriptBook(scripts)
        backoff = ReconnectBackoff(
            shortest: settings.reconnectDelayMin, longest: settings.reconnectDelayMax)
        incoming = Array(repeating: 0, count: Self.readBytes)
    }

    // MARK: - For the owner

    /// Begins to connect. Does nothing where it has begun already.
    package func start() {
        loop.requireCurrent()
        guard state == .stopped else { return }
        backoff.reset()
        beginAttempt()
    }

    /// Ends the connection and fails what waits with ``RedisError/Code/closed``, before it returns.
    package func stop() {
        loop.requireCurrent()
        guard state != .stopped else { return }
        let failures = tearDown(.closed, "the connection was closed by its owner")
        change(to: .stopped, failing: failures)
    }

    /// Commands that wait for replies.
    package var pendingCount: Int { pending.count }

    /// Sends `command` at the end of the turn.
    ///
    /// Fails with ``RedisError/Code/notConnected`` where the connection is not ``State/ready``, and
    /// with ``RedisError/Code/pipelineFull`` where too much waits, on the next turn.
    ///
    /// - Parameter deadline: How long the reply may take, from now; `commandTimeout` by default.
    package func send(
        _ command: RedisCommand, deadline: Duration? = nil, _ completion: @escaping Completion
    ) {
        loop.requireCurrent()
        metrics?.commands.add()
        guard state == .ready else {
            return reject(completion, .notConnected, "not connected to \(settings.address)")
        }
        guard command.byteCount <= settings.pipelineBytesMax else {
            let limit =
                "\(command.byteCount) bytes, above the limit of \(settings.pipelineBytesMax)"
            return reject(completion, .commandTooLarge, "the command has \(limit)")
        }
        guard pending.count < settings.pipelineDepthMax,
            pending.byteCount + command.byteCount <= settings.pipelineBytesMax
        else {
            let waiting = "\(pending.count) commands of \(pending.byteCount) bytes"
            return reject(completion, .pipelineFull, "\(waiting) wait for replies")
        }
        var evalsha: [UInt8]?
        if let script = command.script {
            evalsha = scripts.evalshaPart(of: script)
            if !scripts.contains(script) {
                scripts.add(script)
                enqueue(Self.load(script), .load(script), for: settings.commandTimeout)
            }
        }
        enqueue(
            command, .caller(completion), for: deadline ?? settings.commandTimeout,
            evalsha: evalsha, mayBlock: deadline != nil)
    }

    // MARK: - Connecting

    private func beginAttempt() {
        if let wait = dependency?.admission() {
            // Another one finds out whether the server is back.
            loop.schedule(reconnectTimer, after: wait)
            state = .waiting(until: .now + wait)
            return
        }
        generation += 1
        let generation = self.generation
        loop.schedule(attemptTimer, after: settings.connectTimeout)
        change(to: .connecting, failing: [])
        guard generation == self.generation else { return }
        guard !settings.usesTLS || settings.tls != nil else {
            return drop(RedisError(.settingInvalid, "TLS is asked for and nobody is trusted"))
        }
        dialer.dial()
    }

    private func connected(_ socket: consuming SocketTransport, to peer: String) {
        self.peer = peer
        do throws(Errno) {
            watch = try socket.watch(on: loop, for: .readable, handler: self)
        } catch { return drop(RedisError(.connectFailed, "\(peer): \(error)")) }
        transport = consume socket
        outgoing = OutgoingBytes()
        decoder = ReplyDecoder(
            bytesMax: settings.replyBytesMax, elementsMax: settings.replyElementsMax)
        scripts.forgetHashes()
        lastReceived = .now
        sendHandshake()
    }

    private func sendHandshake() {
        // The attempt as a whole has a deadline, so its steps need none.
        func ask(_ command: RedisCommand, _ step: HandshakeStep) {
            enqueue(
                command, .handshake(step), queuedAt: .now,
                deadline: MonotonicTime(nanoseconds: .max), evalsha: nil)
        }
        if let password = settings.password {
            let command = RedisCommand("AUTH")
            if let username = settings.username {
                ask(command.add(username).add(password), .authenticate)
            } else {
                ask(command.add(password), .authenticate)
            }
        }
        if settings.database != 0 {
            ask(RedisCommand("SELECT").add(settings.database), .selectDatabase)
        }
        if let name = settings.clientName {
            ask(RedisCommand("CLIENT").add("SETNAME").add(name), .setName)
        }
        for script in scripts.scripts { ask(Self.load(script), .load(script)) }
        ask(RedisCommand("PING"), .ping)
    }

    private func handshakeAnswered(
        _ step: HandshakeStep, _ reply: Result<RedisReplyView, RedisError>
    ) {
        var refusal: RedisError?
        if case .failure(let error) = reply { refusal = error }
        if let error = refusal {
            switch (step, error.code) {
            case (.authenticate, _), (.selectDatabase, _), (_, .loading), (_, .masterDown),
                (_, .noAuthentication):
                return drop(error)
            default:
                // An access list may forbid CLIENT, SCRIPT or PING; none of them is needed.
                log.debug("Redis refused a step of the handshake", LogField("reason", error.detail))
            }
        }
        switch step {
        case .load(let script): learn(script, reply)
        case .ping: becomeReady()
        case .authenticate, .selectDatabase, .setName: break
        }
    }

    private func becomeReady() {
        loop.cancel(attemptTimer)
        loop.schedule(idleTimer, after: settings.idlePingInterval)
        lastFailure = ""
        dependency?.succeeded()
        metrics?.connects.add()
        metrics?.ready.add(1)
        log.info("connected to Redis", LogField("purpose", purpose), LogField("address", peer))
        change(to: .ready, failing: [])
    }

    private func attemptTimedOut() {
        let limit = "\(settings.connectTimeout.wholeMilliseconds) ms"
        // One that takes connections and says nothing is told from one that is not there.
        drop(
            RedisError(
                transport == nil ? .connectFailed : .timedOut,
                "\(settings.address): not ready within \(limit)"))
    }

    // MARK: - Sending

    private func enqueue(
        _ command: RedisCommand, _ purpose: PendingCommand.Purpose, for limit: Duration,
        evalsha: [UInt8]? = nil, mayBlock: Bool = false
    ) {
        let now = MonotonicTime.now
        enqueue(
            command, purpose, queuedAt: now, deadline: now + limit, evalsha: evalsha,
            mayBlock: mayBlock)
    }

    private func enqueue(
        _ command: RedisCommand, _ purpose: PendingCommand.Purpose, queuedAt: MonotonicTime,
        deadline: MonotonicTime, evalsha: [UInt8]?, mayBlock: Bool = false
    ) {
        let start = outgoing.endOffset
        let scriptPart = command.script.map { evalsha ?? $0.evalPart }
        outgoing.append(command, scriptPart: scriptPart)
        let end = outgoing.endOffset
        pending.append(
            PendingCommand(
                purpose: purpose, queuedAt: queuedAt, deadline: deadline, endOffset: end,
                byteCount: Int(end - start), retryAsEval: evalsha == nil ? nil : command,
                isScriptCall: command.script != nil, mayBlock: mayBlock))
        if deadline < nextDeadline ?? .init(nanoseconds: .max) {
            nextDeadline = deadline
            loop.schedule(deadlineTimer, after: deadline - .now)
        }
        if !isFlushPlanned {
            isFlushPlanned = true
            loop.atEndOfTurn(self)
        }
    }

    package func runAtEndOfTurn() {
        isFlushPlanned = false
        flush()
    }

    private func flush() {
        guard transport != nil else { return }
        let before = outgoing.writtenTotal
        let outcome = outgoing.write(to: transport!)
        metrics?.bytesSent.add(outgoing.writtenTotal - before)
        switch outcome {
        case .transferred, .endOfFile: watch?.change(to: .readable)
        case .wouldBlock: watch?.change(to: [.readable, .writable])
        case .failed(let error):
            // The server may have said why before it closed.
            let generation = self.generation
            receive()
            guard generation == self.generation else { return }
            drop(RedisError(.connectionLost, "writing to \(peer): \(error)"))
        }
    }

    private func reject(
        _ completion: @escaping Completion, _ code: RedisError.Code, _ detail: String
    ) {
        metrics?.countError(code)
        rejected.append((completion, RedisError(code, detail)))
        guard rejected.count == 1 else { return }
        let connection = LoopBound(self, on: loop)
        loop.post { connection.value.deliverRejections() }
    }

    private func deliverRejections() {
        var due: [(Completion, RedisError)] = []
        swap(&due, &rejected)
        for (completion, error) in due { completion(.failure(error)) }
    }

    // MARK: - Receiving

    package func descriptorIsReady(_ readiness: Readiness) {
        let generation = self.generation
        if readiness.contains(.writable) { flush() }
        guard generation == self.generation, readiness != .writable else { return }
        receive()
    }

    private func receive() {
        guard let decoder else { return }
        let generation = self.generation
        for _ in 0..<Self.readsPerTurn {
            switch transport!.read(into: &incoming) {
            case .wouldBlock: return
            case .endOfFile:
                return drop(RedisError(.connectionLost, "\(peer) closed the connection"))
            case .failed(let error):
                return drop(RedisError(.connectionLost, "reading from \(peer): \(error)"))
            case .transferred(let count):
                lastReceived = .now
                metrics?.bytesReceived.add(count)
                do throws(RedisError) {
                    try decoder.feed(incoming.span.extracting(0..<count))
                    while let reply = try decoder.next() {
                        handle(reply)
                        guard generation == self.generation else { return }
                        decoder.recycle(reply)
                    }
                } catch { return drop(error) }
                if count < incoming.count { return }
            }
        }
    }

    private func handle(_ reply: DecodedReply) {
        guard let command = pending.popFirst() else {
            return drop(RedisError(.protocolViolated, "\(peer) sent a reply that nobody asked for"))
        }
        guard reply.view.kind == .error else {
            return finish(command, .success(reply.view))
        }
        let error = RedisError(
            serverReply: reply.view.text ?? "", isFromScript: command.isScriptCall)
        if error.code == .noScript, let call = command.retryAsEval {
            enqueue(
                call, command.purpose, queuedAt: command.queuedAt, deadline: command.deadline,
                evalsha: nil)
            return
        }
        metrics?.countError(error.code)
        if error.code.isRefusal, command.isCallers { dependency?.refused(Trouble(error)) }
        let generation = self.generation
        finish(command, .failure(error))
        // A replica took the place of the primary: its name may lead elsewhere by this time.
        if generation == self.generation, error.code == .readOnly || error.code == .masterDown {
            drop(error)
        }
    }

    private func finish(_ command: PendingCommand, _ reply: Result<RedisReplyView, RedisError>) {
        switch command.purpose {
        case .caller(let completion):
            if case .success = reply {
                backoff.reset()
                dependency?.succeeded()
            }
            let latency = lastReceived - command.queuedAt
            metrics?.latency.record(latency)
            if latency > Trouble.slowAfter, !command.mayBlock { noteSlow(latency) }
            completion(reply)
        case .handshake(let step): handshakeAnswered(step, reply)
        case .load(let script): learn(script, reply)
        case .ping: backoff.reset()
        }
    }

    private func noteSlow(_ latency: Duration) {
        guard lastReceived >= nextSlowNotice else { return }
        nextSlowNotice = lastReceived + .milliseconds(250)
        dependency?.refused(.slow(latency))
    }

    private func learn(_ script: RedisScript, _ reply: Result<RedisReplyView, RedisError>) {
        guard case .success(let view) = reply else { return }
        scripts.learn(script, sha1: view.text)
    }

    private static func load(_ script: RedisScript) -> RedisCommand {
        RedisCommand("SCRIPT", reserving: script.body.utf8.count + 64).add("LOAD").add(script.body)
    }

    // MARK: - Watching over it

    private func deadlineIsDue() {
        // After a pause of this process the replies may lie in the socket, unread.
        let generation = self.generation
        receive()
        guard generation == self.generation else { return }
        nextDeadline = pending.earliestDeadline
        guard let deadline = nextDeadline else { return }
        let left = deadline - .now
        guard left <= .zero else { return loop.schedule(deadlineTimer, after: left) }
        drop(RedisError(.timedOut, "\(peer) did not reply in time"))
    }

    private func pingIfIdle() {
        guard state == .ready else { return }
        if pending.isEmpty, .now - lastReceived >= settings.idlePingInterval {
            enqueue(RedisCommand("PING"), .ping, for: settings.commandTimeout)
        }
        loop.schedule(idleTimer, after: settings.idlePingInterval)
    }

    // MARK: - Ending

    /// Ends the connection or the attempt, fails what waits and plans the next attempt.
    private func drop(_ reason: RedisError) {
        report(reason)
        let failures = tearDown(.connectionLost, reason.detail)
        dependency?.failed(Trouble(reason))
        let delay = dependency?.pause ?? backoff.next(using: &random)
        loop.schedule(reconnectTimer, after: delay)
        change(to: .waiting(until: .now + delay), failing: failures)
    }

    /// One line for a loss and for each new reason why the connection does not come back; not one
    /// for each attempt.
    private func report(_ reason: RedisError) {
        metrics?.losses.add()
        switch reason.code {
        case .resolveFailed, .connectFailed, .tlsFailed, .protocolViolated:
            metrics?.countError(reason.code)
        default: break  // Counted with the commands that failed.
        }
        guard reason.description != lastFailure else { return }
        lastFailure = reason.description
        log.warning(
            state == .ready ? "lost the connection to Redis" : "cannot connect to Redis",
            LogField("purpose", purpose), LogField("address", settings.address),
            LogField("reason", reason.description))
    }

    /// Gives back everything of this connection; returns what its owner has to be told.
    private func tearDown(_ code: RedisError.Code, _ detail: String) -> [(Completion, RedisError)] {
        generation += 1
        if state == .ready { metrics?.ready.add(-1) }
        dialer.cancel()
        watch?.end()
        watch = nil
        transport = nil
        decoder = nil
        nextDeadline = nil
        for timer in [attemptTimer, reconnectTimer, deadlineTimer, idleTimer] { loop.cancel(timer) }
        let now = MonotonicTime.now
        var failures: [(Completion, RedisError)] = []
        while let command = pending.popFirst() {
            guard case .caller(let completion) = command.purpose else { continue }
            let isExpired = code == .connectionLost && command.deadline <= now
            let error = RedisError(
                isExpired ? .timedOut : code, detail,
                // The server acts on nothing that it has not read to the end.
                mayHaveExecuted: command.endOffset <= outgoing.writtenTotal)
            metrics?.countError(error.code)
            failures.append((completion, error))
        }
        return failures
    }

    /// The state is changed first, so that what a completion sends fails instead of being lost.
    private func change(to newState: State, failing failures: [(Completion, RedisError)]) {
        let generation = self.generation
        state = newState
        for (completion, error) in failures { completion(.failure(error)) }
        if generation == self.generation { onStateChange?(newState) }
    }
}
