// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Bytes
import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import History

/// A mock cluster with one topic, a dead-letter topic and a producer to them, and a redis-server.
final class IngestScene: Sendable {
    let cluster: KafkaMockCluster
    let producer: KafkaProducer
    let server: RedisServerProcess
    let link: RedisLink
    let keys = HistoryKeys(prefix: "h")
    let topic = "a"
    let deadLetterTopic = "rivulet.dead-letters"

    init(partitions: Int, redis arguments: [String] = []) throws {
        cluster = try KafkaMockCluster(brokers: 1, log: .silent)
        try cluster.createTopic(topic, partitions: partitions)
        try cluster.createTopic(deadLetterTopic, partitions: 1)
        producer = try KafkaProducer(
            settings: KafkaSettings(bootstrapServers: cluster.bootstrapServers),
            producer: KafkaProducerSettings(messageMaxBytes: 8_000_000), log: .silent)
        server = try RedisServerProcess(arguments: arguments)
        link = try RedisLink(server)
    }

    deinit { producer.close(within: .seconds(5)) }

    /// Writes records whose values are those of ``content(_:_:_:padding:)``.
    func write(_ offsets: Range<Int64>, to partition: Int32) throws {
        for offset in offsets { try write(content(topic, partition, offset), to: partition) }
    }

    func write(
        _ value: [UInt8]?, to partition: Int32, key: [UInt8]? = nil,
        headers: [(name: String, value: [UInt8])] = [], timestamp: Int64? = nil
    ) throws {
        try producer.produce(
            topic: topic, partition: partition, key: key, value: value, headers: headers,
            timestamp: timestamp)
    }

    func flush() {
        #expect(producer.flush(within: patience))
        #expect(producer.failures == 0)
    }

    func highWater(_ partition: Int32) throws -> Int64 {
        try link.highWater(topic, partition, keys).flatMap { Int64($0) } ?? -1
    }

    /// Waits until history has these partitions up to their last offset.
    func awaitHistory(through last: Int64, of partitions: Range<Int32>) async throws {
        let isThere = try await comesAbout {
            try partitions.allSatisfy { try highWater($0) >= last }
        }
        let marks = try partitions.map { try highWater($0) }
        try #require(isThere, "history is at \(marks), not at \(last)")
    }

    func events(of partition: Int32) throws -> [HistoryEvent] {
        try link.window(topic, keys).filter { $0.partition == partition }.flatMap(\.events)
    }

    /// Each partition has `count` plain records in history, in order and once.
    func expectExactlyOnce(_ count: Int64, of partitions: Range<Int32>) throws {
        for partition in partitions {
            let events = try events(of: partition)
            #expect(events.map(\.offset) == Array(0..<count))
            #expect(events.allSatisfy { $0.value == content(topic, partition, $0.offset) })
        }
    }

    struct DeadLetter: Equatable {
        let key: [UInt8]?
        let value: [UInt8]
        let headers: [String: String]
    }

    func deadLetters() throws -> [DeadLetter] {
        let reader = try KafkaReader(
            settings: KafkaSettings(bootstrapServers: cluster.bootstrapServers), log: .silent)
        let partition = TopicPartition(deadLetterTopic, 0)
        try reader.assign([(partition, .beginning)])
        var found: [DeadLetter] = []
        var isAtEnd = false
        let deadline = MonotonicTime.now + patience
        while !isAtEnd {
            try #require(MonotonicTime.now < deadline)
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record): found.append(DeadLetter(record))
                case .endOfPartition: isAtEnd = true
                case .offsetOutOfRange: Issue.record("the dead letters were deleted")
                case .error(let error): Issue.record("\(error)")
                }
            }
        }
        reader.close(within: .seconds(5))
        return found
    }
}

extension IngestScene.DeadLetter {
    init(_ record: borrowing KafkaRecord) {
        var headers: [String: String] = [:]
        record.forEachHeader { name, value in
            headers[name.copy.text] = value?.copy.text
        }
        self.init(key: record.key?.copy, value: record.value?.copy ?? [], headers: headers)
    }
}

extension Span where Element == UInt8 {
    var copy: [UInt8] { unsafe withUnsafeBufferPointer { unsafe Array($0) } }
}

/// The ingest of one node, on a loop of its own.
final class IngestBench: Sendable {
    let loop: EventLoop
    let metrics: IngestMetrics
    private let producer: KafkaProducer
    private struct Parts {
        let ingest: Ingest
        let connection: RedisConnection
    }
    private let parts: LoopBound<Parts>

    struct Options {
        var group = "nodes"
        var startsAtEnd = false
        var redisTimeout: Duration = .seconds(10)
        var pollIntervalMax: Duration = .seconds(300)
        var eventBytesMax = 1 << 20
        var batchEvents = 50
        var heldBytesMax = 32 << 20
        var queuedBytesMax = 64 << 20
        var topicPatterns: [String] = []
        var joinsGroup = true
    }

    init(_ scene: IngestScene, _ options: Options = Options()) throws {
        loop = try EventLoop(name: "ingest")
        metrics = IngestMetrics(in: MetricsRegistry())
        let kafka = KafkaSettings(bootstrapServers: scene.cluster.bootstrapServers)
        producer = try KafkaProducer(settings: kafka, log: .silent)
        let connection = RedisConnection(
            loop: loop,
            settings: RedisSettings(scene.server, commandTimeout: options.redisTimeout),
            purpose: "append", scripts: [HistoryScripts.append], log: .silent)
        let appender = HistoryAppender(
            connection: connection, keys: scene.keys, retention: .roomy)
        var settings = IngestSettings(
            topics: [scene.topic], patterns: options.topicPatterns, kafka: kafka,
            group: KafkaGroupSettings(
                groupID: options.group, sessionTimeout: .milliseconds(3000),
                heartbeatInterval: .milliseconds(500), fetchWaitMax: .milliseconds(10),
                metadataRefresh: .milliseconds(300), queuedBytesMax: options.queuedBytesMax,
                pollIntervalMax: options.pollIntervalMax),
            limits: .init(batchEvents: options.batchEvents, batchBytes: 64 << 10),
            eventBytesMax: options.eventBytesMax, deadLetterTopic: scene.deadLetterTopic,
            startsAtEnd: options.startsAtEnd, heldBytesMax: options.heldBytesMax)
        settings.joinsGroup = options.joinsGroup
        let ingest = try Ingest(
            loop: loop, settings: settings, connection: connection, appender: appender,
            producer: producer, metrics: metrics,
            log: .silent)
        connection.onStateChange = { [weak ingest] state in
            if state == .ready { ingest?.redisIsReady() }
        }
        parts = LoopBound(Parts(ingest: ingest, connection: connection), on: loop)
        loop.start()
        let parts = parts
        loop.post {
            parts.value.connection.start()
            parts.value.ingest.start()
        }
    }

    /// Tells an ingest without a group what to read.
    func read(orphans: Set<TopicPartition>) {
        let parts = parts
        loop.post { parts.value.ingest.read(orphans: orphans) }
    }

    /// Leaves the group within `limit`; without any time it is gone without a word.
    func stop(within limit: Duration = .seconds(5)) async throws {
        let parts = parts
        loop.post {
            parts.value.ingest.stop(within: limit)
            parts.value.connection.stop()
        }
        loop.stop()
        #expect(try await comesAbout { loop.join(within: .zero) })
        producer.close(within: .seconds(2))
    }

    /// Makes Kafka go on at another offset behind ingest's back, so that the offsets jump.
    func jump(_ partition: TopicPartition, to offset: Int64) throws {
        let parts = parts
        try loop.value { parts.value.ingest.consumer?.reposition(partition, to: .at(offset)) }
    }

    /// Partitions were given that Redis has said nothing of yet.
    var isAwaitingStart: Bool {
        let parts = parts
        return (try? loop.value { parts.value.ingest.awaitingStart != nil }) ?? false
    }

    var partitionCount: Int { Int(metrics.partitions.value) }
}
