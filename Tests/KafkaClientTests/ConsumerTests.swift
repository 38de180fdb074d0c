// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

@Suite("Group consumer")
struct ConsumerTests {
    @Test("an assignment answered a second late starts exactly at the given offset")
    func lateAnswer() async throws {
        let scene = try Scene()
        try scene.write(0..<50)
        let member = try Member(scene.cluster)
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("an assignment") {
            member.pump()
            return member.unanswered != nil
        }
        #expect(member.unanswered == [scene.at(0)])

        let answerTime = MonotonicTime.now + .seconds(1)
        try await eventually("a second later") {
            member.pump()
            return MonotonicTime.now >= answerTime
        }
        #expect(member.seen.isEmpty)

        member.consumer.completeAssignment([(scene.at(0), .at(37))])
        #expect(member.consumer.assignment == [scene.at(0)])
        try await eventually("all records from 37 on") {
            member.pump()
            return member.seen.count >= 13
        }
        #expect(member.values == texts(37..<50))
        #expect(member.seen.map(\.offset) == Array(37..<50))
        member.consumer.close(within: .seconds(10))
    }

    @Test("two members share the partitions, and a leaving member's partitions move to the other")
    func sharing() async throws {
        let scene = try Scene(partitions: 4)
        for partition in 0..<4 { try scene.write(0..<10, to: Int32(partition)) }
        let first = try Member(scene.cluster) { _ in .beginning }
        let second = try Member(scene.cluster) { _ in .beginning }
        try first.consumer.subscribe(topics: [scene.topic])
        try second.consumer.subscribe(topics: [scene.topic])
        try await eventually("two partitions for each member") {
            first.pump()
            second.pump()
            return first.consumer.assignment.count == 2 && second.consumer.assignment.count == 2
        }
        #expect(
            Set(first.consumer.assignment + second.consumer.assignment)
                == Set((0..<4).map(scene.at)))

        let left = second.consumer.assignment
        second.consumer.close(within: .seconds(10))
        try await eventually("all partitions at the member that stays") {
            first.pump()
            return first.consumer.assignment.count == 4
        }
        try await eventually("the records of the partitions that moved") {
            first.pump()
            return left.allSatisfy { moved in
                first.seen.filter { $0.partition == moved }.count >= 10
            }
        }
        first.consumer.close(within: .seconds(10))
    }

    @Test("a reposition back and forward delivers exactly from there, and nothing of before")
    func reposition() async throws {
        let scene = try Scene()
        try scene.write(0..<2000)
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("some of the records, with more fetched and waiting") {
            _ = member.consumer.drain(limit: 1) { event in
                switch event {
                case .assigned(let partitions):
                    member.consumer.completeAssignment(partitions.map { ($0, .beginning) })
                case .record(let record): member.seen.append(.init(record))
                default: break
                }
            }
            return member.seen.count == 100
        }
        member.seen = []
        member.consumer.reposition(scene.at(0), to: .at(10))
        try await eventually("everything from 10 on") {
            member.pump()
            return member.seen.count >= 1990
        }
        #expect(member.values == texts(10..<2000))

        member.seen = []
        member.consumer.reposition(scene.at(0), to: .at(5))
        member.consumer.reposition(scene.at(0), to: .at(1950))
        try await eventually("everything from 1950 on") {
            member.pump()
            return member.seen.count >= 50
        }
        #expect(member.values == texts(1950..<2000))
        member.consumer.close(within: .seconds(10))
    }

    @Test("a reposition while a rebalance is owed its answer takes effect with that answer")
    func repositionDuringRebalance() async throws {
        let scene = try Scene(partitions: 2)
        try scene.write(0..<100, to: 0)
        try scene.write(0..<100, to: 1)
        let first = try Member(scene.cluster) { _ in .beginning }
        try first.consumer.subscribe(topics: [scene.topic])
        try await eventually("all records") {
            first.pump()
            return first.seen.count == 200
        }
        first.start = nil
        first.events = []
        let second = try Member(scene.cluster) { _ in .end }
        try second.consumer.subscribe(topics: [scene.topic])
        try await eventually("an assignment that waits for its answer") {
            first.pump()
            second.pump()
            return first.unanswered != nil
        }
        guard let kept = first.consumer.assignment.first else {
            Issue.record("the first member kept nothing")
            return
        }
        first.seen = []
        first.consumer.reposition(kept, to: .at(90))
        let answerTime = MonotonicTime.now + .milliseconds(300)
        try await eventually("a moment later") {
            first.pump()
            return MonotonicTime.now >= answerTime
        }
        #expect(first.seen.isEmpty)
        first.consumer.completeAssignment([])
        try await eventually("the records from 90 on") {
            first.pump()
            return first.seen.count >= 10
        }
        #expect(first.seen.filter { $0.partition == kept }.map(\.offset) == Array(90..<100))
        second.consumer.close(within: .seconds(10))
        first.consumer.close(within: .seconds(10))
    }

    @Test("pausing and resuming loses and repeats nothing")
    func pauseResume() async throws {
        let scene = try Scene(partitions: 2)
        try scene.write(0..<1000, to: 0)
        try scene.write(0..<1000, to: 1)
        let member = try Member(scene.cluster) { _ in .beginning }
        let both = [scene.at(0), scene.at(1)]
        try member.consumer.subscribe(topics: [scene.topic])
        var rounds = 0
        try await eventually("all records, with a pause after every few") {
            let isPaused = rounds % 3 == 1
            if isPaused { member.consumer.pause([scene.at(0)]) }
            // Partition 1 is not paused: resuming it as well must do nothing.
            if rounds % 3 == 2 { member.consumer.resume(both) }
            let before = member.seen.filter { $0.partition == scene.at(0) }.count
            _ = member.consumer.drain(limit: 40) { event in
                switch event {
                case .assigned(let partitions):
                    member.consumer.completeAssignment(partitions.map { ($0, .beginning) })
                case .record(let record): member.seen.append(.init(record))
                default: break
                }
            }
            let after = member.seen.filter { $0.partition == scene.at(0) }.count
            #expect(!isPaused || before == after)
            rounds += 1
            return member.seen.count >= 2000
        }
        for partition in both {
            let values = member.seen.filter { $0.partition == partition }.compactMap(\.value)
            #expect(values == texts(0..<1000))
        }
        member.consumer.close(within: .seconds(10))
    }

    @Test("an offset that the partition does not hold is reported, and a reposition heals it")
    func outOfRange() async throws {
        let scene = try Scene()
        try scene.write(0..<10)
        let member = try Member(scene.cluster) { _ in .at(4711) }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("a report") {
            member.pump()
            return member.outOfRange[scene.at(0)] == 4711
        }
        #expect(member.seen.isEmpty)
        member.consumer.reposition(scene.at(0), to: .at(7))
        try await eventually("the records from 7 on") {
            member.pump()
            return member.seen.count >= 3
        }
        #expect(member.values == texts(7..<10))
        member.consumer.close(within: .seconds(10))
    }

    @Test("stored offsets are committed, and a missing one is reported and not guessed")
    func commits() async throws {
        let scene = try Scene(partitions: 2)
        try scene.write(0..<20, to: 0)
        try scene.write(0..<20, to: 1)
        let member = try Member(scene.cluster) { _ in .committed }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("both partitions without a committed offset") {
            member.pump()
            return member.missing.count == 2
        }
        member.consumer.noteStored(scene.at(0), nextOffset: 12)
        member.consumer.noteStored(TopicPartition("elsewhere", 0), nextOffset: 3)
        member.consumer.commitStored()
        let answers = Lock<[Result<[TopicPartition: Int64], KafkaError>]>([])
        var asked = 0
        try await eventually("the committed offset") {
            member.pump()
            let last = answers.withLock { $0 }
            if case .success(let found) = last.last, found[scene.at(0)] == 12 { return true }
            if last.count == asked {
                asked += 1
                member.consumer.committedOffsets(
                    of: [scene.at(0), scene.at(1)], within: .seconds(5)
                ) { answer in answers.withLock { $0.append(answer) } }
            }
            return false
        }
        #expect(try answers.withLock { $0 }.last?.get() == [scene.at(0): 12])
        // What is stored when the consumer closes is committed on the way out.
        member.consumer.noteStored(scene.at(0), nextOffset: 15)
        member.consumer.close(within: .seconds(10))

        let next = try Member(scene.cluster) { $0.partition == 0 ? .committed : .end }
        try next.consumer.subscribe(topics: [scene.topic])
        try await eventually("the records from the committed offset on") {
            next.pump()
            return next.seen.count >= 5
        }
        #expect(next.values == texts(15..<20))
        next.consumer.close(within: .seconds(10))
    }

    @Test("a broker that goes and comes back costs no record and repeats none")
    func brokerDownAndUp() async throws {
        let scene = try Scene(partitions: 2, brokers: 3)
        try scene.cluster.setCoordinator(ofGroup: "readers", broker: 3)
        try scene.cluster.setPartitionLeader(scene.at(0), broker: 1)
        try scene.cluster.setPartitionLeader(scene.at(1), broker: 2)
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        try scene.write(0..<100, to: 0)
        try await eventually("the first records") {
            member.pump()
            return member.seen.count == 100
        }
        try scene.cluster.setBrokerDown(1)
        let delivered = Lock(0)
        for number in 100..<200 {
            try scene.producer.produce(
                topic: scene.topic, partition: 0, key: nil, value: Array("\(number)".utf8)
            ) { result in if case .success = result { delivered.withLock { $0 += 1 } } }
        }
        try scene.write0(to: 1)
        try await eventually("a record of the other broker meanwhile") {
            member.pump()
            return member.values.contains("other")
        }
        try scene.cluster.setBrokerUp(1)
        try await eventually("all records of the broker that was away") {
            member.pump()
            return member.seen.count >= 201 && delivered.withLock { $0 } == 100
        }
        let values = member.seen.filter { $0.partition == scene.at(0) }.compactMap(\.value)
        #expect(values == texts(0..<200))
        member.consumer.close(within: .seconds(10))
    }

    @Test("topics that match a pattern are read, and those that do not are not")
    func patterns() async throws {
        let scene = try Scene()
        try scene.cluster.createTopic("camera.north", partitions: 1)
        try scene.cluster.createTopic("cameraXsouth", partitions: 1)
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic], patterns: ["camera.*"])
        try await eventually("the topic and the one that matches") {
            member.pump()
            return member.consumer.assignment
                == [TopicPartition("camera.north", 0), TopicPartition("events", 0)]
        }
        member.consumer.close(within: .seconds(10))
    }

    @Test("lag, watermarks and partition counts are known after they have been asked for")
    func lag() async throws {
        let scene = try Scene(partitions: 3)
        try scene.write(0..<30, to: 2)
        let member = try Member(scene.cluster) { _ in .at(0) }
        try member.consumer.subscribe(topics: [scene.topic])
        let answers = Lock(0)
        member.consumer.queryWatermarks(of: (0..<3).map(scene.at), within: .seconds(20)) {
            #expect(throws: Never.self, performing: $0.get)
            answers.withLock { $0 += 1 }
        }
        member.consumer.queryTopics(within: .seconds(20)) {
            #expect(throws: Never.self, performing: $0.get)
            answers.withLock { $0 += 1 }
        }
        try await eventually("both answers") { answers.withLock { $0 } == 2 }
        #expect(member.consumer.watermarks(of: scene.at(2)) == KafkaWatermarks(low: 0, high: 30))
        #expect(member.consumer.partitionCount(of: scene.topic) == 3)
        try await eventually("all records") {
            member.pump()
            return member.seen.count == 30
        }
        #expect(member.consumer.lag[scene.at(2)] == 0)
        member.consumer.reposition(scene.at(2), to: .at(25))
        #expect(member.consumer.lag[scene.at(2)] == 5)
        member.consumer.close(within: .seconds(10))
    }
}

extension Seen {
    init(_ record: borrowing KafkaRecord) {
        self.init(
            partition: TopicPartition(record.topic, record.partition), offset: record.offset,
            value: record.value?.text)
    }
}

extension Scene {
    /// Writes one record that says "other", without waiting for anything else.
    func write0(to partition: Int32) throws {
        try producer.produce(
            topic: topic, partition: partition, key: nil, value: Array("other".utf8))
    }
}
