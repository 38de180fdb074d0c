// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// Keeps this node's lease and watches those of the others.
///
/// View: node. Threads: its loop's. Lifecycle: ``start()`` once, then ``leave(_:)`` or
/// ``stop()``. The rules are ``Membership``'s and ``RebalanceLog``'s; this asks Redis and tells
/// the time.
package final class ClusterMember {
    private let loop: EventLoop
    private let connection: RedisConnection
    private let keys: ClusterKeys
    private let metrics: ClusterMetrics
    private let log: Logger
    private let report: () -> NodeReport
    private let onView: (ClusterView) -> Void
    private var membership: Membership
    private var rebalances = RebalanceLog()
    private var isUnderWay = false
    private var isRenewalWanted = false
    private var isStopped = false
    private lazy var timer = LoopTimer { [weak self] in self?.renew() }

    /// Made on the loop.
    ///
    /// - Parameters:
    ///   - report: What the lease says; asked for at each renewal.
    ///   - onView: Gets the cluster whenever it may have changed.
    package init(
        loop: EventLoop, connection: RedisConnection, keys: ClusterKeys, nodeID: String,
        settings: LeaseSettings, metrics: ClusterMetrics, log: Logger,
        report: @escaping () -> NodeReport, onView: @escaping (ClusterView) -> Void
    ) {
        self.loop = loop
        self.connection = connection
        self.keys = keys
        self.metrics = metrics
        self.log = log
        self.report = report
        self.onView = onView
        membership = Membership(
            id: nodeID, incarnation: Self.newIncarnation(), settings: settings)
    }

    /// 64 random bits and the time: no process ever has another's.
    private static func newIncarnation() -> String {
        String(WallClock.milliseconds, radix: 36) + "-"
            + String(UInt64.random(in: 0...UInt64.max), radix: 36)
    }

    package func start() { renew() }

    /// Who this node is in the cluster; `nil` while it holds no lease.
    package var identity: (id: String, incarnation: String)? {
        membership.standing == .member ? (membership.id, membership.incarnation) : nil
    }

    /// Renews at once, because the report has changed in a way that others act on.
    package func renewSoon() {
        guard !isStopped else { return }
        if isUnderWay { isRenewalWanted = true } else { renew() }
    }

    /// Gives the lease back, so that nobody takes this for a death. `done` is called on the loop.
    package func leave(_ done: @escaping () -> Void) {
        guard !isStopped else { return done() }
        stop()
        guard membership.standing == .member else { return done() }
        var command = RedisCommand(script: LeaseScripts.leave, keys: keys.leases)
        command.append(membership.id)
        command.append(membership.incarnation)
        connection.send(command) { [log] result in
            if case .failure(let error) = result {
                log.warning(
                    "the lease could not be given back and ends by itself",
                    LogField("error", error))
            }
            done()
        }
    }

    package func stop() {
        isStopped = true
        loop.cancel(timer)
    }

    // MARK: - Renewing

    private func renew() {
        guard !isStopped, !isUnderWay else { return }
        isRenewalWanted = false
        guard connection.state == .ready else { return unanswered() }
        isUnderWay = true
        let settings = membership.settings
        var command = RedisCommand(script: LeaseScripts.renew, keys: keys.leases)
        command.append(membership.id)
        command.append(membership.incarnation)
        command.append(settings.length.wholeMilliseconds)
        command.append(settings.remembered.wholeMilliseconds)
        command.append(report().text)
        let sent = MonotonicTime.now
        connection.send(command) { [weak self] result in
            guard let self else { return }
            isUnderWay = false
            guard !isStopped else { return }
            switch result {
            case .failure(let error):
                log.debug("a lease was not renewed", LogField("error", error))
                unanswered()
            case .success(let reply):
                metrics.renewalTime.record(.now - sent)
                answered(LeaseAnswer(reply))
            }
        }
    }

    private func unanswered() {
        metrics.failures.add()
        publish()
        loop.schedule(timer, after: membership.settings.renewal)
    }

    private func answered(_ answer: LeaseAnswer?) {
        guard let answer else {
            log.error("Redis answered a renewal with something else")
            return unanswered()
        }
        let before = membership.standing
        let known = membership.members
        let changes = membership.take(answer, at: .now)
        if membership.standing != before { tellStanding() }
        tell(changes)
        if case .renewed(let now, _) = answer {
            metrics.renewals.add()
            var view = ClusterView()
            view.members = Array(membership.members.values)
            let length = UInt64(max(0, membership.settings.length.wholeMilliseconds))
            rebalances.take(
                view.readers, changes: changes,
                lastHeard: { id in
                    // A dead node renewed its lease for the last time when this began.
                    guard let member = known[id] else { return now }
                    let ended = (MonotonicTime.now - member.ends).wholeMilliseconds
                    return ended > 0 ? now - min(now, UInt64(ended) + length) : now
                }, at: now)
        }
        publish()
        loop.schedule(
            timer,
            after: isRenewalWanted ? .zero : membership.nextRenewal(after: .now))
    }

    private func tellStanding() {
        switch membership.standing {
        case .joining: break
        case .member:
            metrics.isRefused.set(0)
            log.notice("joined the cluster", LogField("incarnation", membership.incarnation))
        case .refused(let holder):
            metrics.isRefused.set(1)
            log.error(
                "another process has this node's name; give each node a node.id of its own",
                LogField("node", membership.id), LogField("holder", holder))
        }
    }

    private func tell(_ changes: [MembershipChange]) {
        for change in changes {
            switch change {
            case .died(let id), .restarted(let id):
                metrics.deaths.add()
                log.warning("a node's lease has ended", LogField("member", id))
            case .joined(let id), .returned(let id), .left(let id):
                log.notice(
                    "the cluster has changed", LogField("member", id),
                    LogField("change", change.reason))
            }
        }
    }

    private func publish() {
        let now = MonotonicTime.now
        var view = ClusterView()
        view.nodeID = membership.id
        view.standing = membership.standing
        view.taken = membership.answered?.at
        view.redisTime = membership.answered?.redis ?? 0
        view.isStale = membership.isStale(at: now)
        view.members = membership.members.values.sorted { $0.id < $1.id }
        view.rebalances = rebalances.rebalances
        view.unowned = rebalances.unowned
        metrics.isStale.set(view.isStale ? 1 : 0)
        metrics.alive.set(view.members.count { $0.isAlive })
        metrics.unreachable.set(view.visible.count { !$0.isAlive })
        metrics.unowned.set(view.unowned.count)
        onView(view)
    }
}

/// What membership counts.
package final class ClusterMetrics: Sendable {
    package let renewals: Counter
    package let failures: Counter
    package let deaths: Counter
    package let alive: Gauge
    package let unreachable: Gauge
    package let unowned: Gauge
    package let isStale: Gauge
    package let isRefused: Gauge
    package let renewalTime: DurationHistogram

    package init(in registry: MetricsRegistry) {
        renewals = registry.counter(
            "rivulet_cluster_renewals_total", "Renewals of this node's lease.")
        failures = registry.counter(
            "rivulet_cluster_renewal_failures_total", "Renewals that Redis did not answer.")
        deaths = registry.counter(
            "rivulet_cluster_deaths_total", "Leases of other nodes that this node saw end.")
        alive = registry.gauge(
            "rivulet_cluster_nodes", "Nodes of the cluster as this node sees it, by state.",
            [("state", "alive")])
        unreachable = registry.gauge(
            "rivulet_cluster_nodes", "Nodes of the cluster as this node sees it, by state.",
            [("state", "unreachable")])
        unowned = registry.gauge(
            "rivulet_cluster_partitions_unowned", "Partitions that no lease names any more.")
        isStale = registry.gauge(
            "rivulet_cluster_stale",
            "1 while this node's view of the cluster is old, because Redis does not answer.")
        isRefused = registry.gauge(
            "rivulet_cluster_refused", "1 while another process holds this node's name.")
        renewalTime = registry.histogram(
            "rivulet_cluster_renewal_seconds", "Time of one renewal, from sending to the answer.")
    }
}
