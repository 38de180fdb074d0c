// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
package import Observability
import PosixIO

/// Reads given partitions from given offsets, outside any group.
///
/// Threads: one at a time, which may block. For verification and for replay: a reader commits
/// nothing and disturbs nobody.
@safe
package final class KafkaReader {
    let handle: ClientHandle
    private let queue: OpaquePointer
    private let settings: KafkaSettings
    private var isClosed = false

    /// What ``poll(within:_:)`` found.
    package enum Event: ~Copyable {
        case record(KafkaRecord)
        /// Everything the partition holds has been read; more may be written.
        case endOfPartition(TopicPartition, nextOffset: Int64)
        /// The partition does not hold the offset, or it has been deleted. It is not read on.
        case offsetOutOfRange(TopicPartition, offset: Int64)
        case error(KafkaError)
    }

    /// Creates the client and starts to connect.
    ///
    /// - Parameter fetchWaitMax: How long a broker may hold an empty fetch.
    package init(
        settings: KafkaSettings, fetchWaitMax: Duration = .milliseconds(50),
        queuedBytesMax: Int = 16 << 20, log: Logger
    ) throws(KafkaError) {
        let fetchWait = fetchWaitMax.kafkaMilliseconds
        let configuration = try ClientConfiguration(
            settings,
            reserved: [
                // librdkafka wants a name to assign by hand; without subscribing nobody joins it.
                ("group.id", "\(settings.clientID)-reader"),
                ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"), ("isolation.level", "read_committed"),
                ("enable.partition.eof", "true"), ("fetch.wait.max.ms", "\(fetchWait)"),
                ("fetch.error.backoff.ms", "10"),
                ("socket.timeout.ms", "\(max(10_000, fetchWait + 2000))"),
                ("queued.max.messages.kbytes", "\(max(1, queuedBytesMax / 1024))"),
                ("allow.auto.create.topics", "false"),
            ])
        let events = RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_FETCH
        let handle = try configuration.start(RD_KAFKA_CONSUMER, events: events, log: log)
        unsafe rd_kafka_poll_set_consumer(handle.client)
        guard let queue = unsafe rd_kafka_queue_get_consumer(handle.client) else {
            handle.destroy(flags: RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
            throw KafkaError(.other, "librdkafka gave no consumer queue")
        }
        self.handle = handle
        unsafe self.queue = queue
        self.settings = settings
    }

    deinit { close(within: .zero) }

    /// Reads these partitions from these offsets, and no others.
    package func assign(_ positions: [(TopicPartition, KafkaOffset)]) throws(KafkaError) {
        guard !isClosed else { throw KafkaError(.closed, "the reader is closed") }
        let list = PartitionList(capacity: positions.count)
        for (partition, position) in positions { list.add(partition, rawOffset: position.raw) }
        let code = unsafe rd_kafka_assign(handle.client, list.pointer)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(code, "assigning \(positions.count) partitions")
        }
    }

    /// Waits at most `limit` for something and lends it to `body`; false where nothing came.
    package func poll(within limit: Duration, _ body: (borrowing Event) -> Void) -> Bool {
        guard !isClosed,
            let event = unsafe rd_kafka_queue_poll(queue, limit.kafkaMilliseconds)
        else { return false }
        if unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH {
            guard let record = unsafe KafkaRecord(event) else {
                unsafe rd_kafka_event_destroy(event)
                return true
            }
            let lent = Event.record(record)
            body(lent)
            return true
        }
        defer { unsafe rd_kafka_event_destroy(event) }
        switch unsafe rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_ERROR:
            let lent = unsafe Self.problem(event)
            body(lent)
        case RD_KAFKA_EVENT_LOG: unsafe handle.relay.take(event)
        default: break
        }
        return true
    }

    /// The next offset of each of the topic's partitions. Blocks.
    package func endOffsets(of topic: String, within limit: Duration) throws(KafkaError)
        -> [TopicPartition: Int64]
    {
        try watermarks(of: topic, within: limit).mapValues(\.high)
    }

    /// The first and next offset of each of the topic's partitions. Blocks.
    package func watermarks(of topic: String, within limit: Duration) throws(KafkaError)
        -> [TopicPartition: KafkaWatermarks]
    {
        let deadline = MonotonicTime.now + limit
        guard let found = try topics(within: limit).first(where: { $0.name == topic }) else {
            throw KafkaError(.topicUnknown, "topic \"\(topic)\" does not exist")
        }
        let partitions = (0..<Int32(clamping: found.partitionCount)).map {
            TopicPartition(topic, $0)
        }
        return try handle.watermarks(of: partitions, within: deadline - MonotonicTime.now)
    }

    /// All topics of the cluster. Blocks.
    package func topics(within limit: Duration) throws(KafkaError) -> [KafkaTopic] {
        guard !isClosed else { throw KafkaError(.closed, "the reader is closed") }
        return try handle.topics(servers: settings.bootstrapServers, within: limit)
    }

    /// Ends the client; returns after `limit` at the latest, while a thread goes on ending it.
    package func close(within limit: Duration) {
        guard !isClosed else { return }
        isClosed = true
        let ending = unsafe Ending(handle: handle, queue: queue)
        let thread = NamedThread("kafka-close") { ending.run() }
        _ = thread.join(within: limit)
    }

    private static func problem(_ event: OpaquePointer) -> Event {
        let code = unsafe rd_kafka_event_error(event)
        let text = unsafe rd_kafka_event_error_string(event).map { unsafe String(cString: $0) }
        guard let entry = unsafe rd_kafka_event_topic_partition(event) else {
            return .error(KafkaError(code, text))
        }
        defer { unsafe rd_kafka_topic_partition_destroy(entry) }
        let partition = unsafe TopicPartition(
            String(cString: entry.pointee.topic), entry.pointee.partition)
        let offset = unsafe entry.pointee.offset
        if code == RD_KAFKA_RESP_ERR__PARTITION_EOF {
            return .endOfPartition(partition, nextOffset: offset)
        }
        let error = KafkaError(code, text.map { "\(partition): \($0)" })
        return error.code == .offsetOutOfRange
            ? .offsetOutOfRange(partition, offset: offset) : .error(error)
    }

    /// Takes the client to the thread that ends it.
    @safe
    private struct Ending: @unchecked Sendable {
        // @unchecked: nobody else uses the queue any more.
        let handle: ClientHandle
        let queue: OpaquePointer

        func run() {
            unsafe rd_kafka_queue_destroy(queue)
            handle.destroy(flags: RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
        }
    }
}
