// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka

/// One partition of one topic.
package struct TopicPartition: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let topic: String
    package let partition: Int32

    package init(_ topic: String, _ partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    package var description: String { "\(topic)[\(partition)]" }

    package static func < (a: TopicPartition, b: TopicPartition) -> Bool {
        (a.topic, a.partition) < (b.topic, b.partition)
    }
}

/// Where to read a partition from.
package enum KafkaOffset: Sendable, Hashable, CustomStringConvertible {
    /// The record with this offset, or the next one that exists. A negative number counts as 0.
    case at(Int64)
    /// The oldest record that the partition holds.
    case beginning
    /// What is written from here on.
    case end
    /// The group's committed offset; where it has none, the consumer reports
    /// ``KafkaEvent/positionMissing(_:)`` and reads nothing.
    case committed

    var raw: Int64 {
        switch self {
        case .at(let offset): max(0, offset)
        case .beginning: Int64(RD_KAFKA_OFFSET_BEGINNING)
        case .end: Int64(RD_KAFKA_OFFSET_END)
        case .committed: Int64(RD_KAFKA_OFFSET_STORED)
        }
    }

    package var description: String {
        switch self {
        case .at(let offset): "\(offset)"
        case .beginning: "beginning"
        case .end: "end"
        case .committed: "committed"
        }
    }
}

/// The first and the next offset of a partition: it holds `low..<high`.
package struct KafkaWatermarks: Sendable, Hashable {
    package let low: Int64
    package let high: Int64

    package init(low: Int64, high: Int64) {
        self.low = low
        self.high = high
    }
}

/// What Kafka knows about where to begin with a partition.
package struct KafkaPartitionStart: Sendable, Hashable {
    package let watermarks: KafkaWatermarks
    /// The group's committed offset, where it has one.
    package let committed: Int64?

    package init(watermarks: KafkaWatermarks, committed: Int64?) {
        self.watermarks = watermarks
        self.committed = committed
    }
}

/// A topic and how many partitions it has.
package struct KafkaTopic: Sendable, Hashable {
    package let name: String
    package let partitionCount: Int

    package init(name: String, partitionCount: Int) {
        self.name = name
        self.partitionCount = partitionCount
    }
}

/// librdkafka's list of partitions, with exactly one owner.
@safe
struct PartitionList: ~Copyable {
    let pointer: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

    init(capacity: Int) {
        unsafe pointer = rd_kafka_topic_partition_list_new(Int32(clamping: capacity))
    }

    init(_ partitions: some Collection<TopicPartition>) {
        self.init(capacity: partitions.count)
        for partition in partitions { add(partition, rawOffset: nil) }
    }

    deinit { unsafe rd_kafka_topic_partition_list_destroy(pointer) }

    func add(_ partition: TopicPartition, rawOffset: Int64?) {
        let entry = unsafe rd_kafka_topic_partition_list_add(
            pointer, partition.topic, partition.partition)
        if let rawOffset { unsafe entry!.pointee.offset = rawOffset }
    }

    var count: Int { unsafe Int(pointer.pointee.cnt) }

    /// One entry: the partition, its offset and its error.
    struct Entry {
        let partition: TopicPartition
        let offset: Int64
        let error: rd_kafka_resp_err_t
    }

    var entries: [Entry] { unsafe Self.entries(of: pointer) }

    static func entries(of list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) -> [Entry] {
        unsafe (0..<Int(list.pointee.cnt)).map { index in
            let element = unsafe list.pointee.elems[index]
            return unsafe Entry(
                partition: TopicPartition(String(cString: element.topic), element.partition),
                offset: element.offset, error: element.err)
        }
    }
}
