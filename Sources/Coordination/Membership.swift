// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient
package import PosixIO

/// How leases are kept, from the configuration.
package struct LeaseSettings: Sendable, Equatable {
    /// Time between two renewals.
    package var renewal: Duration
    /// Without a renewal for this long a node is dead.
    package var length: Duration
    /// How long a dead node stays in sight, so that its partitions are known until the group has
    /// given them to others.
    package var remembered: Duration = .seconds(300)

    package init(renewal: Duration = .milliseconds(500), length: Duration = .milliseconds(1500)) {
        self.renewal = renewal
        self.length = length
    }
}

/// What has changed in the cluster.
package enum MembershipChange: Sendable, Equatable {
    case joined(String)
    /// Gave its lease back: a stop on purpose.
    case left(String)
    /// Its lease ended.
    case died(String)
    /// Its lease had ended, and it renews it again: it was paused or cut off.
    case returned(String)
    /// Another process took over the name of a node whose lease had ended.
    case restarted(String)
}

/// One node as the others see it.
package struct MemberView: Sendable, Equatable {
    package let id: String
    package let incarnation: String
    /// False once its lease has ended and that is believed.
    package internal(set) var isAlive: Bool
    package internal(set) var report: NodeReport
    /// When its lease ends or ended, by this node's clock.
    package internal(set) var ends: MonotonicTime

    /// `joining`, `up`, `draining`, or `unreachable`.
    package var stateWord: String { isAlive ? report.state.rawValue : "unreachable" }
}

/// Who is in the cluster, as far as one node knows.
///
/// A state machine without input or output: what Redis answers goes in, what has changed comes
/// out. View: cluster, as one node sees it. Threads: a value.
///
/// A death is believed only by a node that has itself been there to see it. After Redis was away
/// all leases have ended, and the first node to renew its own would see nothing but dead ones;
/// so whoever has missed renewals gives the others the length of a lease to come back first.
package struct Membership: Sendable {
    package enum Standing: Sendable, Equatable {
        case joining
        case member
        /// Another process holds a lease of this name.
        case refused(holder: String)
    }

    package let id: String
    package let incarnation: String
    package let settings: LeaseSettings
    package private(set) var standing = Standing.joining
    package private(set) var members: [String: MemberView] = [:]
    /// When Redis last answered, by this node's clock, and what time it was there.
    package private(set) var answered: (at: MonotonicTime, redis: UInt64)?
    /// Deaths are believed from here on.
    private var believesDeathsFrom: MonotonicTime?

    package init(id: String, incarnation: String, settings: LeaseSettings) {
        self.id = id
        self.incarnation = incarnation
        self.settings = settings
    }

    /// True where what is known here may be out of date: this node's own lease has lapsed.
    package func isStale(at now: MonotonicTime) -> Bool {
        guard let answered else { return true }
        return now - answered.at > settings.length
    }

    /// When to renew next: in time, or earlier where a lease is about to end, so that a death is
    /// seen when it happens.
    package func nextRenewal(after now: MonotonicTime) -> Duration {
        let ends = members.values.filter { $0.isAlive && $0.id != id && $0.ends > now }
            .map { $0.ends - now + Self.clockMargin }.min()
        return max(Self.shortestWait, min(settings.renewal, ends ?? settings.renewal))
    }

    /// A lease that ends within a millisecond has not ended yet by the script's whole numbers.
    private static let clockMargin: Duration = .milliseconds(5)
    private static let shortestWait: Duration = .milliseconds(10)

    /// Takes the answer to a renewal.
    package mutating func take(_ answer: LeaseAnswer, at now: MonotonicTime) -> [MembershipChange] {
        switch answer {
        case .refused(let holder, _):
            standing = .refused(holder: holder)
            return []
        case .renewed(let redis, let leases):
            // Two missed renewals: from here on nobody's absence says anything for a while.
            let hasMissed = answered.map {
                now - $0.at > settings.renewal * 2 + settings.length / 4
            }
            if hasMissed ?? true { believesDeathsFrom = now + settings.length }
            let isFirst = standing == .joining && members.isEmpty
            answered = (now, redis)
            standing = .member
            let changes = compare(leases, at: now)
            return isFirst ? [] : changes
        }
    }

    private mutating func compare(_ leases: [Lease], at now: MonotonicTime) -> [MembershipChange] {
        var changes: [MembershipChange] = []
        var next: [String: MemberView] = [:]
        let believesDeaths = believesDeathsFrom.map { now >= $0 } ?? false
        for lease in leases {
            let holds = lease.left > .zero
            let known = members[lease.id]
            var member = MemberView(
                id: lease.id, incarnation: lease.incarnation, isAlive: holds,
                report: lease.report, ends: now + lease.left)
            if let known, known.incarnation == lease.incarnation {
                if known.isAlive, !holds {
                    member.isAlive = !believesDeaths
                    if believesDeaths { changes.append(.died(lease.id)) }
                } else if !known.isAlive, holds {
                    changes.append(.returned(lease.id))
                }
            } else if known != nil {
                changes.append(.restarted(lease.id))
            } else if holds {
                changes.append(.joined(lease.id))
            } else {
                // Somebody who was gone before this node came: it may be back in a moment.
                member.isAlive = !believesDeaths
            }
            next[lease.id] = member
        }
        for gone in members.values where next[gone.id] == nil && gone.isAlive {
            changes.append(.left(gone.id))
        }
        members = next
        return changes
    }
}

/// The cluster at one moment, for pages and for those who act on it.
package struct ClusterView: Sendable {
    package var nodeID = ""
    package var standing = Membership.Standing.joining
    /// When this was so, by the node's clock; `nil` before Redis has answered at all.
    package var taken: MonotonicTime?
    package var isStale = true
    /// What Redis' clock showed then, ms since 1970.
    package var redisTime: UInt64 = 0
    /// In the order of their names.
    package var members: [MemberView] = []
    package var rebalances: [Rebalance] = []
    /// Since when nobody reads these, as far as the leases tell, by Redis' clock.
    package var unowned: [TopicPartition: UInt64] = [:]
    /// What all nodes together may have, and do have.
    package var limits: [ClusterLimit] = []

    package init() {}

    /// Who reads which partition: its owner, or else the survivor that reads it as an orphan.
    package var readers: [TopicPartition: String] {
        var readers: [TopicPartition: String] = [:]
        for member in members where member.isAlive {
            for partition in member.report.orphans { readers[partition] = member.id }
        }
        return readers.merging(owners) { $1 }
    }

    /// The members that people want to see: a process that another of its name has followed only
    /// as long as some of its partitions are not owned again.
    package var visible: [MemberView] {
        let owners = owners
        return members.filter { member in
            !member.id.contains("#") || member.report.partitions.contains { owners[$0] == nil }
        }
    }

    /// Who reads which partition by the group's assignment. Where two say so, which a lease that
    /// is half a second old may do, the one of the later name.
    package var owners: [TopicPartition: String] {
        var owners: [TopicPartition: String] = [:]
        for member in members where member.isAlive {
            for partition in member.report.partitions { owners[partition] = member.id }
        }
        return owners
    }
}
