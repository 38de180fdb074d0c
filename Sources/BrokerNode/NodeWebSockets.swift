// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import HTTPServer
import Reactor

/// The WebSockets of one event loop.
///
/// View: shard. Threads: its loop's. It brings the sockets' bytes and news to their sessions, and
/// keeps them alive.
final class NodeWebSockets: ByteStreamObserver {
    /// What a request for a WebSocket subscribes to at once.
    struct Wish {
        let subscription: Subscription
        let channel: String?
        let span: StreamSpan
    }

    private let around: WebSocketSession.Surroundings
    /// Messages are compressed for clients that offer it.
    private let deflates: Bool
    /// Gives back what a client held that has gone.
    private let whenGone: (Admitted) -> Void
    private var sessions = Slab<WebSocketSession>()
    private var admitted: [ObjectIdentifier: Admitted] = [:]
    private var sweepTimer: LoopTimer?
    private var sweepPosition: UInt32 = 0

    /// A share of the sockets is looked after each time, so that pings do not wake all in one
    /// instant.
    private static let sweepShares: UInt32 = 64

    init(
        _ around: WebSocketSession.Surroundings, deflates: Bool,
        whenGone: @escaping (Admitted) -> Void
    ) {
        self.around = around
        self.whenGone = whenGone
        self.deflates = deflates
    }

    func start() {
        let timer = LoopTimer { [weak self] in self?.sweep() }
        sweepTimer = timer
        around.loop.schedule(timer, after: sweepInterval)
    }

    func stop() {
        if let sweepTimer { around.loop.cancel(sweepTimer) }
        sweepTimer = nil
    }

    private var sweepInterval: Duration { around.heartbeat / Int(Self.sweepShares) }

    /// Answers a request for a WebSocket.
    func open(
        _ request: HTTPRequest, _ exchange: HTTPExchange, asking wish: Wish?, as client: Admitted
    ) {
        guard
            let upgraded = exchange.upgradeToWebSocket(
                request, deflates: deflates, observer: self)
        else { return whenGone(client) }
        let stream = upgraded.stream
        if !client.places.isEmpty || !client.gates.isEmpty {
            admitted[ObjectIdentifier(stream)] = client
        }
        let session = WebSocketSession(
            stream, around, deflate: upgraded.deflate, through: client.gates)
        let key = sessions.insert(session)
        stream.context = Int(truncatingIfNeeded: Int64(bitPattern: key.packed))
        if let wish {
            session.subscribe(wish.subscription, channel: wish.channel, over: wish.span)
        }
    }

    /// Sockets that have not been told to go.
    var count: Int {
        var count = 0
        forEach { count += $0.isOpen ? 1 : 0 }
        return count
    }

    /// Sends up to `count` clients away, each with a retry of so many milliseconds or its own.
    /// Returns how many it were.
    func sendAway(_ count: Int, after milliseconds: Int?) -> Int {
        var chosen: [WebSocketSession] = []
        forEach { if chosen.count < count, $0.isOpen { chosen.append($0) } }
        for session in chosen { session.drain(after: milliseconds) }
        return chosen.count
    }

    private func sweep() {
        forEach(share: sweepPosition) { $0.sweep() }
        sweepPosition = (sweepPosition + 1) % Self.sweepShares
        if let sweepTimer { around.loop.schedule(sweepTimer, after: sweepInterval) }
    }

    private func forEach(share: UInt32? = nil, _ body: (WebSocketSession) -> Void) {
        sessions.forEach { key, session in
            if let share, key.index % Self.sweepShares != share { return }
            body(session)
        }
    }

    // MARK: - From the streams

    private static func key(_ stream: ByteStream) -> Slab<WebSocketSession>.Key {
        .init(packed: UInt64(bitPattern: Int64(stream.context)))
    }

    func stream(_ stream: ByteStream, received bytes: borrowing Span<UInt8>) {
        sessions[Self.key(stream)]?.receive(bytes)
    }

    func streamIsWritable(_ stream: ByteStream) {
        sessions[Self.key(stream)]?.socketIsWritable()
    }

    func streamEnded(_ stream: ByteStream, _ reason: StreamEnd) {
        sessions.remove(Self.key(stream))?.socketEnded()
        if let client = admitted.removeValue(forKey: ObjectIdentifier(stream)) { whenGone(client) }
    }
}
