// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Coordination
import Glibc
import NodeConfiguration
import Observability
import PosixIO
import Reactor

/// Drives a node's ``Drain``: counts its clients, sends them away, and tells how far it is.
///
/// View: node. Threads: that of ``BrokerNode/stop()``, which waits in ``run(_:)``.
final class NodeDrain {
    private let context: NodeContext
    private let shards: [LoopBound<NodeShard>]
    private let cluster: LoopBound<NodeCluster>?
    private let log: Logger
    private var machine: Drain
    private var told = MonotonicTime.now

    /// Short beside a window, long beside a turn of a loop.
    private static let step: UInt32 = 20_000
    private static let tellEvery: Duration = .seconds(1)

    init(context: NodeContext, shards: [LoopBound<NodeShard>], cluster: LoopBound<NodeCluster>?) {
        self.context = context
        self.shards = shards
        self.cluster = cluster
        log = context.log.named("drain")
        let configuration = context.configuration
        // As Hub's jitter has it, and the renewal of the lease that tells of the client.
        let spread = min(Hub.retrySpreadMax, context.subscriberCount / max(1, shards.count))
        machine = Drain(
            .init(
                notice: configuration.server.drainNotice, window: configuration.server.drain,
                arrival: configuration.server.retry + .milliseconds(spread)
                    + configuration.cluster.renewal * 2),
            at: .now)
    }

    var sentAway: Int { machine.sentAway }

    /// Drains. Returns when nobody is left, or all have been told to go and had time to hear it.
    ///
    /// - Parameter handOver: Goes on with handing the partitions over; true once that is done.
    func run(_ handOver: () -> Bool) {
        for shard in shards { shard.loop.post { shard.value.announceDrain() } }
        log.notice(
            "draining", LogField("clients", clients.reduce(0, +)),
            LogField("notice", context.configuration.server.drainNotice),
            LogField("window", context.configuration.server.drain))
        publish(left: clients.reduce(0, +), others: Drain.Others(context.status.cluster))
        renewLease()
        // The others begin to read the partitions when they have seen in the lease that this node
        // drains: after a renewal of its own and one of theirs.
        let configuration = context.configuration
        let seen =
            MonotonicTime.now
            + min(configuration.server.drainNotice, configuration.cluster.renewal * 2)
        var isHandedOver = false
        while machine.phase != .done {
            if !isHandedOver, .now >= seen, handOver() {
                isHandedOver = true
                log.notice("partitions were handed over")
                renewLease()
            }
            proceed(isHandedOver: isHandedOver)
            // There is nothing to wait for but time: the pace is in it, and so is what clients do.
            if machine.phase != .done { usleep(Self.step) }
        }
        // It has to be handed over, and to be closed, in any case.
        while !isHandedOver {
            isHandedOver = handOver()
            if !isHandedOver { usleep(Self.step) }
        }
    }

    private func proceed(isHandedOver: Bool) {
        let counts = clients
        let others = Drain.Others(context.status.cluster)
        let before = machine.phase
        let wasHeldBack = machine.isHeldBack
        let facts = Drain.Facts(
            clients: counts.reduce(0, +), connections: connections, others: others,
            isHandedOver: isHandedOver)
        let count = machine.step(facts, at: .now)
        send(count, away: counts)
        publish(left: max(0, facts.clients - count), others: others)
        if machine.isHeldBack, !wasHeldBack {
            log.warning(
                "the other nodes have no room: clients stay until they do, or the window is over",
                LogField("left", facts.clients))
        }
        if machine.phase != before { entered(machine.phase, facts) }
        tell(facts)
    }

    private func entered(_ phase: Drain.Phase, _ facts: Drain.Facts) {
        switch phase {
        case .sendingAway:
            guard facts.clients > 0 else { return }
            let left = machine.ends - .now
            log.notice(
                "sending clients away", LogField("clients", facts.clients),
                LogField("within", left), LogField("others", facts.others.word))
            if facts.others == .none {
                log.warning("no other node is up; clients are sent away evenly all the same")
            }
        case .settling:
            for shard in shards { shard.loop.post { shard.value.stopAccepting() } }
        case .announcing, .done: break
        }
        renewLease()
    }

    private func tell(_ facts: Drain.Facts) {
        guard machine.phase == .sendingAway, .now - told >= Self.tellEvery else { return }
        told = .now
        log.info(
            "draining", LogField("left", facts.clients), LogField("sent", machine.sentAway),
            LogField("within", machine.ends - .now))
    }

    private func publish(left: Int, others: Drain.Others) {
        let remaining = max(0, (machine.ends - .now).wholeMilliseconds)
        context.status.drain = DrainProgress(
            phase: machine.phase, left: left, sentAway: machine.sentAway,
            until: WallClock.milliseconds + UInt64(remaining), others: others.word,
            isHeldBack: machine.isHeldBack)
    }

    private func renewLease() {
        guard let cluster else { return }
        cluster.loop.post { cluster.value.renewSoon() }
    }

    // MARK: - Shards

    /// By shard.
    private var clients: [Int] {
        shards.map { shard in shard.loop.answer { shard.value.clientCount } ?? 0 }
    }

    private var connections: Int {
        shards.reduce(0) { sum, shard in
            sum + (shard.loop.answer { shard.value.connectionCount } ?? 0)
        }
    }

    private func send(_ count: Int, away counts: [Int]) {
        guard count > 0 else { return }
        var gone = 0
        for (shard, share) in zip(shards, Self.shares(of: count, over: counts)) where share > 0 {
            gone += shard.loop.answer { shard.value.sendAway(share, because: .drain) } ?? 0
        }
        context.departures.drained.add(gone)
    }

    /// Parts of `count` that are to each other as `counts` are, none above its count.
    static func shares(of count: Int, over counts: [Int]) -> [Int] {
        let total = counts.reduce(0, +)
        guard total > 0 else { return counts.map { _ in 0 } }
        let count = min(count, total)
        var shares = counts.map { $0 * count / total }
        var missing = count - shares.reduce(0, +)
        // What is rounded off is less than one for each.
        for index in counts.indices where missing > 0 && shares[index] < counts[index] {
            shares[index] += 1
            missing -= 1
        }
        return shares
    }
}

/// What is counted of clients that were sent elsewhere.
final class DepartureMetrics: Sendable {
    let drained: Counter
    let moved: Counter

    init(in registry: MetricsRegistry, _ status: NodeStatus) {
        let name = "rivulet_clients_sent_away_total"
        let help = "Clients told to come back elsewhere, by reason: a drain or re-levelling."
        drained = registry.counter(name, help, [("reason", "drain")])
        moved = registry.counter(name, help, [("reason", "relevel")])
        registry.gauge(
            "rivulet_draining", "1 while the node drains.",
            reading: { status.phase == .draining ? 1 : 0 })
        registry.gauge(
            "rivulet_drain_clients_left", "Clients that a drain has not sent away yet.",
            reading: { Double(status.drain?.left ?? 0) })
    }
}
