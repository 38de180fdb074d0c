// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
package import Observability
package import PosixIO

/// Reads given stretches of several partitions at once, outside any group.
///
/// Each partition has a queue of its own, so the caller takes records in whatever order of
/// partitions it likes while librdkafka fetches all of them side by side. What was fetched beyond
/// a stretch stays in the queue for the next one, where that goes on from it. The bytes that wait
/// are bounded for each partition, and so is the number of partitions.
///
/// Threads: one at a time, which may block.
@safe
package final class KafkaRangeReader {
    /// What ``read(_:at:until:_:)`` found at an offset.
    package enum Found: Sendable {
        /// The record was lent.
        case record
        /// Kafka holds nothing at this offset, but later records or the end of the partition:
        /// compaction took the record, or it marks the end of a transaction.
        case nothing
        /// The partition does not hold the offset at all.
        case outOfRange
        /// Nothing came in time.
        case late
        case failed(KafkaError)
    }

    /// One partition as it is being read.
    @safe
    private final class Stream {
        let partition: TopicPartition
        let queue: OpaquePointer
        /// Everything below it has been taken from the queue, or is not there.
        var position: Int64 = 0
        /// The record that was taken last and has not been lent yet; its offset is
        /// `position - 1`.
        var pending: KafkaRecord?
        var hasPending = false
        var isAssigned = false
        var hasBegun = false
        var lastUse: UInt64 = 0

        init(_ partition: TopicPartition, queue: OpaquePointer) {
            self.partition = partition
            unsafe self.queue = queue
        }

        /// The lowest offset that can still be had without another fetch position.
        var next: Int64 { hasPending ? position - 1 : position }

        func dropPending() {
            pending = nil
            hasPending = false
        }

        deinit {
            pending = nil
            unsafe rd_kafka_queue_destroy(queue)
        }
    }

    /// Partitions that may be read at once. Each may hold ``queuedBytesMax`` and one fetch.
    package static let partitionsMax = 128
    private static let queuedBytesMax = 512 << 10
    /// Skipping so many records costs less than fetching anew from further on.
    private static let skipMax: Int64 = 2000
    /// When a queue that gave records is empty for so long, librdkafka is woken.
    private static let stallAfter: Duration = .milliseconds(5)
    /// The same for one that has not begun, and the longest between two wakings.
    private static let startAfter: Duration = .milliseconds(320)
    private static let stallMax: Duration = .milliseconds(1000)

    private let handle: ClientHandle
    private let mainQueue: OpaquePointer
    private let settings: KafkaSettings
    private var streams: [TopicPartition: Stream] = [:]
    private var uses: UInt64 = 0
    private var isClosed = false

    /// Creates the client and starts to connect.
    package init(
        settings: KafkaSettings, fetchWaitMax: Duration = .milliseconds(10), log: Logger
    ) throws(KafkaError) {
        let fetchWait = fetchWaitMax.kafkaMilliseconds
        // What librdkafka would fetch ahead by default, 64 MiB a queue, is far more than a page
        // of replay needs. Who sets them for the whole node knows why.
        let bounds = [
            ("queued.min.messages", "2000"),
            ("queued.max.messages.kbytes", "\(Self.queuedBytesMax / 1024)"),
            ("fetch.message.max.bytes", "\(Self.queuedBytesMax / 2)"),
        ].filter { name, _ in
            settings.properties[name] == nil
                && (name != "fetch.message.max.bytes"
                    || settings.properties["max.partition.fetch.bytes"] == nil)
        }
        let configuration = try ClientConfiguration(
            settings,
            reserved: [
                // librdkafka wants a name to assign by hand; without subscribing nobody joins it.
                ("group.id", "\(settings.clientID)-replay"),
                ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"), ("isolation.level", "read_committed"),
                ("enable.partition.eof", "true"), ("fetch.wait.max.ms", "\(fetchWait)"),
                ("fetch.error.backoff.ms", "10"),
                ("socket.timeout.ms", "\(max(10_000, fetchWait + 2000))"),
                ("allow.auto.create.topics", "false"),
            ] + bounds)
        let events = RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_FETCH
        let handle = try configuration.start(RD_KAFKA_CONSUMER, events: events, log: log)
        unsafe rd_kafka_poll_set_consumer(handle.client)
        guard let queue = unsafe rd_kafka_queue_get_consumer(handle.client) else {
            handle.destroy(flags: RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
            throw KafkaError(.other, "librdkafka gave no consumer queue")
        }
        self.handle = handle
        unsafe mainQueue = queue
        self.settings = settings
    }

    deinit { close(within: .zero) }

    /// Makes ready to read these partitions from these offsets. Where all of them go on from where
    /// they were left, nothing is asked of Kafka.
    ///
    /// - Parameter positions: At most ``partitionsMax``, none of them twice.
    package func place(_ positions: [(TopicPartition, Int64)]) throws(KafkaError) {
        precondition(positions.count <= Self.partitionsMax)
        guard !isClosed else { throw KafkaError(.closed, "the reader is closed") }
        drainMainQueue()
        uses += 1
        var isReady = true
        for (partition, offset) in positions {
            let stream = try stream(of: partition)
            stream.lastUse = uses
            let canGoOn =
                stream.isAssigned && stream.next <= offset && offset - stream.next <= Self.skipMax
            if !canGoOn { isReady = false }
        }
        if !isReady { try assign(positions) }
    }

    /// Assigns these and, as far as there is room, those that were read last: they are likely to
    /// be wanted again.
    private func assign(_ positions: [(TopicPartition, Int64)]) throws(KafkaError) {
        for (partition, offset) in positions {
            guard let stream = streams[partition] else { continue }
            stream.dropPending()
            stream.position = offset
            stream.isAssigned = true
        }
        let others = streams.values.filter { $0.isAssigned && $0.lastUse != uses }
            .sorted { $0.lastUse > $1.lastUse }
        for stream in others.dropFirst(Self.partitionsMax - positions.count) {
            stream.dropPending()
            streams[stream.partition] = nil
        }
        let list = PartitionList(capacity: streams.count)
        for stream in streams.values where stream.isAssigned {
            // What had been fetched goes with the old assignment.
            stream.position = stream.next
            stream.dropPending()
            stream.hasBegun = false
            list.add(stream.partition, rawOffset: stream.position)
        }
        let code = unsafe rd_kafka_assign(handle.client, list.pointer)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            for stream in streams.values { stream.isAssigned = false }
            throw KafkaError(code, "assigning \(list.count) partitions")
        }
    }

    private func stream(of partition: TopicPartition) throws(KafkaError) -> Stream {
        if let known = streams[partition] { return known }
        guard
            let queue = unsafe rd_kafka_queue_get_partition(
                handle.client, partition.topic, partition.partition)
        else { throw KafkaError(.other, "librdkafka gave no queue for \(partition)") }
        // Before it is assigned, so that nothing goes to the common queue.
        unsafe rd_kafka_queue_forward(queue, nil)
        let stream = unsafe Stream(partition, queue: queue)
        streams[partition] = stream
        return stream
    }

    /// Lends the record at `offset`, or says why not. Call ``place(_:)`` first; offsets of a
    /// partition ascend.
    package func read(
        _ partition: TopicPartition, at offset: Int64, until deadline: MonotonicTime,
        _ body: (borrowing KafkaRecord) -> Void
    ) -> Found {
        guard let stream = streams[partition], stream.isAssigned else {
            return .failed(KafkaError(.closed, "\(partition) is not being read"))
        }
        var stall = stream.hasBegun ? Self.stallAfter : Self.startAfter
        while true {
            if stream.next > offset { return .nothing }
            if stream.hasPending {
                stream.hasPending = false
                guard let record = stream.pending.take() else { continue }
                guard stream.position - 1 == offset else { continue }
                body(record)
                return .record
            }
            let left = deadline - MonotonicTime.now
            guard left > .zero else { return .late }
            guard
                let event = unsafe rd_kafka_queue_poll(
                    stream.queue, min(left, stall).kafkaMilliseconds)
            else {
                drainMainQueue()
                if left > stall { wake(stream, at: offset) }
                stall = min(stall * 8, Self.stallMax)
                continue
            }
            if let problem = unsafe take(event, stream) { return problem }
        }
    }

    /// Makes librdkafka fetch at once.
    ///
    /// A queue that was full is looked at again only after a second (before librdkafka 2.2), and
    /// taking records out of it wakes nobody. Seeking to where it stands does, and costs no more
    /// than a fetch under way; hence ever longer between two of them.
    private func wake(_ stream: Stream, at offset: Int64) {
        guard
            let topic = unsafe rd_kafka_topic_new(handle.client, stream.partition.topic, nil)
        else { return }
        stream.position = max(stream.position, offset)
        _ = unsafe rd_kafka_seek(topic, stream.partition.partition, stream.position, 0)
        unsafe rd_kafka_topic_destroy(topic)
    }

    /// Takes one event of a partition's queue over; returns what ends the reading.
    private func take(_ event: OpaquePointer, _ stream: Stream) -> Found? {
        if unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH {
            guard let record = unsafe KafkaRecord(event) else {
                unsafe rd_kafka_event_destroy(event)
                return nil
            }
            let offset = record.offset
            guard offset >= stream.position else { return nil }
            stream.position = offset + 1
            stream.pending = consume record
            stream.hasPending = true
            stream.hasBegun = true
            return nil
        }
        defer { unsafe rd_kafka_event_destroy(event) }
        guard unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR else { return nil }
        let code = unsafe rd_kafka_event_error(event)
        if code == RD_KAFKA_RESP_ERR__PARTITION_EOF {
            guard let entry = unsafe rd_kafka_event_topic_partition(event) else { return nil }
            stream.position = max(stream.position, unsafe entry.pointee.offset)
            unsafe rd_kafka_topic_partition_destroy(entry)
            return nil
        }
        let text = unsafe rd_kafka_event_error_string(event).map { unsafe String(cString: $0) }
        let error = KafkaError(code, "\(stream.partition): \(text ?? "")")
        stream.isAssigned = false
        return error.code == .offsetOutOfRange ? .outOfRange : .failed(error)
    }

    /// Stops fetching until the next ``place(_:)``.
    package func rest() {
        guard !isClosed else { return }
        drainMainQueue()
        guard !streams.isEmpty else { return }
        unsafe rd_kafka_assign(handle.client, nil)
        streams.removeAll()
    }

    /// The first and next offset of a partition; `nil` where the partition does not exist. Blocks.
    package func watermarks(of partition: TopicPartition, within limit: Duration)
        throws(KafkaError) -> KafkaWatermarks?
    {
        guard !isClosed else { throw KafkaError(.closed, "the reader is closed") }
        let deadline = MonotonicTime.now + limit
        let topics = try handle.topics(servers: settings.bootstrapServers, within: limit)
        guard let topic = topics.first(where: { $0.name == partition.topic }),
            partition.partition < topic.partitionCount
        else { return nil }
        let found = try handle.watermarks(of: [partition], within: deadline - MonotonicTime.now)
        guard let marks = found[partition] else {
            throw KafkaError(
                .timedOut, "no watermarks of \(partition)", isRetriable: true)
        }
        return marks
    }

    /// Errors of the whole client and its log lines; nobody else takes them.
    private func drainMainQueue() {
        while let event = unsafe rd_kafka_queue_poll(mainQueue, 0) {
            if unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG {
                unsafe handle.relay.take(event)
            }
            unsafe rd_kafka_event_destroy(event)
        }
    }

    /// Ends the client; returns after `limit` at the latest, while a thread goes on ending it.
    package func close(within limit: Duration) {
        guard !isClosed else { return }
        isClosed = true
        // Queues and records first: they belong to the client.
        streams.removeAll()
        let ending = unsafe Ending(handle: handle, queue: mainQueue)
        let thread = NamedThread("kafka-close") { ending.run() }
        _ = thread.join(within: limit)
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
