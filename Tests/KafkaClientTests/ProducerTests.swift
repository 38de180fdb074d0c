// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

@Suite("Producer and reader")
struct ProducerTests {
    private struct Read: Equatable {
        var key: String?
        var value: String?
        var timestamp: Int64
        var headers: [String]
    }

    private func reader(_ scene: Scene) throws -> KafkaReader {
        try KafkaReader(
            settings: KafkaSettings(bootstrapServers: scene.cluster.bootstrapServers),
            fetchWaitMax: .milliseconds(10), log: .silent)
    }

    @Test("keys, values, tombstones, headers and timestamps arrive as they were sent")
    func roundTrip() async throws {
        let scene = try Scene()
        let time: Int64 = 1_763_683_200_123
        let deliveries = Lock<[KafkaDelivery]>([])
        let note: KafkaProducer.Completion = { result in
            if case .success(let delivery) = result { deliveries.withLock { $0.append(delivery) } }
        }
        try scene.producer.produce(
            topic: scene.topic, partition: 0, key: Array("k".utf8), value: Array("v".utf8),
            headers: [("event-id", Array("7".utf8)), ("empty", [])], timestamp: time,
            completion: note)
        try scene.producer.produce(
            topic: scene.topic, partition: 0, key: Array("k".utf8), value: nil,
            timestamp: time + 1, completion: note)
        try scene.producer.produce(
            topic: scene.topic, partition: 0, key: [], value: [], timestamp: time + 2,
            completion: note)
        #expect(scene.producer.flush(within: patience))
        #expect(deliveries.withLock { $0.map(\.offset) } == [0, 1, 2])
        #expect(scene.producer.outstanding == 0)

        let reader = try reader(scene)
        try reader.assign([(scene.at(0), .beginning)])
        var read: [Read] = []
        var handles: Set<UInt> = []
        var end: Int64?
        let deadline = MonotonicTime.now + patience
        while end == nil, MonotonicTime.now < deadline {
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record):
                    var headers: [String] = []
                    record.forEachHeader { name, value in
                        headers.append("\(name.text)=\(value?.text ?? "nil")")
                    }
                    handles.insert(record.topicHandle)
                    #expect(record.topic == scene.topic)
                    read.append(
                        Read(
                            key: record.key?.text, value: record.value?.text,
                            timestamp: record.timestamp, headers: headers))
                case .endOfPartition(_, let next): end = next
                case .offsetOutOfRange: Issue.record("out of range instead of records")
                case .error(let error): Issue.record("\(error)")
                }
            }
        }
        #expect(
            read == [
                Read(key: "k", value: "v", timestamp: time, headers: ["event-id=7", "empty="]),
                Read(key: "k", value: nil, timestamp: time + 1, headers: []),
                Read(key: "", value: "", timestamp: time + 2, headers: []),
            ])
        #expect(end == 3)
        #expect(handles.count == 1)
        reader.close(within: .seconds(5))
    }

    @Test("a reader visits no more headers than its limit and says that there are more")
    func headerLimit() async throws {
        let scene = try Scene()
        try scene.producer.produce(
            topic: scene.topic, partition: 0, key: nil, value: [],
            headers: (0..<5).map { ("h\($0)", [1]) })
        #expect(scene.producer.flush(within: patience))
        let reader = try reader(scene)
        try reader.assign([(scene.at(0), .at(0))])
        var visited = 0
        try await eventually("the record") {
            var isFound = false
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record):
                    let isCut = !record.forEachHeader(limit: 4) { _, _ in visited += 1 }
                    let isWhole = record.forEachHeader(limit: 5) { _, _ in }
                    isFound = isCut && isWhole
                default: break
                }
            }
            return isFound
        }
        #expect(visited == 4)
    }

    @Test("a reader reads given partitions from given offsets up to their end offsets")
    func readToEnd() async throws {
        let scene = try Scene(partitions: 3)
        try scene.write(0..<100, to: 0)
        try scene.write(0..<60, to: 2)
        let reader = try reader(scene)
        let ends = try reader.endOffsets(of: scene.topic, within: patience)
        #expect(ends == [scene.at(0): 100, scene.at(1): 0, scene.at(2): 60])
        #expect(
            try reader.topics(within: patience) == [
                KafkaTopic(name: scene.topic, partitionCount: 3)
            ])
        try reader.assign([(scene.at(0), .at(90)), (scene.at(2), .at(55))])
        var seen: [Seen] = []
        try await eventually("all records to the end") {
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record): seen.append(Seen(record))
                default: break
                }
            }
            return seen.count >= 15
        }
        #expect(seen.filter { $0.partition == scene.at(0) }.compactMap(\.value) == texts(90..<100))
        #expect(seen.filter { $0.partition == scene.at(2) }.compactMap(\.value) == texts(55..<60))
        reader.close(within: .seconds(5))
    }

    @Test("a reader is told that an offset is out of range")
    func readerOutOfRange() async throws {
        let scene = try Scene()
        try scene.write(0..<5)
        let reader = try reader(scene)
        try reader.assign([(scene.at(0), .at(99))])
        var reported: Int64?
        try await eventually("a report") {
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .offsetOutOfRange(_, let offset): reported = offset
                default: break
                }
            }
            return reported != nil
        }
        #expect(reported == 99)
    }

    @Test("the same key always goes to the same partition")
    func keyedPartition() throws {
        let scene = try Scene(partitions: 4)
        let partitions = Lock<[Int32]>([])
        for _ in 0..<20 {
            try scene.producer.produce(
                topic: scene.topic, key: Array("camera-7".utf8), value: [1]
            ) { result in
                if case .success(let delivery) = result {
                    partitions.withLock { $0.append(delivery.partition) }
                }
            }
        }
        #expect(scene.producer.flush(within: patience))
        #expect(partitions.withLock { $0.count } == 20)
        #expect(Set(partitions.withLock { $0 }).count == 1)
    }

    @Test("a record that is too large is refused with its size and the limit")
    func tooLarge() throws {
        let scene = try Scene(producer: KafkaProducerSettings(messageMaxBytes: 2000))
        let error = #expect(throws: KafkaError.self) {
            try scene.producer.produce(
                topic: scene.topic, key: nil, value: [UInt8](repeating: 1, count: 2001))
        }
        #expect(error?.code == .messageTooLarge)
        #expect(error?.detail.contains("2001") == true)
        #expect(error?.detail.contains("2000") == true)
        // Headers count as well; librdkafka refuses this one.
        let headers = #expect(throws: KafkaError.self) {
            try scene.producer.produce(
                topic: scene.topic, key: nil, value: [UInt8](repeating: 1, count: 1900),
                headers: [("h", [UInt8](repeating: 2, count: 300))])
        }
        #expect(headers?.code == .messageTooLarge)
    }

    @Test("a full buffer is an error of its own, and closing reports what was never delivered")
    func queueFull() async throws {
        let scene = try Scene(producer: KafkaProducerSettings(queuedRecordsMax: 10))
        try scene.cluster.setBrokerDown(1)
        let failed = Lock<[KafkaError.Code]>([])
        for _ in 0..<10 {
            try scene.producer.produce(topic: scene.topic, partition: 0, key: nil, value: [1]) {
                if case .failure(let error) = $0 { failed.withLock { $0.append(error.code) } }
            }
        }
        let error = #expect(throws: KafkaError.self) {
            try scene.producer.produce(topic: scene.topic, partition: 0, key: nil, value: [1])
        }
        #expect(error?.code == .queueFull)
        #expect(error?.isRetriable == true)
        #expect(scene.producer.outstanding == 10)
        #expect(!scene.producer.close(within: .milliseconds(100)))
        try await eventually("a report for each record") { failed.withLock { $0.count } == 10 }
        #expect(scene.producer.failures == 10)
    }

    @Test("a topic that does not exist is named")
    func unknownTopic() throws {
        let scene = try Scene(partitions: 5)
        #expect(try scene.producer.partitionCount(of: scene.topic, within: patience) == 5)
        let error = #expect(throws: KafkaError.self) {
            try scene.producer.partitionCount(of: "nowhere", within: patience)
        }
        #expect(error?.code == .topicUnknown)
        #expect(error?.detail == "topic \"nowhere\" does not exist")
    }

    @Test("brokers that cannot be reached are named")
    func unreachable() throws {
        let producer = try KafkaProducer(
            settings: KafkaSettings(bootstrapServers: ["127.0.0.1:1"]), log: .silent)
        let error = #expect(throws: KafkaError.self) {
            try producer.partitionCount(of: "events", within: .milliseconds(300))
        }
        #expect(error?.code == .brokersUnavailable)
        #expect(error?.isRetriable == true)
        #expect(error?.detail.contains("127.0.0.1:1") == true)
        #expect(producer.close(within: .seconds(5)))
    }
}
