// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Coordination
import Dependability
import EventStreamWire
import JSONFields
import KafkaClient
import NodeConfiguration
import Observability
import PosixIO
import Reactor

/// One canary as it stands in Kafka: `{"node":"node-1","n":17,"age_ms":1032}`.
struct Canary: Equatable {
    let node: String
    /// Counts those of the node's process.
    let number: UInt64
    /// The age of the sender's own leg when it sent.
    let age: Duration

    var json: [UInt8] {
        var text = JSONText()
        text.object {
            $0.field("node", node)
            $0.field("n", number)
            $0.field("age_ms", Int(age.wholeMilliseconds))
        }
        return text.bytes
    }

    /// `nil` where the text is none.
    init?(_ json: Span<UInt8>, _ reader: JSONMemberReader) {
        var node: String?
        var numbers: [String: UInt64] = [:]
        for member in reader.read(json).members where member.group == nil {
            switch member.value {
            case .text(let text) where member.key == "node": node = text
            case .number(let text): numbers[member.key] = UInt64(text)
            default: break
            }
        }
        guard let node, let number = numbers["n"], let age = numbers["age_ms"] else { return nil }
        self.init(node: node, number: number, age: .milliseconds(Int64(clamping: age)))
    }

    init(node: String, number: UInt64, age: Duration) {
        self.node = node
        self.number = number
        self.age = age
    }

    /// A name of 200 letters, each of which may take six bytes, and two numbers.
    static let bytesMax = 4096

    static func reader() -> JSONMemberReader? {
        try? JSONMemberReader(documentBytesMax: bytesMax, membersMax: 16)
    }
}

/// What the canaries of a node have come to: how old each hop is, and what is judged by it.
///
/// View: node. Threads: any.
final class CanaryLedger: Sendable {
    /// The ages of what has passed each hop last.
    struct Ages: Sendable, Equatable {
        /// Since the newest of this node's own that Kafka has confirmed was sent.
        var kafka: Duration
        /// Since the newest event that history is known to hold was appended, by Redis' clock.
        var history: Duration?
        /// Since the newest canary of anybody that has come through this node's tail was sent.
        var tail: Duration
    }

    private struct Values {
        var watch: CanaryWatch
        var number: UInt64 = 0
        /// Those of this node that are on their way: when each was sent, and confirmed.
        var sent: [UInt64: (at: MonotonicTime, confirmed: MonotonicTime?)] = [:]
        var newestConfirmed: MonotonicTime
        /// Redis' clock, ms since 1970, and when it showed that.
        var redis: (milliseconds: UInt64, at: MonotonicTime)?
    }

    /// Canaries on their way at once; Kafka's producer gives them up after minutes.
    private static let sentMax = 1024

    let settings: CanaryWatch.Settings
    private let nodeID: String
    private let values: Lock<Values>
    private let hops: [String: DurationHistogram]
    private let tip: @Sendable () -> EventID
    let failures: Counter

    /// - Parameter tip: The newest ID that history is known to hold.
    init(
        nodeID: String, settings: CanaryWatch.Settings, in registry: MetricsRegistry,
        tip: @escaping @Sendable () -> EventID
    ) {
        self.nodeID = nodeID
        self.settings = settings
        self.tip = tip
        let now = MonotonicTime.now
        values = Lock(Values(watch: CanaryWatch(settings, at: now), newestConfirmed: now))
        var hops: [String: DurationHistogram] = [:]
        for hop in ["kafka", "history", "tail"] {
            hops[hop] = registry.histogram(
                "rivulet_canary_hop_seconds",
                "Time that this node's canaries took for each hop: to Kafka's confirmation, from "
                    + "there to the append, from there through the node's own tail.",
                [("hop", hop)])
        }
        self.hops = hops
        failures = registry.counter(
            "rivulet_canary_failures_total", "Canaries that Kafka did not take.")
    }

    /// The next one to send.
    func next(at now: MonotonicTime = .now) -> Canary {
        values.withLock { values in
            values.number += 1
            if values.sent.count >= Self.sentMax, let oldest = values.sent.keys.min() {
                values.sent[oldest] = nil
            }
            values.sent[values.number] = (now, nil)
            return Canary(node: nodeID, number: values.number, age: values.watch.age(at: now))
        }
    }

    /// Kafka has confirmed one, or given it up.
    func answered(_ number: UInt64, isDelivered: Bool, at now: MonotonicTime = .now) {
        let sent = values.withLock { values -> MonotonicTime? in
            guard isDelivered, let sent = values.sent[number]?.at else {
                values.sent[number] = nil
                return nil
            }
            values.sent[number]?.confirmed = now
            values.newestConfirmed = max(values.newestConfirmed, sent)
            return sent
        }
        if let sent { hops["kafka"]?.record(now - sent) } else { failures.add() }
    }

    /// One has come through this node's tail.
    func arrived(_ canary: Canary, as id: EventID, at now: MonotonicTime = .now) {
        let (own, transit) = values.withLock { values in
            let own = canary.node == nodeID ? values.sent.removeValue(forKey: canary.number) : nil
            // Others' have no time that means anything here; Redis' clock says when each was
            // appended, and that is all but a moment of it.
            let transit = values.redis.map { redis -> Duration in
                let here = Int64(clamping: redis.milliseconds) + (now - redis.at).wholeMilliseconds
                return .milliseconds(max(0, here - Int64(clamping: id.milliseconds)))
            }
            values.watch.arrived(age: own.map { now - $0.at } ?? transit ?? .zero, at: now)
            return (own, transit)
        }
        guard let own, let transit else { return }
        hops["tail"]?.record(transit)
        if let confirmed = own.confirmed {
            hops["history"]?.record(max(.zero, now - confirmed - transit))
        }
    }

    /// What the leases say of the peers.
    func take(_ view: ClusterView, lease: Duration) {
        values.withLock { values in
            if let taken = view.taken, !view.isStale { values.redis = (view.redisTime, taken) }
            for member in view.members where member.isAlive && member.id != nodeID {
                guard let age = member.report.canaryAge else { continue }
                // It has ended, or will, a lease after it was last renewed.
                values.watch.heard(member.id, age: age, at: member.ends - lease)
            }
        }
    }

    /// What a peer says by way of Kafka.
    func heard(_ canary: Canary, at now: MonotonicTime = .now) {
        guard canary.node != nodeID else { return }
        values.withLock { $0.watch.heard(canary.node, age: canary.age, at: now) }
    }

    func verdict(at now: MonotonicTime = .now) -> CanaryVerdict {
        values.withLock { $0.watch.verdict(at: now) }
    }

    /// The age of this node's leg.
    func age(at now: MonotonicTime = .now) -> Duration {
        values.withLock { $0.watch.age(at: now) }
    }

    func ages(at now: MonotonicTime = .now) -> Ages {
        let tip = tip()
        return values.withLock { values in
            let history = values.redis.map { redis -> Duration in
                let here = Int64(clamping: redis.milliseconds) + (now - redis.at).wholeMilliseconds
                return .milliseconds(max(0, here - Int64(clamping: tip.milliseconds)))
            }
            return Ages(
                kafka: now - values.newestConfirmed, history: tip == .zero ? nil : history,
                tail: values.watch.age(at: now))
        }
    }
}

/// Sends a node's canaries.
///
/// Threads: the loop it is started on.
final class CanarySender {
    private let loop: EventLoop
    private let context: NodeContext
    private let ledger: CanaryLedger
    /// Another one takes its place where it has failed for good.
    var producer: KafkaProducer
    private var isUnknownTopicTold = false
    private lazy var timer = LoopTimer { [weak self] in self?.send() }

    init(loop: EventLoop, context: NodeContext, ledger: CanaryLedger, producer: KafkaProducer) {
        self.loop = loop
        self.context = context
        self.ledger = ledger
        self.producer = producer
    }

    func start() { loop.schedule(timer, after: ledger.settings.interval) }

    func stop() { loop.cancel(timer) }

    private func send() {
        loop.schedule(timer, after: ledger.settings.interval)
        let kafka = context.kafka
        // While Kafka is away one canary finds out whether it is back; the others would be old
        // news by then.
        guard kafka.dependency.admission() == nil else { return }
        let canary = ledger.next()
        let ledger = ledger
        do throws(KafkaError) {
            try producer.produce(
                topic: context.configuration.canary.topic, key: Array(canary.node.utf8),
                value: canary.json
            ) { result in
                switch result {
                case .success: ledger.answered(canary.number, isDelivered: true)
                case .failure: ledger.answered(canary.number, isDelivered: false)
                }
                kafka.answered((try? result.get()) != nil)
            }
            kafka.sent()
        } catch {
            ledger.answered(canary.number, isDelivered: false)
            guard error.code == .topicUnknown, !isUnknownTopicTold else { return }
            isUnknownTopicTold = true
            context.log.warning(
                "the canaries' topic does not exist; create it, or set canary.enabled to false",
                LogField("topic", context.configuration.canary.topic))
        }
    }
}

/// Listens to the peers' canaries in Kafka itself, while this node cannot hear of the peers by
/// their leases: who is cut off from Redis alone finds out here that the others are not.
///
/// Threads: one of its own, which may block; ``stop()`` belongs to whoever made it.
final class CanaryListener {
    private let isStopped = Flag()
    private let thread: NamedThread

    private final class Flag: Sendable {
        let isSet = Lock(false)
    }

    private static let askLimit: Duration = .seconds(3)
    private static let pollLimit: Duration = .milliseconds(100)

    init(_ context: NodeContext, _ ledger: CanaryLedger) {
        let stop = isStopped
        let log = context.log.named("canary")
        thread = NamedThread("canary") {
            while !stop.isSet.withLock({ $0 }) {
                do throws(KafkaError) {
                    try Self.listen(context, ledger, log) { stop.isSet.withLock { $0 } }
                } catch {
                    log.debug("cannot listen to canaries", LogField("error", error))
                    _ = WakeSignal().wait(within: .milliseconds(500))
                }
            }
        }
    }

    func stop() { isStopped.isSet.withLock { $0 = true } }

    private static func listen(
        _ context: NodeContext, _ ledger: CanaryLedger, _ log: Logger,
        until isOver: () -> Bool
    ) throws(KafkaError) {
        guard let json = Canary.reader() else { throw KafkaError(.other, "no memory") }
        var settings = context.kafkaSettings
        settings.clientID += "-canary"
        let reader = try KafkaReader(settings: settings, queuedBytesMax: 1 << 20, log: log)
        defer { reader.close(within: .seconds(1)) }
        let topic = context.configuration.canary.topic
        let topics = try reader.topics(within: askLimit)
        guard let found = topics.first(where: { $0.name == topic }) else {
            throw KafkaError(.topicUnknown, "topic \"\(topic)\" does not exist")
        }
        try reader.assign(
            (0..<Int32(clamping: found.partitionCount)).map { (TopicPartition(topic, $0), .end) })
        while !isOver() {
            _ = reader.poll(within: pollLimit) { event in
                switch event {
                case .record(let record):
                    guard let value = record.value, let canary = Canary(value, json) else { return }
                    ledger.heard(canary)
                default: break
                }
            }
        }
    }
}

/// Brings a node's canaries together with what the leases say, and draws the verdict.
///
/// Threads: the `cluster` loop's.
final class CanaryJudge {
    private let context: NodeContext
    private let ledger: CanaryLedger
    private var listener: CanaryListener?

    init(context: NodeContext, ledger: CanaryLedger) {
        self.context = context
        self.ledger = ledger
    }

    /// At each view of the cluster, a few times a second.
    func take(_ view: ClusterView) {
        ledger.take(view, lease: context.configuration.cluster.lease)
        let isCutOff = view.isStale && ledger.age() > ledger.settings.staleAfter / 2
        if isCutOff, listener == nil {
            listener = CanaryListener(context, ledger)
        } else if !isCutOff, let listener {
            listener.stop()
            self.listener = nil
        }
        let before = context.status.canary
        let verdict = ledger.verdict()
        context.status.canary = verdict
        guard verdict != before else { return }
        switch verdict {
        case .sick:
            context.log.error(
                "other nodes receive what this one does not; it is not ready",
                LogField("age", "\(ledger.age())"))
        case .stale:
            context.log.warning(
                "nothing has come through Kafka and Redis", LogField("age", "\(ledger.age())"))
        case .fresh where before != .unknown: context.log.notice("events arrive again")
        case .fresh, .unknown: break
        }
    }

    func stop() {
        listener?.stop()
        listener = nil
    }
}
