// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO
import Testing

@testable import KafkaClient

@Suite("Closing a consumer")
struct ClosingTests {
    @Test("before the first assignment it neither crashes nor hangs, and leaves the group")
    func beforeFirstAssignment() async throws {
        let scene = try Scene()
        let early = try Member(scene.cluster)
        try early.consumer.subscribe(topics: [scene.topic])
        early.pump()
        let start = MonotonicTime.now
        early.consumer.close(within: .seconds(15))
        #expect(MonotonicTime.now - start < .seconds(15))

        let next = try Member(scene.cluster) { _ in .beginning }
        try next.consumer.subscribe(topics: [scene.topic])
        try await eventually("the partition at the next member") {
            next.pump()
            return next.consumer.assignment == [scene.at(0)]
        }
        next.consumer.close(within: .seconds(10))
    }

    @Test("between joining and the first assignment it does not crash, and says what it gave up")
    func betweenJoinAndAssignment() async throws {
        // Ending the client in this state is what crashes librdkafka before 2.3; later ones end.
        let scene = try Scene()
        scene.cluster.pushErrors(
            Array(repeating: .rebalanceInProgress, count: 1000), for: .syncGroup)
        let lines = Lines()
        let member = try Member(scene.cluster, log: lines.log)
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("an answer to the join") {
            member.pump()
            return member.consumer.handle.hasMemberID
        }
        let start = MonotonicTime.now
        member.consumer.close(within: .seconds(1))
        #expect(MonotonicTime.now - start < .seconds(2))
        #expect(member.events.isEmpty)
        #expect(KafkaVersion.endsSafelyBeforeAssignment || lines.contain("its memory is given up"))
    }

    @Test("a client that is closed says so and does nothing")
    func afterClose() throws {
        let scene = try Scene()
        try scene.write(0..<3)
        let member = try Member(scene.cluster)
        member.consumer.close(within: .seconds(10))
        member.consumer.close(within: .seconds(10))
        #expect(!member.consumer.drain(limit: 10) { _ in Issue.record("an event after the end") })
        #expect(member.consumer.watermarks(of: scene.at(0)) == nil)
        #expect(member.consumer.lag.isEmpty)
        member.consumer.completeAssignment([(scene.at(0), .beginning)])
        member.consumer.commitStored()
        let answer = Lock<KafkaError.Code?>(nil)
        member.consumer.queryTopics(within: .seconds(1)) { result in
            if case .failure(let error) = result { answer.withLock { $0 = error.code } }
        }
        #expect(answer.withLock { $0 } == .closed)
        let subscribing = #expect(throws: KafkaError.self) {
            try member.consumer.subscribe(topics: [scene.topic])
        }
        #expect(subscribing?.code == .closed)

        #expect(scene.producer.close(within: .seconds(10)))
        let producing = #expect(throws: KafkaError.self) {
            try scene.producer.produce(topic: scene.topic, key: nil, value: [1])
        }
        #expect(producing?.code == .closed)
        #expect(scene.producer.flush(within: .seconds(1)))
    }

    @Test("without time to wait for the first assignment it returns all the same")
    func inAHurry() async throws {
        let scene = try Scene()
        let member = try Member(scene.cluster)
        try member.consumer.subscribe(topics: [scene.topic])
        let start = MonotonicTime.now
        member.consumer.close(within: .milliseconds(500))
        #expect(MonotonicTime.now - start < .seconds(2))
    }

    @Test("one that never subscribed closes at once")
    func neverSubscribed() throws {
        let scene = try Scene()
        let member = try Member(scene.cluster)
        let start = MonotonicTime.now
        member.consumer.close(within: .seconds(20))
        #expect(MonotonicTime.now - start < .seconds(10))
    }

    @Test("with an assignment that was never answered it leaves cleanly")
    func unanswered() async throws {
        let scene = try Scene()
        let member = try Member(scene.cluster)
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("an assignment") {
            member.pump()
            return member.unanswered != nil
        }
        let start = MonotonicTime.now
        member.consumer.close(within: .seconds(20))
        #expect(MonotonicTime.now - start < .seconds(15))
    }

    @Test("with all brokers gone it returns within its deadline", arguments: [true, false])
    func brokersGone(noticed: Bool) async throws {
        let scene = try Scene(brokers: 2)
        let lines = Lines()
        let member = try Member(scene.cluster, log: lines.log) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("the partition") {
            member.pump()
            return member.consumer.assignment == [scene.at(0)]
        }
        try scene.cluster.setBrokerDown(1)
        try scene.cluster.setBrokerDown(2)
        if noticed {
            try await eventually("the loss of the brokers") {
                member.pump()
                return member.isWithoutBrokers
            }
        }
        member.consumer.noteStored(scene.at(0), nextOffset: 1)
        let start = MonotonicTime.now
        member.consumer.close(within: .seconds(3))
        #expect(MonotonicTime.now - start < .seconds(4))
        // Leaving without a coordinator crashes librdkafka before 2.14.2, so it is asked first.
        #expect(noticed || lines.contain("coordinator is away"))
    }
}

private enum KafkaVersion {
    static var endsSafelyBeforeAssignment: Bool { rd_kafka_version() >= 0x0203_0000 }
}
