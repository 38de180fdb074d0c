// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
package import Observability
import PosixIO

/// A member of a consumer group whose positions are ours to decide.
///
/// View: node. Threads: exactly one, the event loop that owns it; only the completions of
/// ``queryWatermarks(of:within:completion:)``, ``committedOffsets(of:within:completion:)`` and
/// ``queryTopics(within:completion:)`` run elsewhere. librdkafka's own threads fetch, send
/// heartbeats and reconnect.
///
/// A rebalance is an event like any other and may be answered later, so the owner can ask Redis
/// first where each partition goes on. While an answer is owed no record arrives: librdkafka
/// pauses every partition of this member meanwhile.
///
/// Call ``drain(limit:_:)`` when ``readinessDescriptor`` is readable, and at least every
/// few seconds besides: a member that does not drain for
/// ``KafkaGroupSettings/pollIntervalMax`` is put out of the group.
///
/// Close with ``close(within:)``. A consumer that is dropped instead stays in memory and in the
/// group until the process ends.
@safe
package final class KafkaConsumer {
    let handle: ClientHandle
    let queue: OpaquePointer
    let log: Logger
    let settings: KafkaSettings
    private let wake: WakePipe

    /// What the group has given this member.
    var granted: Set<TopicPartition> = []
    /// What is being read, and whether it is paused.
    var active: [TopicPartition: Reading] = [:]
    var owed: OwedAnswer = .none
    /// Repositions that wait until an owed answer has been given.
    var postponed: [TopicPartition: KafkaOffset] = [:]

    /// Next offsets to commit, and those on their way.
    var stored: [TopicPartition: Int64] = [:]
    var committing: [TopicPartition: Int64] = [:]
    var isCommitting = false
    /// From a revocation until the assignment after it is answered.
    var isRevoking = false

    var hasSeenAssignment = false
    var isSubscribed = false
    var probeTopic = "__consumer_offsets"
    var areBrokersDown = false
    private(set) var isClosed = false
    private var isDraining = false
    let knownTopics = Lock<[String: Int]>([:])
    let knownWatermarks = Lock<[TopicPartition: KafkaWatermarks]>([:])

    struct Reading {
        var position: KafkaOffset
        var isPaused = false
    }

    /// The rebalance event that the owner has not answered.
    enum OwedAnswer {
        case none
        case assignment
        case revocation
    }

    /// Creates the client. Connects to nobody before ``subscribe(topics:patterns:)``.
    ///
    /// - Throws: ``KafkaError/Code/configurationInvalid`` with the property's name.
    package init(settings: KafkaSettings, group: KafkaGroupSettings, log: Logger)
        throws(KafkaError)
    {
        let configuration = try ClientConfiguration(settings, reserved: group.properties())
        let wake = try WakePipe()
        let events =
            RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_OFFSET_COMMIT
            | RD_KAFKA_EVENT_FETCH
        let handle = try configuration.start(RD_KAFKA_CONSUMER, events: events, log: log)
        // Errors and commit results join the records, so that one queue tells everything.
        unsafe rd_kafka_poll_set_consumer(handle.client)
        guard let queue = unsafe rd_kafka_queue_get_consumer(handle.client) else {
            handle.destroy(flags: RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
            throw KafkaError(.other, "librdkafka gave no consumer queue")
        }
        var mark: UInt8 = 1
        unsafe rd_kafka_queue_io_event_enable(queue, wake.writer.number, &mark, 1)
        // What was queued before the descriptor was known has signalled nobody.
        wake.signal()
        self.handle = handle
        unsafe self.queue = queue
        self.log = log
        self.settings = settings
        self.wake = wake
    }

    deinit {
        guard !isClosed else { return }
        // The descriptor's number may be given to another file next.
        unsafe rd_kafka_queue_io_event_enable(queue, -1, nil, 0)
        log.error("a Kafka consumer was dropped without being closed; it stays in its group")
    }

    /// Readable while events wait. Never read from it: ``drain(limit:_:)`` does.
    package var readinessDescriptor: CInt { wake.reader.number }

    /// Says which topics to read; replaces what was said before.
    ///
    /// Every member of a group has to ask for the same. Topics whose name begins with two
    /// underscores are Kafka's own and never match.
    ///
    /// - Parameter patterns: Topic names in which `*` stands for anything, such as `camera.*`.
    package func subscribe(topics: [String], patterns: [String] = []) throws(KafkaError) {
        guard !isClosed else { throw KafkaError(.closed, "the consumer is closed") }
        guard !topics.isEmpty || !patterns.isEmpty else {
            throw KafkaError(.configurationInvalid, "no topic and no pattern to subscribe to")
        }
        let list = PartitionList(capacity: topics.count + patterns.count)
        for topic in topics {
            guard TopicPattern.isLegalName(topic) else {
                throw KafkaError(
                    .configurationInvalid,
                    "topic \"\(topic)\": use 1 to 249 letters, digits, '.', '_' and '-'")
            }
            list.add(TopicPartition(topic, RD_KAFKA_PARTITION_UA), rawOffset: nil)
        }
        for pattern in patterns {
            let expression = try TopicPattern.regularExpression(for: pattern)
            list.add(TopicPartition(expression, RD_KAFKA_PARTITION_UA), rawOffset: nil)
        }
        let code = unsafe rd_kafka_subscribe(handle.client, list.pointer)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(code, "subscribing to \((topics + patterns).joined(separator: ", "))")
        }
        isSubscribed = true
        if let topic = topics.first { probeTopic = topic }
    }

    /// Takes events that wait, at most `limit`, and lends each to `body`.
    ///
    /// No wake-up is lost: where the limit ends it, ``readinessDescriptor`` stays readable. `body`
    /// may call everything but ``drain(limit:_:)`` and ``close(within:)``.
    ///
    /// - Returns: True where more may be waiting.
    package func drain(limit: Int, _ body: (borrowing KafkaEvent) -> Void) -> Bool {
        guard !isClosed else { return false }
        isDraining = true
        defer { isDraining = false }
        // Before the queue is looked at: a mark set after it belongs to a later event.
        wake.clear()
        var taken = 0
        while taken < limit {
            guard let event = unsafe rd_kafka_queue_poll(queue, 0) else { return false }
            taken += 1
            unsafe deliver(event, body)
        }
        // librdkafka signals only when its queue goes from empty to not empty.
        wake.signal()
        return true
    }

    /// The partitions being read, in order.
    package var assignment: [TopicPartition] { active.keys.sorted() }

    /// Leaves the group and ends the client; returns after `limit` at the latest.
    ///
    /// Where librdkafka does not come to an end by then, that is logged and its memory is given
    /// up: the process is expected to exit. See ``ConsumerClosing`` for what is worked around.
    /// Stored offsets are committed where that is possible in time.
    package func close(within limit: Duration) {
        // The event that is being lent belongs to the client that would be destroyed.
        precondition(!isDraining, "close(within:) was called from within drain(limit:_:)")
        guard !isClosed else { return }
        isClosed = true
        unsafe rd_kafka_queue_io_event_enable(queue, -1, nil, 0)
        let closing = unsafe ConsumerClosing(
            handle: handle, queue: queue, deadline: .now + limit,
            offsets: isRevoking ? [:] : stored.merging(committing) { newer, _ in newer },
            owed: owed, active: Array(active.keys), isSubscribed: isSubscribed,
            hasSeenAssignment: hasSeenAssignment, areBrokersDown: areBrokersDown,
            probe: TopicPartition(probeTopic, 0))
        let thread = NamedThread("kafka-close") { closing.run() }
        if !thread.join(within: limit) {
            log.warning(
                "the Kafka consumer did not end in time; its memory is given up",
                LogField("limit", "\(limit)"))
        }
        // Nothing is left for a later call to ask librdkafka about.
        (granted, active, postponed, stored) = ([], [:], [:], [:])
        owed = .none
    }
}
