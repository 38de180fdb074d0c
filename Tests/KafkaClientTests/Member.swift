// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaClient
import Observability
import PosixIO
import Testing

/// What the tests compare of a record.
struct Seen: Equatable {
    let partition: TopicPartition
    let offset: Int64
    let value: String?
}

/// A group member as the tests drive it: it keeps what it saw and answers rebalances.
final class Member {
    let consumer: KafkaConsumer
    var seen: [Seen] = []
    var events: [String] = []
    var outOfRange: [TopicPartition: Int64] = [:]
    var missing: Set<TopicPartition> = []
    var errors: [KafkaError] = []
    var isWithoutBrokers = false
    /// Assignments that wait for an answer, where ``start`` is `nil`.
    var unanswered: [TopicPartition]?
    var start: ((TopicPartition) -> KafkaOffset)?

    init(
        _ cluster: KafkaMockCluster, group: String = "readers",
        session: Duration = .milliseconds(3000), log: Logger = .silent,
        start: ((TopicPartition) -> KafkaOffset)? = nil
    ) throws {
        consumer = try KafkaConsumer(
            settings: KafkaSettings(bootstrapServers: cluster.bootstrapServers),
            group: KafkaGroupSettings(
                groupID: group, sessionTimeout: session, heartbeatInterval: .milliseconds(500),
                fetchWaitMax: .milliseconds(10)),
            log: log)
        self.start = start
    }

    var values: [String] { seen.compactMap(\.value) }

    func pump() {
        while consumer.drain(limit: 500, take) {}
    }

    private func take(_ event: borrowing KafkaEvent) {
        switch event {
        case .record(let record):
            seen.append(
                Seen(
                    partition: TopicPartition(record.topic, record.partition),
                    offset: record.offset, value: record.value?.text))
        case .assigned(let partitions):
            events.append("assigned \(partitions.count)")
            guard let start else {
                unanswered = partitions
                return
            }
            consumer.completeAssignment(partitions.map { ($0, start($0)) })
        case .revoked(let partitions, let lost):
            events.append("revoked \(partitions.count)\(lost ? " lost" : "")")
            consumer.completeRevocation(partitions)
        case .offsetOutOfRange(let partition, let offset): outOfRange[partition] = offset
        case .positionMissing(let partition): missing.insert(partition)
        case .partitionError(_, let error): errors.append(error)
        case .brokersDown: isWithoutBrokers = true
        case .error(let error): errors.append(error)
        case .commitFailed(let error): errors.append(error)
        }
    }
}

/// Keeps what is logged.
final class Lines: Sendable {
    let all = Lock<[String]>([])

    var log: Logger {
        Logger("kafka", lowest: .debug) { line in
            self.all.withLock { $0.append(String(decoding: line, as: UTF8.self)) }
        }
    }

    func contain(_ text: String) -> Bool {
        all.withLock { $0.contains { $0.contains(text) } }
    }
}

extension Logger {
    /// Writes nowhere.
    static var silent: Logger { Logger("test", sink: { _ in }) }
}

extension Span where Element == UInt8 {
    var text: String {
        unsafe withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

/// The longest that anything here may take; librdkafka's mock needs seconds for each rebalance.
let patience: Duration = .seconds(45)

/// Waits until `condition` holds, looking every few milliseconds; records an issue if it never does.
func eventually(
    _ what: String, within limit: Duration = patience, _ condition: () throws -> Bool
) async throws {
    let deadline = MonotonicTime.now + limit
    while try !condition() {
        guard MonotonicTime.now < deadline else {
            Issue.record("never happened: \(what)")
            throw Unmet(what: what)
        }
        try await Task.sleep(for: .milliseconds(3))
    }
}

struct Unmet: Error { let what: String }

/// A cluster with one topic, and a producer to it.
struct Scene {
    let cluster: KafkaMockCluster
    let producer: KafkaProducer
    let topic = "events"

    init(partitions: Int = 1, brokers: Int = 1, producer: KafkaProducerSettings = .init()) throws {
        cluster = try KafkaMockCluster(brokers: brokers, log: .silent)
        try cluster.createTopic(topic, partitions: partitions, replication: brokers)
        self.producer = try KafkaProducer(
            settings: KafkaSettings(bootstrapServers: cluster.bootstrapServers),
            producer: producer, log: .silent)
    }

    func at(_ partition: Int32) -> TopicPartition { TopicPartition(topic, partition) }

    /// Writes "0", "1", … to a partition and waits until they are stored.
    func write(_ range: Range<Int>, to partition: Int32 = 0) throws {
        for number in range {
            try producer.produce(
                topic: topic, partition: partition, key: nil, value: Array("\(number)".utf8))
        }
        #expect(producer.flush(within: patience))
        #expect(producer.failures == 0)
    }
}

func texts(_ range: Range<Int>) -> [String] { range.map { "\($0)" } }

/// True where the descriptor can be read from within `limit`.
func isReadable(_ descriptor: CInt, within limit: Duration) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&entry, 1, Int32(limit.wholeMilliseconds)) == 1
}
