// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// How many clients a node asks to move after another has joined, so that the connections become
/// level again.
///
/// A state machine without input or output. View: node, by what all leases say. Threads: a value.
///
/// Each node decides for itself: those over their share let clients go, and where these go is the
/// balancer's choice. So it may be that they come back to where they were, and two rules make it
/// end all the same: a share is reached when it is near, and no more than twice of what was too
/// many is ever asked to move. After that it rests until the cluster changes again.
package struct Relevelling: Sendable {
    package struct Settings: Sendable, Equatable {
        /// Clients that one node asks to move in a second.
        package var rate: Int
        /// The part of its share by which a node may be over it.
        package var tolerance: Double
        /// How long the cluster must have been the same before anybody is asked.
        package var calm: Duration = .seconds(5)
        /// How long a client that was asked to move takes to be counted where it went.
        package var arrival: Duration

        package init(rate: Int, tolerance: Double, arrival: Duration) {
            self.rate = max(1, rate)
            self.tolerance = max(0.01, tolerance)
            self.arrival = arrival
        }
    }

    /// What one node serves and could serve.
    package struct Load: Sendable, Equatable {
        package var incarnation: String
        package var connections: Int
        package var limit: Int

        package init(incarnation: String, connections: Int, limit: Int) {
            self.incarnation = incarnation
            self.connections = connections
            self.limit = limit
        }
    }

    package let settings: Settings
    private var incarnations: Set<String> = []
    private var sameSince: MonotonicTime?
    private var lastStep: MonotonicTime?
    private var asked = RecentCount(span: .seconds(1))
    /// How many may still be asked to move before the cluster changes; `nil` until it is known
    /// how many are too many.
    private var left: Int?
    private var underWay: RecentCount
    /// How many were asked to move since the cluster changed.
    package private(set) var moved = 0

    /// True while clients are asked to move.
    package var isMoving: Bool { left.map { $0 > 0 } ?? false }

    /// So few are not worth a move.
    static let leastExcess = 5.0

    package init(_ settings: Settings) {
        self.settings = settings
        underWay = RecentCount(span: settings.arrival)
    }

    /// The loads of the nodes that are up; none where anything is in motion: a node that joins or
    /// drains, or leases that nobody can read.
    package static func loads(of view: ClusterView) -> [String: Load] {
        guard !view.isStale, view.standing == .member else { return [:] }
        var loads: [String: Load] = [:]
        for member in view.members where member.isAlive {
            guard member.report.state == .up else { return [:] }
            loads[member.id] = Load(
                incarnation: member.incarnation, connections: member.report.connections,
                limit: member.report.connectionsMax)
        }
        return loads
    }

    /// - Parameters:
    ///   - connections: What this node serves at this moment, which its own lease may not say yet.
    ///   - node: This one.
    /// - Returns: How many clients to ask to move now.
    package mutating func step(
        _ loads: [String: Load], node: String, connections: Int, at now: MonotonicTime
    ) -> Int {
        let elapsed = lastStep.map { now - $0 } ?? .zero
        lastStep = now
        let seen = Set(loads.map { "\($0.key) \($0.value.incarnation)" })
        if seen != incarnations || sameSince == nil {
            // The first cluster a node sees is no change: it has just come itself, with nobody.
            incarnations = seen
            sameSince = now
            left = nil
            moved = 0
            return 0
        }
        guard loads.count > 1, loads[node] != nil, let sameSince,
            now - sameSince >= settings.calm, left != 0
        else { return 0 }
        let moving = underWay.count(at: now)
        let total = loads.reduce(connections + moving) {
            $0 + ($1.key == node ? 0 : $1.value.connections)
        }
        let limits = loads.values.reduce(0) { $0 + $1.limit }
        let part =
            limits > 0
            ? Double(loads[node]?.limit ?? 0) / Double(limits) : 1 / Double(loads.count)
        let share = Double(total) * part
        let excess = Double(connections) - share
        let tolerated = max(Self.leastExcess, share * settings.tolerance)
        guard let left else {
            // Level enough: nothing is begun, and nothing is later because of clients that come
            // and go by themselves.
            self.left = excess > tolerated ? Int(excess * 2) : 0
            return 0
        }
        guard excess > tolerated / 2 else {
            self.left = 0
            return 0
        }
        // Evenly over the steps within a second, and never more in one than is configured.
        let pace = (elapsed.inSeconds * Double(settings.rate)).rounded(.up)
        let allowed = settings.rate - asked.count(at: now)
        let count = min(Int(min(pace, 1e6)), allowed, Int(excess.rounded(.up)), left)
        asked.add(count, at: now)
        self.left = left - count
        moved += count
        underWay.add(count, at: now)
        return count
    }
}
