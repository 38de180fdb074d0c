// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient

/// One time that partitions changed hands.
package struct Rebalance: Sendable, Equatable {
    /// One partition's way from one node to another.
    package struct Move: Sendable, Equatable {
        package let partition: TopicPartition
        /// `nil` where nobody was known to read it before.
        package let from: String?
        package let to: String
        /// Milliseconds for which no lease named it.
        package let stoodStill: UInt64

        package init(partition: TopicPartition, from: String?, to: String, stoodStill: UInt64) {
            self.partition = partition
            self.from = from
            self.to = to
            self.stoodStill = stoodStill
        }
    }

    /// Milliseconds since 1970, by Redis' clock.
    package let began: UInt64
    package internal(set) var ended: UInt64
    /// What set it off: `node-2 died`, `node-4 joined`, or `the group reassigned`.
    package internal(set) var reasons: [String]
    package internal(set) var moves: [Move] = []
    /// Moves that are counted and not kept.
    package internal(set) var movesLeftOut = 0
}

/// Finds the rebalances in what leases say one after the other, and keeps the last of them.
///
/// View: cluster, as one node saw it: to the grain of a renewal, and from the node's start on.
package struct RebalanceLog: Sendable {
    package static let kept = 32
    static let movesKept = 2000
    /// A rebalance is over when everything is read and nothing has moved for this long, ms.
    static let quiet: UInt64 = 3000

    private var owners: [TopicPartition: String] = [:]
    private var lastOwner: [TopicPartition: String] = [:]
    /// Since when nobody reads these, ms.
    package private(set) var unowned: [TopicPartition: UInt64] = [:]
    private var open: Rebalance?
    private var closed: [Rebalance] = []
    private var hasBegun = false

    package init() {}

    /// Newest first.
    package var rebalances: [Rebalance] { (open.map { [$0] } ?? []) + closed.reversed() }

    /// - Parameters:
    ///   - seen: The partitions that leases name now, and by whom.
    ///   - lastHeard: When a dead node was last known to live, ms: its partitions stand still
    ///     from then on.
    package mutating func take(
        _ seen: [TopicPartition: String], changes: [MembershipChange],
        lastHeard: (String) -> UInt64, at now: UInt64
    ) {
        defer { owners = seen }
        let reasons = changes.map(\.reason)
        guard hasBegun else {
            // What was so before this node came is nobody's move.
            hasBegun = true
            lastOwner = seen
            return
        }
        for (partition, owner) in owners where seen[partition] == nil {
            unowned[partition] = max(1, min(now, lastHeard(owner)))
            note(reasons, at: now)
        }
        for (partition, owner) in seen where owners[partition] != owner {
            let since = unowned.removeValue(forKey: partition)
            let from = lastOwner[partition]
            lastOwner[partition] = owner
            note(reasons, at: now)
            guard from != owner || since != nil else { continue }
            add(
                .init(
                    partition: partition, from: from, to: owner,
                    stoodStill: since.map { now - min(now, $0) } ?? 0))
        }
        if !reasons.isEmpty, open != nil { note(reasons, at: now) }
        if let rebalance = open, unowned.isEmpty, now - min(now, rebalance.ended) > Self.quiet {
            close(rebalance)
        }
    }

    private mutating func note(_ reasons: [String], at now: UInt64) {
        var rebalance = open ?? Rebalance(began: now, ended: now, reasons: [])
        for reason in reasons where !rebalance.reasons.contains(reason) {
            if rebalance.reasons.count < 32 { rebalance.reasons.append(reason) }
        }
        rebalance.ended = now
        open = rebalance
    }

    private mutating func add(_ move: Rebalance.Move) {
        guard let count = open?.moves.count, count < Self.movesKept else {
            open?.movesLeftOut += 1
            return
        }
        open?.moves.append(move)
    }

    private mutating func close(_ rebalance: Rebalance) {
        var rebalance = rebalance
        rebalance.moves.sort { $0.partition < $1.partition }
        closed.append(rebalance)
        if closed.count > Self.kept { closed.removeFirst() }
        open = nil
    }
}

extension MembershipChange {
    var reason: String {
        switch self {
        case .joined(let id): "\(id) joined"
        case .left(let id): "\(id) left"
        case .died(let id): "\(id) died"
        case .returned(let id): "\(id) returned"
        case .restarted(let id): "\(id) restarted"
        }
    }
}
