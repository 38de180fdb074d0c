// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient

/// Which partitions that nobody reads a node reads until the group has given them to somebody:
/// those of dead nodes and of nodes that drain, and those that a living one has lost without another getting them, as when
/// its consumer failed, or the group forgot its members in an outage of Kafka's.
///
/// A pure function of what the leases say, so that all nodes that see the same come to the same:
/// one reader for each orphan. Where they see different things for a moment, two may read one
/// partition, and the second append of each event finds it there.
package enum OrphanPlan {
    /// How long a partition that a living node gave up may be without a reader, ms. The group
    /// takes less to move one from node to node.
    package static let patience: UInt64 = 1000

    /// - Parameter reading: What this node reads by the group's assignment at this moment, which
    ///   its own lease may not say yet.
    /// - Returns: `nil` where nothing can be said: the plan before goes on.
    package static func orphans(
        of view: ClusterView, readBy node: String, reading: [TopicPartition]
    ) -> Set<TopicPartition>? {
        // Without Redis nobody appends, and nobody knows who is there.
        guard !view.isStale else { return nil }
        guard view.standing == .member else { return [] }
        let living = view.members.filter { $0.isAlive && $0.report.state == .up }.map(\.id)
        guard living.contains(node) else { return [] }
        var taken = Set(reading)
        // A node that drains is about to let go: who reads on has begun before it has.
        func isGoing(_ member: MemberView) -> Bool {
            !member.isAlive || member.report.state == .draining
        }
        for member in view.members where !isGoing(member) {
            taken.formUnion(member.report.partitions)
        }
        var abandoned: Set<TopicPartition> = []
        for member in view.members where isGoing(member) {
            abandoned.formUnion(member.report.partitions)
            abandoned.formUnion(member.report.orphans)
        }
        for (partition, since) in view.unowned where view.redisTime >= since + patience {
            abandoned.insert(partition)
        }
        // What this node has begun to read is nobody's loss any more, and is read on: also where
        // another's hash is higher, one that has just joined, until that one's lease says so.
        // Nobody else would begin before it had stood still for a while.
        var begun: Set<TopicPartition> = []
        var readByOthers: Set<TopicPartition> = []
        for member in view.members where !isGoing(member) {
            if member.id == node {
                begun.formUnion(member.report.orphans)
            } else {
                readByOthers.formUnion(member.report.orphans)
            }
        }
        begun.subtract(readByOthers)
        return abandoned.union(begun).subtracting(taken).filter {
            begun.contains($0) || reader(of: $0, among: living) == node
        }
    }

    /// The node with the highest hash of its name and the partition's (rendezvous hashing): when
    /// a node goes, only what it read changes hands.
    package static func reader(of partition: TopicPartition, among nodes: [String]) -> String? {
        nodes.max {
            let (a, b) = (weight($0, partition), weight($1, partition))
            return (a, $0) < (b, $1)
        }
    }

    /// FNV-1a, the same on every machine, and a finaliser, because FNV's high bits are poor.
    private static func weight(_ node: String, _ partition: TopicPartition) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(node) \(partition.topic) \(partition.partition)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
        }
        hash = (hash ^ (hash >> 30)) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ (hash >> 27)) &* 0x94d0_49bb_1331_11eb
        return hash ^ (hash >> 31)
    }
}
