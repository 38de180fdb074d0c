// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO

/// One librdkafka client, shared by its owner and the threads that ask it something slow.
///
/// Threads: any; librdkafka's client object is itself safe across threads. The owner calls
/// ``destroy(flags:)`` exactly once, when no other call can follow.
@safe
final class ClientHandle: @unchecked Sendable {
    // @unchecked: the pointer is set once in init, and what it points at locks itself.
    let client: OpaquePointer
    let relay: LogRelay
    let log: Logger
    private let queries = Lock<Queries>(Queries())

    /// Slow questions that may be under way at once; each has a thread.
    static let queriesMax = 8

    private struct Queries {
        var threads: [NamedThread] = []
        var isClosed = false
    }

    init(_ client: OpaquePointer, log: Logger) {
        unsafe self.client = client
        relay = LogRelay(log)
        self.log = log
    }

    /// Runs a blocking question on a thread of its own.
    ///
    /// - Returns: Why it was not started, or `nil`.
    func ask(_ name: String, _ question: @escaping @Sendable (ClientHandle) -> Void) -> KafkaError?
    {
        queries.withLock { queries in
            guard !queries.isClosed else { return KafkaError(.closed, "the client is closed") }
            queries.threads.removeAll { $0.join(within: .zero) }
            guard queries.threads.count < Self.queriesMax else {
                return KafkaError(
                    .queueFull, "\(Self.queriesMax) questions to Kafka are already under way",
                    isRetriable: true)
            }
            queries.threads.append(NamedThread(name) { question(self) })
            return nil
        }
    }

    /// Ends the client. Blocks until questions under way and librdkafka's threads have ended.
    func destroy(flags: Int32) {
        let threads = queries.withLock { queries in
            queries.isClosed = true
            return queries.threads
        }
        for thread in threads { thread.join() }
        unsafe rd_kafka_destroy_flags(client, flags)
    }

    /// The error that put the client beyond repair, if there is one.
    var fatalError: KafkaError? {
        var text = [CChar](repeating: 0, count: 512)
        let code = unsafe rd_kafka_fatal_error(client, &text, text.count)
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return nil }
        return KafkaError(code, ClientConfiguration.string(text), isFatal: true)
    }

    /// True once a group has answered a request to join.
    var hasMemberID: Bool {
        guard let id = unsafe rd_kafka_memberid(client) else { return false }
        defer { unsafe rd_kafka_mem_free(client, id) }
        return unsafe id.pointee != 0
    }

    // MARK: - Blocking questions

    /// The first and next offsets of each partition, two requests per leader in all.
    ///
    /// librdkafka's own watermark query asks for one partition at a time, and before 2.3 ignores
    /// its timeout. A look-up by time with the two special times of the protocol (ListOffsets,
    /// timestamp -2 and -1) answers the same for many.
    func watermarks(of partitions: [TopicPartition], within limit: Duration) throws(KafkaError)
        -> [TopicPartition: KafkaWatermarks]
    {
        guard !partitions.isEmpty else { return [:] }
        let deadline = MonotonicTime.now + limit
        let low = try offsets(of: partitions, at: .beginning, before: deadline)
        let high = try offsets(of: partitions, at: .end, before: deadline)
        var found: [TopicPartition: KafkaWatermarks] = [:]
        for (partition, first) in low {
            guard let next = high[partition] else { continue }
            found[partition] = KafkaWatermarks(low: first, high: max(first, next))
        }
        return found
    }

    private func offsets(
        of partitions: [TopicPartition], at edge: KafkaOffset, before deadline: MonotonicTime
    ) throws(KafkaError) -> [TopicPartition: Int64] {
        let list = PartitionList(capacity: partitions.count)
        for partition in Set(partitions) { list.add(partition, rawOffset: edge.raw) }
        let left = deadline - MonotonicTime.now
        let code = unsafe rd_kafka_offsets_for_times(client, list.pointer, left.kafkaMilliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(code, "offsets of \(partitions.count) partitions: \(text(of: code))")
        }
        var found: [TopicPartition: Int64] = [:]
        for entry in list.entries {
            guard entry.error == RD_KAFKA_RESP_ERR_NO_ERROR, entry.offset >= 0 else {
                throw KafkaError(
                    entry.error, "offsets of \(entry.partition): \(text(of: entry.error))")
            }
            found[entry.partition] = entry.offset
        }
        return found
    }

    /// The group's committed offsets; a partition that has none is left out.
    func committedOffsets(of partitions: [TopicPartition], within limit: Duration)
        throws(KafkaError) -> [TopicPartition: Int64]
    {
        guard !partitions.isEmpty else { return [:] }
        let list = PartitionList(Set(partitions))
        let code = unsafe rd_kafka_committed(client, list.pointer, limit.kafkaMilliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(code, "committed offsets: \(text(of: code))")
        }
        var found: [TopicPartition: Int64] = [:]
        for entry in list.entries {
            guard entry.error == RD_KAFKA_RESP_ERR_NO_ERROR else {
                throw KafkaError(
                    entry.error, "committed offset of \(entry.partition): \(text(of: entry.error))")
            }
            if entry.offset >= 0 { found[entry.partition] = entry.offset }
        }
        return found
    }

    /// One topic, or all of them where `topic` is `nil`.
    func topics(named topic: String? = nil, servers: [String], within limit: Duration)
        throws(KafkaError) -> [KafkaTopic]
    {
        var handle: OpaquePointer?
        if let topic {
            unsafe handle = rd_kafka_topic_new(client, topic, nil)
            guard unsafe handle != nil else {
                throw KafkaError(rd_kafka_last_error(), "topic \"\(topic)\"")
            }
        }
        defer { if let handle = unsafe handle { unsafe rd_kafka_topic_destroy(handle) } }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = unsafe rd_kafka_metadata(
            client, topic == nil ? 1 : 0, handle, &metadata, limit.kafkaMilliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata = unsafe metadata else {
            let error = KafkaError(code)
            guard error.code == .timedOut || error.code == .brokersUnavailable else { throw error }
            throw KafkaError(
                .brokersUnavailable,
                "brokers unreachable: \(servers.joined(separator: ", ")) "
                    + "(nothing answered within \(limit))",
                name: error.name, isRetriable: true)
        }
        defer { unsafe rd_kafka_metadata_destroy(metadata) }
        var found: [KafkaTopic] = []
        for index in unsafe 0..<Int(metadata.pointee.topic_cnt) {
            let entry = unsafe metadata.pointee.topics[index]
            let name = unsafe String(cString: entry.topic)
            let problem = unsafe entry.err
            if problem == RD_KAFKA_RESP_ERR_NO_ERROR, unsafe entry.partition_cnt > 0 {
                unsafe found.append(
                    KafkaTopic(name: name, partitionCount: Int(entry.partition_cnt)))
            } else if topic != nil {
                throw Self.problem(of: name, problem)
            }
        }
        guard topic == nil || !found.isEmpty else {
            throw Self.problem(of: topic!, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        }
        return found
    }

    private static func problem(of topic: String, _ code: rd_kafka_resp_err_t) -> KafkaError {
        let error = KafkaError(code)
        guard error.code == .topicUnknown || code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            return KafkaError(code, "topic \"\(topic)\": \(error.detail)")
        }
        return KafkaError(.topicUnknown, "topic \"\(topic)\" does not exist", name: error.name)
    }

    private func text(of code: rd_kafka_resp_err_t) -> String {
        unsafe rd_kafka_err2str(code).map { unsafe String(cString: $0) } ?? "?"
    }
}
