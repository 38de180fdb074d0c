// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// What canaries say of a node.
///
/// Raw values are what pages say.
package enum CanaryVerdict: String, Sendable, CaseIterable {
    /// Nothing is known: canaries are switched off, or the node has just started.
    case unknown
    case fresh
    /// Nothing arrives for too long, and no peer is known to fare better.
    case stale
    /// Peers receive what this node does not.
    case sick
}

/// Judges whether events still come all the way to this node, beside how its peers fare.
///
/// A state machine without input or output. View: node. Threads: a value.
///
/// A canary is an event that goes the way of all others: through Kafka, the owner of its
/// partition, Redis, and each node's own tail. How long ago the newest that has arrived was sent is
/// the age of this node's leg; peers tell theirs. All ages are spans by one clock each, so nodes
/// whose clocks differ compare them as they are.
///
/// A node is sick where a peer has been ahead of it for ``Settings/staleAfter``: long enough that a
/// node which comes back a little later than the others after an outage they all had is no sick
/// one. Where nobody is ahead the outage is everybody's, and none of them is sick.
package struct CanaryWatch: Sendable {
    package struct Settings: Sendable, Equatable {
        /// Time between the canaries of one node.
        package var interval: Duration
        /// A leg of this age is stale.
        package var staleAfter: Duration

        package init(interval: Duration = .seconds(1), staleAfter: Duration = .seconds(5)) {
            self.interval = interval
            self.staleAfter = max(staleAfter, interval * 2)
        }
    }

    package let settings: Settings
    /// When what has arrived last was sent, by this node's clock.
    private var own: MonotonicTime
    /// The same of peers, as they tell.
    private var peers: [String: MonotonicTime] = [:]
    /// Since when a peer is ahead.
    private var behindSince: MonotonicTime?
    private var hasArrived = false

    /// Peers that are remembered at most; nodes of a cluster are far fewer.
    static let peersMax = 10_000

    package init(_ settings: Settings, at now: MonotonicTime) {
        self.settings = settings
        own = now
    }

    /// A canary has come through this node's tail; it was sent `age` ago.
    package mutating func arrived(age: Duration, at now: MonotonicTime) {
        own = max(own, now - max(.zero, age))
        hasArrived = true
    }

    /// A peer's leg had this age at that time.
    package mutating func heard(_ peer: String, age: Duration, at time: MonotonicTime) {
        guard peers[peer] != nil || peers.count < Self.peersMax else { return }
        let sent = time - max(.zero, age)
        peers[peer] = max(peers[peer] ?? sent, sent)
    }

    /// The age of this node's leg.
    package func age(at now: MonotonicTime) -> Duration { max(.zero, now - own) }

    /// What there is to say now. To be asked often: it is by this that time passes here.
    package mutating func verdict(at now: MonotonicTime) -> CanaryVerdict {
        peers = peers.filter { now - $0.value <= settings.staleAfter }
        let best = peers.values.max()
        // Less is the distance between two canaries and their reports.
        guard let best, best - own > settings.staleAfter / 2 else {
            behindSince = nil
            guard hasArrived else { return .unknown }
            return age(at: now) > settings.staleAfter ? .stale : .fresh
        }
        let since = behindSince ?? now
        behindSince = since
        if now - since >= settings.staleAfter { return .sick }
        guard hasArrived else { return .unknown }
        return age(at: now) > settings.staleAfter ? .stale : .fresh
    }
}
