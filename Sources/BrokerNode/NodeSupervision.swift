// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import History
import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient
import Synchronization

/// Watches over the loops of a node: one that does not turn any more cannot be restarted, but the
/// node can say so instead of lying.
///
/// View: node. Threads: one of its own.
final class LoopKeeper: Sendable {
    /// Ticks of a second that a loop may leave unanswered. Closing a consumer takes two of them.
    private static let ticksMax = 10

    private let wake = WakeSignal()
    private let isStopped = Lock(false)
    private let thread = Lock<NamedThread?>(nil)

    /// A loop, its component, and what is known of its answers.
    private final class Watched: Sendable {
        let loop: EventLoop
        let component: Component
        let watch = Lock(LoopWatch(ticksMax: LoopKeeper.ticksMax))

        init(_ loop: EventLoop, _ component: Component) {
            self.loop = loop
            self.component = component
        }

        func tick() {
            let (asks, change) = watch.withLock { $0.tick() }
            if change == .stuck {
                _ = component.failed("the loop has not turned for \(LoopKeeper.ticksMax) s")
            }
            if asks { loop.post { self.answered() } }
        }

        private func answered() {
            if watch.withLock({ $0.answered() }) == .turnsAgain { component.isUp() }
        }
    }

    /// Begins to watch `loops`, which have started.
    init(_ loops: [EventLoop], supervisor: Supervisor) {
        let watched = loops.map { loop in
            let component = supervisor.supervise("loop \(loop.name)", restarts: false)
            component.start()
            component.isUp()
            return Watched(loop, component)
        }
        let (wake, isStopped) = (wake, isStopped)
        let thread = NamedThread("supervisor") {
            while !isStopped.withLock({ $0 }) {
                for one in watched { one.tick() }
                _ = wake.wait(within: .seconds(1))
            }
        }
        self.thread.withLock { $0 = thread }
    }

    func stop() {
        isStopped.withLock { $0 = true }
        wake.signal()
        thread.withLock { $0 }?.join()
    }
}

extension Component {
    /// Has an ingest started again whenever its consumer has failed. On the ingest's loop.
    func keep(_ ingest: Ingest, on loop: EventLoop) {
        let restart = LoopTimer { [weak ingest, self] in
            start()
            ingest?.restart()
        }
        ingest.onUp = { [self] in isUp() }
        ingest.onFailure = { [self] reason in
            if let pause = failed(reason) { loop.schedule(restart, after: pause) }
        }
        start()
    }
}

/// Has the tail begin anew with fresh connections where it stands still though Redis answers.
///
/// Threads: the tail's loop. It is asked a few times a second.
final class TailKeeper {
    /// A read waits in Redis for a second at most.
    private static let standsStillAfter: Duration = .seconds(10)

    private let loop: EventLoop
    private let component: Component
    private let redis: Dependency
    /// Those for the blocking read and for what goes beside it.
    private let connections: [RedisConnection]
    private var since: MonotonicTime?
    private var isRestarting = false
    private lazy var restart = LoopTimer { [weak self] in self?.reconnect() }

    init(
        loop: EventLoop, component: Component, redis: Dependency, connections: [RedisConnection]
    ) {
        self.loop = loop
        self.component = component
        self.redis = redis
        self.connections = connections
        component.start()
    }

    func look(isFollowing: Bool, at now: MonotonicTime) {
        guard !isFollowing else {
            since = nil
            if !isRestarting, component.status.phase != .running { component.isUp() }
            return
        }
        // Redis' own trouble is no failure of the tail's.
        guard redis.status(at: now).isWell, connections.allSatisfy({ $0.state == .ready }) else {
            since = nil
            return
        }
        let began = since ?? now
        since = began
        guard !isRestarting, now - began >= Self.standsStillAfter else { return }
        let reason = "no read of history was answered for \(Self.standsStillAfter)"
        guard let pause = component.failed(reason, at: now) else { return }
        isRestarting = true
        loop.schedule(restart, after: pause)
    }

    private func reconnect() {
        isRestarting = false
        since = nil
        component.start()
        for connection in connections {
            connection.stop()
            connection.start()
        }
    }
}

/// Keeps the node's producer, and makes another where it has failed for good.
///
/// Threads: the ingest loop's.
final class ProducerKeeper {
    private static let lookEvery: Duration = .seconds(1)
    private static let closingLimit: Duration = .seconds(2)

    private let loop: EventLoop
    private let component: Component
    private let make: () throws(KafkaError) -> KafkaProducer
    private let replaced: (KafkaProducer) -> Void
    private let log: Logger
    private var producer: KafkaProducer
    private var isRestarting = false
    private lazy var timer = LoopTimer { [weak self] in self?.look() }
    private lazy var restart = LoopTimer { [weak self] in self?.replace() }

    /// - Parameter replaced: Gets each producer that takes the place of another.
    init(
        loop: EventLoop, component: Component, producer: KafkaProducer,
        make: @escaping () throws(KafkaError) -> KafkaProducer,
        replaced: @escaping (KafkaProducer) -> Void, log: Logger
    ) {
        self.loop = loop
        self.component = component
        self.producer = producer
        self.make = make
        self.replaced = replaced
        self.log = log
        component.start()
        component.isUp()
        loop.schedule(timer, after: Self.lookEvery)
    }

    /// The producer that is to be closed last.
    func stop() -> KafkaProducer {
        component.stop()
        for timer in [timer, restart] { loop.cancel(timer) }
        return producer
    }

    private func look() {
        loop.schedule(timer, after: Self.lookEvery)
        guard !isRestarting, let error = producer.fatalError else { return }
        fail(error)
    }

    private func fail(_ error: KafkaError) {
        guard let pause = component.failed(error.description) else { return }
        isRestarting = true
        loop.schedule(restart, after: pause)
    }

    private func replace() {
        component.start()
        let old = producer
        do throws(KafkaError) { producer = try make() } catch { return fail(error) }
        isRestarting = false
        component.isUp()
        replaced(producer)
        // What it had taken and not sent fails there, and whoever sent it is told.
        _ = NamedThread("kafka-close") { old.close(within: Self.closingLimit) }
    }
}
