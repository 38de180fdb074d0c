// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Coordination
import Dependability
import HTTPServer
import History
import KafkaClient
import NodeConfiguration
import Observability
import PosixIO
import Reactor
import RedisClient

/// This node's part in the cluster: what its lease says, and where the view of it goes.
///
/// View: node. Threads: the `cluster` loop's, which has nothing else to do, so that a lease is
/// renewed in time whatever the others are busy with.
final class NodeCluster {
    private let loop: EventLoop
    private let connection: RedisConnection
    private let context: NodeContext
    private let address: String
    /// Reads the partitions of dead nodes, on a loop of its own.
    private var orphanIngest: LoopBound<Ingest>?
    private var orphans: Set<TopicPartition> = []
    private lazy var member = makeMember()
    private lazy var budgets = makeBudgets()
    private lazy var canary = context.canary.map { CanaryJudge(context: context, ledger: $0) }

    private let mover: ClientMover?

    init(
        loop: EventLoop, context: NodeContext, redis: RedisSettings, address: String,
        shards: [LoopBound<NodeShard>]
    ) {
        self.loop = loop
        mover =
            context.configuration.cluster.relevel
            ? ClientMover(context: context, shards: shards) : nil
        self.context = context
        self.address = address
        let section = context.configuration.cluster
        var settings = redis
        // A renewal that takes longer than the lease has failed in any case.
        settings.commandTimeout = min(redis.commandTimeout, section.lease)
        connection = RedisConnection(
            loop: loop, settings: settings, purpose: "cluster",
            scripts: [LeaseScripts.renew, LeaseScripts.leave, BudgetScripts.share],
            log: context.log.named("redis"),
            metrics: context.redisMetrics, dependency: context.redisDependency)
    }

    private func makeMember() -> ClusterMember {
        let context = context
        let section = context.configuration.cluster
        let reporter = Reporter(context: context, address: address)
        return ClusterMember(
            loop: loop, connection: connection,
            keys: ClusterKeys(prefix: context.configuration.redis.keyPrefix),
            nodeID: context.configuration.node.id,
            settings: LeaseSettings(renewal: section.renewal, length: section.lease),
            metrics: context.clusterMetrics, log: context.log.named("cluster"),
            report: { [weak self] in
                var report = reporter.report()
                for limit in self?.budgets.limits ?? [] {
                    report.shares[limit.name.description] = limit.own
                }
                return report
            },
            onView: { [weak self] view in
                var view = view
                view.limits = self?.budgets.limits ?? []
                context.status.cluster = view
                self?.canary?.take(view)
                self?.mover?.take(view)
                self?.planOrphans(view)
            })
    }

    private func makeBudgets() -> BudgetKeeper {
        let member = member
        return BudgetKeeper(
            loop: loop, connection: connection,
            keys: ClusterKeys(prefix: context.configuration.redis.keyPrefix),
            ledger: context.limits.ledger, interval: context.configuration.cluster.renewal,
            log: context.log.named("limits"), identity: { member.identity })
    }

    /// Has the node's parts of the cluster's rates leased.
    private func shareRates() {
        let limits = context.configuration.limits
        if let rate = context.limits.clusterRate {
            budgets.share(
                BudgetName(.eventRate), perSecond: limits.clusterEventRate, through: rate)
        }
        guard limits.principalEventRate > 0 else { return }
        let bound = LoopBound(budgets, on: loop)
        let loop = loop
        context.limits.whenRateIsNew { principal, rate in
            loop.post {
                bound.value.share(
                    BudgetName(.eventRate, of: principal), perSecond: limits.principalEventRate,
                    through: rate)
            }
        }
    }

    func start() {
        connection.onStateChange = { [weak self] state in
            guard state == .ready, let self else { return }
            member.renewSoon()
            budgets.askSoon()
        }
        connection.start()
        member.start()
        budgets.start()
        shareRates()
    }

    /// Has the partitions of dead nodes read by `ingest` from here on.
    func readOrphans(with ingest: LoopBound<Ingest>) { orphanIngest = ingest }

    private func planOrphans(_ view: ClusterView) {
        guard let orphanIngest,
            let planned = OrphanPlan.orphans(
                of: view, readBy: view.nodeID, reading: context.status.partitions),
            planned != orphans
        else { return }
        orphans = planned
        orphanIngest.loop.post { orphanIngest.value.read(orphans: planned) }
    }

    func renewSoon() { member.renewSoon() }

    /// Gives the lease back; `done` is called once that is answered.
    func leave(_ done: @escaping () -> Void) { member.leave(done) }

    func stop() {
        canary?.stop()
        budgets.stop()
        member.stop()
        connection.stop()
    }

    /// Makes the node's reports; keeps what rates are counted from.
    private final class Reporter {
        private let context: NodeContext
        private let address: String
        private let started = WallClock.milliseconds
        private var since = MonotonicTime.now
        private var ingested: UInt64 = 0
        private var delivered: UInt64 = 0
        private var rates = (ingest: 0.0, delivery: 0.0)

        /// Rates are over this long at least, so that an early renewal does not make them jump.
        private static let rateSpan: Duration = .milliseconds(900)

        init(context: NodeContext, address: String) {
            self.context = context
            self.address = address
        }

        func report() -> NodeReport {
            countRates()
            var report = NodeReport(
                state: state, address: address, version: Rivulet.version, started: started,
                connections: context.budget.inUse, connectionsMax: context.budget.limit,
                lag: Int(clamping: context.ingestMetrics.lag.value),
                ingestRate: rates.ingest, deliveryRate: rates.delivery,
                partitions: context.status.partitions, orphans: context.status.orphans)
            report.canaryAge = context.canary?.age()
            report.drain = context.status.drain
            for status in [context.redisDependency.status(), context.kafka.dependency.status()]
            where status.breaker != .closed {
                report.breakers[status.name] = status.breaker.rawValue
            }
            for component in context.supervisor.statuses
            where component.phase == .failed || component.phase == .restarting {
                report.components[component.name] = component.phase.rawValue
            }
            return report
        }

        private var state: NodeReport.State {
            switch context.status.phase {
            case .starting: .joining
            case .up: .up
            case .draining: .draining
            }
        }

        private func countRates() {
            let now = MonotonicTime.now
            guard now - since >= Self.rateSpan else { return }
            let span = (now - since).inSeconds
            let ingested = context.ingestMetrics.events.value
            let delivered = context.eventsDelivered
            func rate(_ now: UInt64, _ before: UInt64) -> Double {
                (Double(now - min(now, before)) / span * 10).rounded() / 10
            }
            rates = (rate(ingested, self.ingested), rate(delivered, self.delivered))
            (self.ingested, self.delivered, since) = (ingested, delivered, now)
        }
    }
}
