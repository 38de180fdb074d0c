// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Observability
import PosixIO
package import Reactor
package import WebSocketWire

/// One WebSocket: what its client asks, the subscriptions it has, and its end.
///
/// View: connection. Threads: its loop's. It does no input or output of its own: whoever has the
/// socket brings bytes and news of it, calls ``sweep()`` now and then, and drops the session once
/// ``socketEnded()`` was told. `docs/reference/websocket.md` has the messages.
package final class WebSocketSession {
    /// What the sessions of a loop share.
    package struct Surroundings {
        package let loop: EventLoop
        package let hub: Hub
        package let directory: ChannelDirectory
        package let reader: ClientMessageReader
        package let metrics: WebSocketMetrics
        /// A silent socket gets a ping this often.
        package let heartbeat: Duration
        /// A socket that takes no byte for this long while some wait is ended.
        package let stuckAfter: Duration

        package init(
            loop: EventLoop, hub: Hub, directory: ChannelDirectory, reader: ClientMessageReader,
            metrics: WebSocketMetrics, heartbeat: Duration, stuckAfter: Duration
        ) {
            self.loop = loop
            self.hub = hub
            self.directory = directory
            self.reader = reader
            self.metrics = metrics
            self.heartbeat = heartbeat
            self.stuckAfter = stuckAfter
        }
    }

    private enum Phase {
        case open
        /// The close frame waits for the socket, behind what was begun.
        case closing
        case ended
    }

    private let around: Surroundings
    private let output: WebSocketOutput
    private let form: StreamForm
    /// What the events of all its subscriptions are counted against.
    private let gates: [MeteredGate]
    private var reader: WebSocketReader
    private var messages: [WebSocketMessage] = []
    private var subscriptions: [WebSocketSubscription] = []
    private var nextName: UInt64 = 1
    private var phase = Phase.open
    /// Messages that the client may send at once; refilled with time.
    private var allowance = Double(WebSocketLimits.burst)
    private var allowanceSince: MonotonicTime

    // For the sweep.
    private var seenBytes: UInt64 = 0
    private var lastTaken: MonotonicTime
    private var emptySince: MonotonicTime
    private var closingSince: MonotonicTime
    private var unansweredPings = 0

    /// A socket on which the handshake is done, and nothing else has been sent.
    ///
    /// - Parameter deflate: What the handshake agreed on for compressed messages. Events use it;
    ///   the session's own messages are too small to gain from it.
    package init(
        _ socket: any EventSink, _ around: Surroundings, deflate: PerMessageDeflate? = nil,
        through gates: [MeteredGate] = []
    ) {
        self.around = around
        self.gates = gates
        form = .webSocket(deflate?.window)
        reader = WebSocketReader(
            from: .client, messageBytesMax: WebSocketLimits.messageBytes,
            inflates: deflate != nil)
        output = WebSocketOutput(socket, hub: around.hub)
        let now = around.loop.now
        allowanceSince = now
        lastTaken = now
        emptySince = now
        closingSince = now
        around.metrics.open.add(1)
        if deflate != nil { around.metrics.deflating.add() }
        output.whenHubFinishes = { [weak self] in self?.hubHasFinished() }
        output.whenHubCompletes = { [weak self] in self?.remove($0) }
        say(retryMessage())
    }

    package var subscriptionCount: Int { subscriptions.count }

    // MARK: - From the socket

    /// The client has sent `bytes`.
    package func receive(_ bytes: borrowing Span<UInt8>) {
        guard phase == .open else { return }
        unansweredPings = 0
        var failure: WebSocketError?
        do throws(WebSocketError) {
            try reader.read(bytes, to: &messages)
        } catch { failure = error }
        let received = messages
        messages = []
        for message in received {
            guard phase == .open else { return }
            guard spendAllowance() else {
                return close(
                    .policyViolation,
                    "more than \(WebSocketLimits.messagesPerSecond) messages a second")
            }
            handle(message)
        }
        if let failure { close(failure.closeCode, failure.detail) }
    }

    /// The socket was full and takes bytes again.
    package func socketIsWritable() {
        output.socketIsWritable()
        finishIfFlushed()
    }

    /// The socket is gone.
    package func socketEnded() {
        guard phase != .ended else { return }
        phase = .ended
        output.end()
        for subscription in subscriptions { output.remove(subscription) }
        subscriptions = []
        output.whenHubFinishes = nil
        output.whenHubCompletes = nil
        around.metrics.open.add(-1)
    }

    /// True until either side has begun to close.
    package var isOpen: Bool { phase == .open }

    /// Sends the client away: the node is about to stop, or another has room.
    ///
    /// - Parameter milliseconds: After how long it is to come back; `nil` spreads clients out as a
    ///   lost node does.
    package func drain(after milliseconds: Int? = nil) {
        guard phase == .open else { return }
        say(retryMessage(milliseconds))
        close(.serviceRestart, "come back and resume; this node stops or another has room")
    }

    /// The hub ends a subscription: all of them, or one whose client reads too slowly.
    private func hubHasFinished() {
        guard !around.hub.isDraining else { return drain() }
        close(.tryAgainLater, "this client reads too slowly; come back and resume")
    }

    /// Looks after the socket; to be called several times within a heartbeat.
    package func sweep() {
        let now = around.loop.now
        if output.bytesTaken != seenBytes {
            seenBytes = output.bytesTaken
            lastTaken = now
        }
        switch phase {
        case .ended: return
        case .closing:
            if now - closingSince > WebSocketLimits.closeTimeout { lose() }
        case .open:
            if output.isBlocked {
                if now - lastTaken > around.stuckAfter { lose() }
            } else if now - lastTaken >= around.heartbeat {
                ping(now)
            }
            if phase == .open, subscriptions.isEmpty,
                now - emptySince > WebSocketLimits.idleTimeout
            {
                close(.policyViolation, "no subscription")
            }
        }
    }

    // MARK: - Messages

    private func handle(_ message: WebSocketMessage) {
        switch message {
        case .text(let text): handle(text)
        case .binary: close(.unsupportedData, "messages are JSON texts")
        case .ping(let payload):
            var frame = ByteWriter(reserving: payload.count + 2)
            WebSocketFrame.append(.pong, payload.span, to: &frame)
            say(frame.bytes)
        case .pong: break
        case .close(let code, _): close(code ?? .normal, "")
        }
    }

    private func handle(_ text: [UInt8]) {
        around.metrics.messages.add()
        do throws(ClientMessageError) {
            switch try around.reader.read(text) {
            case .subscribe(let name, let request, let start):
                try subscribe(name: name, request, from: start)
            case .unsubscribe(let name): try unsubscribe(name)
            case .resume(let name, let start): try resume(name, from: start)
            case .ping:
                say {
                    $0.field("type", "pong")
                    $0.field("time_ms", WallClock.milliseconds)
                }
            }
        } catch { tell(error) }
    }

    private func tell(_ error: ClientMessageError) {
        around.metrics.errors.add()
        say { text in
            text.field("type", "error")
            text.field("code", error.code.rawValue)
            text.field("detail", PeerText.display(error.detail, limit: 1024))
            if let name = error.subscription {
                text.field(
                    "subscription",
                    PeerText.display(name, limit: WebSocketLimits.subscriptionNameBytes))
            }
            if let parameter = error.parameter {
                text.field("parameter", PeerText.display(parameter))
            }
            if let given = error.given { text.field("given", PeerText.display(given)) }
            if !error.accepted.isEmpty {
                text.array("accepted", error.accepted.prefix(32).map { PeerText.display($0) })
            }
        }
    }

    /// A token a message, as many as fit the burst.
    private func spendAllowance() -> Bool {
        let now = around.loop.now
        let earned = (now - allowanceSince).inSeconds * Double(WebSocketLimits.messagesPerSecond)
        allowance = min(Double(WebSocketLimits.burst), allowance + earned)
        allowanceSince = now
        guard allowance >= 1 else { return false }
        allowance -= 1
        return true
    }

    // MARK: - Subscriptions

    /// Subscribes as the request for the socket asked, before any message.
    package func subscribe(_ subscription: Subscription, channel: String?, over span: StreamSpan) {
        begin(subscription, name: unusedName(), channel: channel, over: span)
    }

    private func subscribe(name: String?, _ request: ChannelRequest, from start: SpanRequest)
        throws(ClientMessageError)
    {
        func refusal(_ error: ClientMessageError) -> ClientMessageError {
            var error = error
            error.subscription = name
            return error
        }
        guard subscriptions.count < WebSocketLimits.subscriptions else {
            throw refusal(
                ClientMessageError(
                    .tooManySubscriptions,
                    "a socket has at most \(WebSocketLimits.subscriptions) subscriptions"))
        }
        if let name, subscriptions.contains(where: { $0.name == name }) {
            throw refusal(
                ClientMessageError(
                    .duplicateSubscription, "a subscription of that name is there already",
                    parameter: "subscription", given: name))
        }
        let subscription: Subscription
        let span: StreamSpan
        do throws(SubscriptionError) {
            subscription = try around.directory.subscription(request)
            span = try start.span(now: WallClock.milliseconds)
        } catch { throw refusal(ClientMessageError(error)) }
        begin(
            subscription, name: name ?? unusedName(), channel: request.channel, over: span)
    }

    private func unusedName() -> String {
        while true {
            let name = String(nextName)
            nextName += 1
            if !subscriptions.contains(where: { $0.name == name }) { return name }
        }
    }

    private func begin(
        _ wanted: Subscription, name: String, channel: String?, over span: StreamSpan
    ) {
        let subscription = WebSocketSubscription(name: name, wanted, output: output)
        subscriptions.append(subscription)
        var json = JSONText()
        json.object {
            $0.field("type", "subscribed")
            $0.field("subscription", name)
            if let channel { $0.field("channel", channel) }
            // Where it begins: a client that loses its socket before the first event resumes here.
            switch span.start {
            case .live: $0.field("after", around.hub.liveCursor.description)
            case .after(let cursor): $0.field("after", cursor.description)
            // It has to be found first.
            case .last: break
            }
        }
        guard output.announce(subscription, with: WebSocketFrame.text(json.bytes)) else {
            return lose()
        }
        subscription.key = around.hub.subscribe(
            subscription, to: wanted, as: form, over: span, through: gates)
    }

    private func named(_ name: String) throws(ClientMessageError) -> WebSocketSubscription {
        guard let subscription = subscriptions.first(where: { $0.name == name }) else {
            throw ClientMessageError(
                .unknownSubscription, "there is no subscription of that name",
                parameter: "subscription", given: name, accepted: subscriptions.map(\.name))
        }
        return subscription
    }

    private func unsubscribe(_ name: String) throws(ClientMessageError) {
        remove(try named(name))
        say {
            $0.field("type", "unsubscribed")
            $0.field("subscription", name)
        }
    }

    private func resume(_ name: String, from start: SpanRequest) throws(ClientMessageError) {
        let known = try named(name)
        let span: StreamSpan
        do throws(SubscriptionError) {
            span = try start.span(now: WallClock.milliseconds)
        } catch {
            var error = ClientMessageError(error)
            error.subscription = name
            throw error
        }
        remove(known)
        begin(known.subscription, name: name, channel: nil, over: span)
    }

    private func remove(_ subscription: WebSocketSubscription) {
        output.remove(subscription)
        subscriptions.removeAll { $0 === subscription }
        if subscriptions.isEmpty { emptySince = around.loop.now }
    }

    // MARK: - Sending

    private func retryMessage(_ milliseconds: Int? = nil) -> [UInt8] {
        var json = JSONText()
        json.object {
            $0.field("type", "retry")
            $0.field("after_ms", milliseconds ?? around.hub.retryMilliseconds())
        }
        return WebSocketFrame.text(json.bytes)
    }

    private func say(_ body: (inout JSONText) -> Void) {
        var json = JSONText()
        json.object(body)
        say(WebSocketFrame.text(json.bytes))
    }

    /// A client that asks and does not read the answers loses its socket.
    private func say(_ frames: [UInt8]) {
        guard phase == .open else { return }
        if !output.say(frames) { lose() }
    }

    private func ping(_ now: MonotonicTime) {
        guard unansweredPings < WebSocketLimits.unansweredPings else { return lose() }
        unansweredPings += 1
        around.metrics.pings.add()
        var frame = ByteWriter(reserving: 2)
        WebSocketFrame.appendHeader(.ping, payloadBytes: 0, to: &frame)
        say(frame.bytes)
        lastTaken = now
        seenBytes = output.bytesTaken
    }

    // MARK: - The end

    /// Ends every subscription, and the socket once the close frame is sent.
    private func close(_ code: WebSocketCloseCode, _ reason: String) {
        guard phase == .open else { return }
        for subscription in subscriptions { output.remove(subscription) }
        subscriptions = []
        phase = .closing
        closingSince = around.loop.now
        around.metrics.countClose(code.rawValue)
        if !output.say(WebSocketFrame.close(code, reason: reason)) { return lose() }
        finishIfFlushed()
    }

    private func finishIfFlushed() {
        guard phase == .closing, output.isFlushed, !output.hasEnded else { return }
        output.finish()
    }

    /// Gives the socket up without a word: nobody reads at its other end.
    private func lose() {
        guard !output.hasEnded else { return }
        around.metrics.lost.add()
        output.abort()
    }
}
