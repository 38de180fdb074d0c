// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

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
        let member = try Member(scene.cluster) { _ in .beginning }
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
    }
}
