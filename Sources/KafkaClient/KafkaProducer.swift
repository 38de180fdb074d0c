// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
package import Observability
import PosixIO
import Synchronization

/// Where a record was stored.
package struct KafkaDelivery: Sendable, Hashable {
    package let partition: Int32
    package let offset: Int64
}

/// Sends records, each stored by all in-sync replicas and once (`acks=all`, idempotent).
///
/// View: node. Threads: any may call; a thread of its own reports deliveries, one after another
/// and in order per partition, so a completion hands over and returns.
@safe
package final class KafkaProducer: Sendable {
    package typealias Completion = @Sendable (Result<KafkaDelivery, KafkaError>) -> Void

    /// The partition that librdkafka chooses: by the key as Java's clients do, else any.
    package static let anyPartition: Int32 = RD_KAFKA_PARTITION_UA

    private let handle: ClientHandle
    private let settings: KafkaSettings
    private let messageMaxBytes: Int
    private let state = ReportState()
    private let reports: NamedThread

    /// What the owner and the reporting thread share.
    private final class ReportState: Sendable {
        // `isStopping` and `outstanding` release and acquire: what was done before the stop, or
        // before a record was handed over, is seen by the reporting thread. librdkafka's own
        // locks say so as well, but the thread sanitizer does not see those.
        let isStopping = Atomic<Bool>(false)
        let failures = Atomic<UInt64>(0)
        let outstanding = Atomic<Int>(0)
        /// Calls that use the client at this moment; it is not ended before they have returned.
        let users = Atomic<Int>(0)

        /// Lends the client to `body`, unless it is being ended.
        ///
        /// Sequentially consistent: of a call that begins and a stop, one sees the other.
        func use<Result>(_ body: () throws(KafkaError) -> Result) throws(KafkaError) -> Result {
            users.wrappingAdd(1, ordering: .sequentiallyConsistent)
            defer { users.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
            guard !isStopping.load(ordering: .sequentiallyConsistent) else {
                throw KafkaError(.closed, "the producer is closed")
            }
            return try body()
        }

        func stop() { isStopping.store(true, ordering: .sequentiallyConsistent) }
    }

    /// Keeps a completion while librdkafka carries its address with the record.
    private final class Waiting: Sendable {
        let completion: Completion
        init(_ completion: @escaping Completion) { self.completion = completion }
    }

    /// Creates the client and starts to connect.
    ///
    /// - Parameter onBrokers: Gets how the brokers are, on the reporting thread, every
    ///   ``KafkaProducerSettings/brokersEvery``. The client then keeps a connection to each of
    ///   them, needed or not.
    /// - Throws: ``KafkaError/Code/configurationInvalid`` with the property's name.
    package init(
        settings: KafkaSettings, producer: KafkaProducerSettings = KafkaProducerSettings(),
        log: Logger, onBrokers: (@Sendable ([KafkaBroker]) -> Void)? = nil
    ) throws(KafkaError) {
        let watched: [(String, String)] =
            onBrokers == nil
            ? []
            : [
                ("statistics.interval.ms", "\(producer.brokersEvery.kafkaMilliseconds)"),
                ("enable.sparse.connections", "false"),
            ]
        let configuration = try ClientConfiguration(
            settings, reserved: producer.properties() + watched)
        let events =
            RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR
            | (onBrokers == nil ? 0 : RD_KAFKA_EVENT_STATS)
        let handle = try configuration.start(RD_KAFKA_PRODUCER, events: events, log: log)
        self.handle = handle
        self.settings = settings
        messageMaxBytes = producer.messageMaxBytes
        let state = self.state
        reports = NamedThread("kafka-reports") { Self.report(handle, state, onBrokers) }
    }

    deinit { state.stop() }

    /// Hands a record over for sending; the bytes are copied.
    ///
    /// - Parameters:
    ///   - partition: ``anyPartition`` lets the key decide.
    ///   - value: `nil` writes a tombstone.
    ///   - timestamp: Milliseconds since 1970; `nil` is this moment.
    ///   - completion: Called once on the reporting thread. Without one, a failure only counts in
    ///     ``failures``.
    /// - Throws: ``KafkaError/Code/queueFull`` where the caller has to wait or to drop,
    ///   ``KafkaError/Code/messageTooLarge``, ``KafkaError/Code/topicUnknown`` where that is known
    ///   already, ``KafkaError/Code/fatal``. `completion` is not called then.
    package func produce(
        topic: String, partition: Int32 = KafkaProducer.anyPartition, key: Span<UInt8>? = nil,
        value: Span<UInt8>?, headers: [(name: String, value: [UInt8])] = [],
        timestamp: Int64? = nil, completion: Completion? = nil
    ) throws(KafkaError) {
        let size = (key?.count ?? 0) + (value?.count ?? 0)
        guard size <= messageMaxBytes else {
            throw KafkaError(
                .messageTooLarge,
                "record of \(size) bytes for topic \"\(topic)\"; at most \(messageMaxBytes)")
        }
        try state.use { () throws(KafkaError) in
            try submit(topic, partition, key, value, headers, timestamp, completion)
        }
    }

    private func submit(
        _ topic: String, _ partition: Int32, _ key: Span<UInt8>?, _ value: Span<UInt8>?,
        _ headers: [(name: String, value: [UInt8])], _ timestamp: Int64?, _ completion: Completion?
    ) throws(KafkaError) {
        let waiting = unsafe completion.map { unsafe Unmanaged.passRetained(Waiting($0)) }
        // Before it is handed over: the report may come before this call returns.
        state.outstanding.wrappingAdd(1, ordering: .releasing)
        let error = unsafe withBytes(of: key) { key in
            unsafe withBytes(of: value) { value in
                unsafe send(
                    topic, partition, key, value, headers, timestamp, waiting?.toOpaque())
            }
        }
        guard let error = unsafe error else { return }
        state.outstanding.wrappingSubtract(1, ordering: .relaxed)
        unsafe waiting?.release()
        throw unsafe KafkaError(taking: error, about: "topic \"\(topic)\"")
    }

    /// Hands a record over for sending; see the other form.
    package func produce(
        topic: String, partition: Int32 = KafkaProducer.anyPartition, key: [UInt8]?,
        value: [UInt8]?, headers: [(name: String, value: [UInt8])] = [], timestamp: Int64? = nil,
        completion: Completion? = nil
    ) throws(KafkaError) {
        try produce(
            topic: topic, partition: partition, key: key?.span, value: value?.span,
            headers: headers, timestamp: timestamp, completion: completion)
    }

    private func send(
        _ topic: String, _ partition: Int32, _ key: UnsafeRawBufferPointer?,
        _ value: UnsafeRawBufferPointer?, _ headers: [(name: String, value: [UInt8])],
        _ timestamp: Int64?, _ opaque: UnsafeMutableRawPointer?
    ) -> OpaquePointer? {
        let list = unsafe headers.isEmpty ? nil : rd_kafka_headers_new(headers.count)
        for header in headers {
            let size = header.value.count
            unsafe rd_kafka_header_add(list, header.name, -1, header.value, size)
        }
        let error: OpaquePointer? = unsafe topic.withCString { topic in
            var parts = unsafe [rd_kafka_vu_t](repeating: rd_kafka_vu_t(), count: 8)
            unsafe parts[0].vtype = RD_KAFKA_VTYPE_TOPIC
            unsafe parts[0].u.cstr = topic
            unsafe parts[1].vtype = RD_KAFKA_VTYPE_PARTITION
            unsafe parts[1].u.i32 = partition
            unsafe parts[2].vtype = RD_KAFKA_VTYPE_KEY
            unsafe parts[2].u.mem.ptr = key.map {
                unsafe UnsafeMutableRawPointer(mutating: $0.baseAddress!)
            }
            unsafe parts[2].u.mem.size = key?.count ?? 0
            unsafe parts[3].vtype = RD_KAFKA_VTYPE_VALUE
            unsafe parts[3].u.mem.ptr = value.map {
                unsafe UnsafeMutableRawPointer(mutating: $0.baseAddress!)
            }
            unsafe parts[3].u.mem.size = value?.count ?? 0
            // 0 is librdkafka's word for "now".
            unsafe parts[4].vtype = RD_KAFKA_VTYPE_TIMESTAMP
            unsafe parts[4].u.i64 = timestamp ?? 0
            unsafe parts[5].vtype = RD_KAFKA_VTYPE_OPAQUE
            unsafe parts[5].u.ptr = opaque
            unsafe parts[6].vtype = RD_KAFKA_VTYPE_MSGFLAGS
            unsafe parts[6].u.i = RD_KAFKA_MSG_F_COPY
            unsafe parts[7].vtype = RD_KAFKA_VTYPE_HEADERS
            unsafe parts[7].u.headers = list
            let count = unsafe list == nil ? 7 : 8
            return unsafe rd_kafka_produceva(handle.client, &parts, count)
        }
        // librdkafka owns the headers only where it has taken the record.
        if unsafe error != nil, let list = unsafe list { unsafe rd_kafka_headers_destroy(list) }
        return unsafe error
    }

    /// Sends what waits and waits for its deliveries; false where some are still out.
    package func flush(within limit: Duration) -> Bool {
        do throws(KafkaError) {
            return try state.use {
                unsafe rd_kafka_flush(handle.client, limit.kafkaMilliseconds)
                    == RD_KAFKA_RESP_ERR_NO_ERROR
            }
        } catch { return outstanding == 0 }
    }

    /// Records handed over and not yet reported.
    package var outstanding: Int { state.outstanding.load(ordering: .relaxed) }

    /// Records that failed, with or without a completion.
    package var failures: UInt64 { state.failures.load(ordering: .relaxed) }

    /// The error after which every ``produce(topic:partition:key:value:headers:timestamp:completion:)``
    /// fails, if there is one.
    package var fatalError: KafkaError? {
        do throws(KafkaError) { return try state.use { handle.fatalError } } catch { return error }
    }

    /// How many partitions the topic has. Blocks; meant for start-up, to fail early and clearly.
    ///
    /// - Throws: ``KafkaError/Code/topicUnknown`` or ``KafkaError/Code/brokersUnavailable`` with
    ///   the addresses that were tried.
    package func partitionCount(of topic: String, within limit: Duration) throws(KafkaError) -> Int
    {
        // All topics, because asking for one can create it.
        let topics = try topics(within: limit)
        guard let found = topics.first(where: { $0.name == topic }) else {
            throw KafkaError(.topicUnknown, "topic \"\(topic)\" does not exist")
        }
        return found.partitionCount
    }

    /// All topics of the cluster. Blocks.
    package func topics(within limit: Duration) throws(KafkaError) -> [KafkaTopic] {
        try state.use { () throws(KafkaError) in
            try handle.topics(servers: settings.bootstrapServers, within: limit)
        }
    }

    /// Sends what waits, then ends the client; returns after `limit` at the latest.
    ///
    /// - Returns: True where everything was delivered and the client has ended.
    @discardableResult
    package func close(within limit: Duration) -> Bool {
        let deadline = MonotonicTime.now + limit
        // Some of the time is kept for librdkafka's threads to end.
        let flushed = flush(within: limit - min(limit / 4, .milliseconds(500)))
        state.stop()
        return reports.join(within: max(.zero, deadline - MonotonicTime.now)) && flushed
    }

    // MARK: - The reporting thread

    /// Serves deliveries until told to stop, then ends the client.
    private static func report(
        _ handle: ClientHandle, _ state: ReportState, _ onBrokers: (([KafkaBroker]) -> Void)?
    ) {
        guard let queue = unsafe rd_kafka_queue_get_main(handle.client) else { return }
        while !state.isStopping.load(ordering: .sequentiallyConsistent)
            || state.users.load(ordering: .sequentiallyConsistent) > 0
        {
            guard let event = unsafe rd_kafka_queue_poll(queue, 100) else { continue }
            unsafe serve(event, handle, state, onBrokers)
        }
        // What is still out fails at once, so that each completion is called.
        unsafe rd_kafka_purge(
            handle.client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
        while let event = unsafe rd_kafka_queue_poll(queue, 50) {
            unsafe serve(event, handle, state, nil)
        }
        unsafe rd_kafka_queue_destroy(queue)
        handle.destroy(flags: 0)
    }

    private static func serve(
        _ event: OpaquePointer, _ handle: ClientHandle, _ state: ReportState,
        _ onBrokers: (([KafkaBroker]) -> Void)?
    ) {
        defer { unsafe rd_kafka_event_destroy(event) }
        switch unsafe rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_DR:
            while let message = unsafe rd_kafka_event_message_next(event) {
                unsafe report(message, state)
            }
        case RD_KAFKA_EVENT_LOG: unsafe handle.relay.take(event)
        case RD_KAFKA_EVENT_STATS:
            guard let onBrokers, let text = unsafe rd_kafka_event_stats(event) else { break }
            unsafe onBrokers(KafkaBroker.list(inStatistics: Array(String(cString: text).utf8)))
        case RD_KAFKA_EVENT_ERROR:
            // librdkafka logs what its errors say; only a fatal one changes anything here.
            if let fatal = handle.fatalError {
                handle.log.error("the Kafka producer cannot go on", LogField("error", "\(fatal)"))
            }
        default: break
        }
    }

    private static func report(
        _ message: UnsafePointer<rd_kafka_message_t>, _ state: ReportState
    ) {
        let code = unsafe message.pointee.err
        state.outstanding.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        if code != RD_KAFKA_RESP_ERR_NO_ERROR {
            state.failures.wrappingAdd(1, ordering: .relaxed)
        }
        guard let opaque = unsafe message.pointee._private else { return }
        let waiting = unsafe Unmanaged<Waiting>.fromOpaque(opaque).takeRetainedValue()
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else {
            unsafe waiting.completion(
                .success(
                    KafkaDelivery(
                        partition: message.pointee.partition, offset: message.pointee.offset)))
            return
        }
        let topic = unsafe String(cString: rd_kafka_topic_name(message.pointee.rkt))
        let error = KafkaError(code)
        waiting.completion(
            .failure(
                KafkaError(
                    error.code, "record for topic \"\(topic)\": \(error.detail)", name: error.name,
                    isRetriable: error.isRetriable, isFatal: error.isFatal)))
    }
}

/// Lends bytes to C. An empty span gets an address too, because librdkafka takes a null pointer
/// for "no value".
private func withBytes(
    of span: Span<UInt8>?, _ body: (UnsafeRawBufferPointer?) -> OpaquePointer?
) -> OpaquePointer? {
    guard let span else { return unsafe body(nil) }
    return unsafe span.withUnsafeBytes { bytes in
        guard unsafe bytes.isEmpty else { return unsafe body(bytes) }
        var nothing: UInt8 = 0
        return unsafe withUnsafeBytes(of: &nothing) { place in
            unsafe body(UnsafeRawBufferPointer(start: place.baseAddress, count: 0))
        }
    }
}

extension KafkaProducerSettings {
    /// What ``KafkaProducer`` rests on; the operator's own properties may not change it.
    func properties() -> [(String, String)] {
        [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "\(linger.wholeMilliseconds)"),
            ("message.max.bytes", "\(messageMaxBytes)"),
            ("queue.buffering.max.kbytes", "\(max(1, queuedBytesMax / 1024))"),
            ("queue.buffering.max.messages", "\(max(1, queuedRecordsMax))"),
            ("message.timeout.ms", "\(deliveryTimeout.kafkaMilliseconds)"),
            // The same key goes to the same partition as with Java's clients.
            ("partitioner", "murmur2_random"),
        ]
    }
}
