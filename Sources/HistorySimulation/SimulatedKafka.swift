// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient

/// Partitions of numbered records, who is said to own them, and what the group has committed.
///
/// A record's offset may leave a hole behind the one before it, as transactions do.
struct SimulatedKafka {
    struct Record {
        let offset: Int64
        /// Counts all records of the simulation; the event's content.
        let number: UInt32
    }

    let partitions: [TopicPartition]
    private(set) var records: [TopicPartition: [Record]] = [:]
    private(set) var owners: [TopicPartition: Int] = [:]
    var committed: [TopicPartition: Int64] = [:]
    private(set) var count: UInt32 = 0

    init(_ partitions: [TopicPartition], nodes: Int) {
        self.partitions = partitions
        for (place, partition) in partitions.enumerated() {
            records[partition] = []
            owners[partition] = place % nodes
        }
    }

    mutating func produce(to partition: TopicPartition, afterHole isHole: Bool) {
        let next = (records[partition]!.last?.offset ?? -1) + (isHole ? 2 : 1)
        records[partition]!.append(Record(offset: next, number: count))
        count += 1
    }

    mutating func give(_ partition: TopicPartition, to node: Int) { owners[partition] = node }

    func read(_ partition: TopicPartition, from offset: Int64, atMost limit: Int)
        -> ArraySlice<Record>
    {
        let all = records[partition]!
        var start = all.count
        while start > 0, all[start - 1].offset >= offset { start -= 1 }
        return all[start...].prefix(limit)
    }

    func end(of partition: TopicPartition) -> Int64 { (records[partition]!.last?.offset ?? -1) + 1 }
}
