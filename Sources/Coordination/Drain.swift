// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// A planned stop of a node: when it may let which number of its clients go.
///
/// A state machine without input or output: time, counts and what the others can take go in, how
/// many clients to send away now comes out. View: node. Threads: a value.
///
/// First the node only says that it stops (``Phase/announcing``): balancers have to notice before
/// the first client comes back, and partitions are handed over meanwhile. Then clients are sent
/// away at an even pace over the window, and none faster than the other nodes have room for: a
/// client that is told to go and refused everywhere is without service, and here it has it. When
/// the window is over all go, because the process has to. What was sent is then given a moment to
/// arrive.
package struct Drain: Sendable {
    package struct Settings: Sendable, Equatable {
        /// How long balancers get to notice before anybody is sent away.
        package var notice: Duration
        /// The time over which clients are sent away.
        package var window: Duration
        /// What ``Phase/announcing`` may take beyond ``notice`` until partitions are handed over.
        package var handOver: Duration = .seconds(10)
        /// How long the sockets get to deliver what was sent.
        package var settling: Duration = .seconds(5)
        /// How long a client that was sent away takes to be counted by the node it went to: its
        /// `retry:` and the renewal of that node's lease.
        package var arrival: Duration

        package init(notice: Duration, window: Duration, arrival: Duration) {
            self.notice = notice
            self.window = window
            self.arrival = arrival
        }
    }

    /// Raw values are what `/cluster` says.
    package enum Phase: String, Sendable, CaseIterable {
        case announcing
        case sendingAway = "sending_away"
        case settling
        case done
    }

    /// What is known of the nodes that clients can go to.
    package enum Others: Sendable, Equatable {
        /// No other node is up: clients are sent away all the same, because this one stops.
        case none
        /// Redis does not answer, so nobody knows.
        case unknown
        /// So many connections more are admitted by all of them together, by their leases.
        case room(Int)

        /// What leases say.
        package init(_ view: ClusterView) {
            guard !view.isStale else {
                self = .unknown
                return
            }
            let reports = view.members.filter {
                $0.isAlive && $0.report.state == .up && $0.id != view.nodeID
            }.map(\.report)
            guard !reports.isEmpty else {
                self = .none
                return
            }
            self = .room(
                reports.reduce(0) { $0 + max(0, $1.connectionsMax - $1.connections) })
        }

        /// One word for pages and logs.
        package var word: String {
            switch self {
            case .none: "none"
            case .unknown: "unknown"
            case .room: "up"
            }
        }
    }

    /// What a step is taken by.
    package struct Facts: Sendable, Equatable {
        /// Streams that are open.
        package var clients: Int
        /// Connections that are open, those without a stream included.
        package var connections: Int
        package var others: Others
        package var isHandedOver: Bool

        package init(clients: Int, connections: Int, others: Others, isHandedOver: Bool) {
            self.clients = clients
            self.connections = connections
            self.others = others
            self.isHandedOver = isHandedOver
        }
    }

    package let settings: Settings
    package private(set) var phase = Phase.announcing
    /// True while clients stay longer than an even pace would have it, because the others have no
    /// room for them.
    package private(set) var isHeldBack = false
    /// How many clients there were when the first was sent away.
    package private(set) var total = 0
    /// How many were told to go.
    package private(set) var sentAway = 0
    private let began: MonotonicTime
    private var phaseBegan: MonotonicTime
    private var underWay: RecentCount

    /// Nobody needs it gentler than this: so many clients a second are no load for those they go
    /// to, and a node with few of them need not take the whole window.
    package static let slowestPace = 100

    package init(_ settings: Settings, at now: MonotonicTime) {
        self.settings = settings
        began = now
        phaseBegan = now
        underWay = RecentCount(span: settings.arrival)
    }

    /// The time over which ``total`` clients are sent away where nothing holds them back.
    private var span: Duration {
        min(settings.window, .seconds(1) * total / Self.slowestPace)
    }

    /// When the last client will have been told to go, at the latest, as far as is known now.
    package var ends: MonotonicTime {
        switch phase {
        case .announcing: began + settings.notice + settings.window
        case .sendingAway: phaseBegan + (isHeldBack ? settings.window : span)
        case .settling, .done: phaseBegan
        }
    }

    /// Goes on to `now`. To be called often, until ``phase`` is ``Phase/done``.
    ///
    /// - Returns: How many clients to send away now. The next call says in its facts how many are
    ///   left; who left by themselves count for the pace.
    package mutating func step(_ facts: Facts, at now: MonotonicTime) -> Int {
        switch phase {
        case .announcing:
            let noticed = began + settings.notice
            guard now >= noticed, facts.isHandedOver || now >= noticed + settings.handOver else {
                return 0
            }
            enter(.sendingAway, at: now)
            total = facts.clients
            return sendAway(facts, at: now)
        case .sendingAway: return sendAway(facts, at: now)
        case .settling:
            if facts.connections == 0 || now >= phaseBegan + settings.settling {
                enter(.done, at: now)
            }
            // A stream that was being opened when the last client went.
            return facts.clients
        case .done: return facts.clients
        }
    }

    private mutating func enter(_ next: Phase, at now: MonotonicTime) {
        phase = next
        phaseBegan = now
    }

    private mutating func sendAway(_ facts: Facts, at now: MonotonicTime) -> Int {
        let elapsed = now - phaseBegan
        guard facts.clients > 0 else {
            isHeldBack = false
            enter(.settling, at: now)
            return 0
        }
        guard elapsed < settings.window else {
            sentAway += facts.clients
            return facts.clients
        }
        // By who is left and not by who was sent, so that the pace stays even when some leave by
        // themselves.
        let stays =
            elapsed < span
            ? Int(
                Int64(total) * (span - elapsed).wholeMilliseconds
                    / max(1, span.wholeMilliseconds)) : 0
        let due = max(0, facts.clients - stays)
        var count = due
        if case .room(let room) = facts.others {
            count = min(due, max(0, room - underWay.count(at: now)))
        }
        isHeldBack = count < due
        underWay.add(count, at: now)
        sentAway += count
        return count
    }
}

/// How much was counted of late.
///
/// A value. Holds one number for each call of ``add(_:at:)`` within the span that is asked for.
struct RecentCount: Sendable {
    private let span: Duration
    private var counts: [(at: MonotonicTime, count: Int)] = []

    init(span: Duration) { self.span = span }

    mutating func add(_ count: Int, at now: MonotonicTime) {
        guard count > 0 else { return }
        forget(before: now)
        counts.append((now, count))
    }

    /// What was added within the span before `now`.
    mutating func count(at now: MonotonicTime) -> Int {
        forget(before: now)
        return counts.reduce(0) { $0 + $1.count }
    }

    private mutating func forget(before now: MonotonicTime) {
        counts.removeAll { now - $0.at >= span }
    }
}
