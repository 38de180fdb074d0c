// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

@Suite("Rebalances and commits that go wrong")
struct RebalanceTests {
    @Test("a paused partition that is taken away and comes back is read again")
    func pausedPartitionReturns() async throws {
        let scene = try Scene(partitions: 2)
        let first = try Member(scene.cluster) { _ in .beginning }
        try first.consumer.subscribe(topics: [scene.topic])
        try await eventually("both partitions") {
            first.pump()
            return first.consumer.assignment.count == 2
        }
        first.consumer.pause([scene.at(0), scene.at(1)])
        let second = try Member(scene.cluster) { _ in .end }
        try second.consumer.subscribe(topics: [scene.topic])
        try await eventually("one partition each") {
            first.pump()
            second.pump()
            return first.consumer.assignment.count == 1 && second.consumer.assignment.count == 1
        }
        let moved = second.consumer.assignment[0]
        try scene.write(0..<10, to: 0)
        try scene.write(0..<10, to: 1)
        second.consumer.close(within: .seconds(10))
        try await eventually("the records of the partition that came back") {
            first.pump()
            return first.seen.count >= 10
        }
        // The one that stayed is still paused.
        #expect(first.seen.allSatisfy { $0.partition == moved })
        first.consumer.close(within: .seconds(10))
    }

    @Test("a lost assignment is reported as lost, and what follows is read from where we say")
    func lostAssignment() async throws {
        let scene = try Scene()
        try scene.write(0..<10)
        let member = try Member(scene.cluster) { _ in .at(4) }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("the first records") {
            member.pump()
            return member.seen.count == 6
        }
        member.consumer.noteStored(scene.at(0), nextOffset: 10)
        scene.cluster.pushErrors([.unknownMember], for: .heartbeat)
        try await eventually("the loss and a new assignment") {
            member.pump()
            return member.events == ["assigned 1", "revoked 1 lost", "assigned 1"]
        }
        try await eventually("the records once more") {
            member.pump()
            return member.seen.count >= 12
        }
        #expect(member.values == texts(4..<10) + texts(4..<10))
        member.consumer.close(within: .seconds(10))
    }

    @Test("a commit that falls into a rebalance is no error and goes with a later one")
    func commitDuringRebalance() async throws {
        let scene = try Scene()
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("the partition") {
            member.pump()
            return member.consumer.assignment.count == 1
        }
        scene.cluster.pushErrors([.rebalanceInProgress], for: .offsetCommit)
        member.consumer.noteStored(scene.at(0), nextOffset: 5)
        let found = Lock<[TopicPartition: Int64]>([:])
        var asked = MonotonicTime.now
        try await eventually("the committed offset") {
            member.pump()
            member.consumer.commitStored()
            if MonotonicTime.now >= asked {
                asked = asked + .milliseconds(100)
                member.consumer.committedOffsets(of: [scene.at(0)], within: .seconds(5)) {
                    if case .success(let offsets) = $0 { found.withLock { $0 = offsets } }
                }
            }
            return found.withLock { $0[scene.at(0)] } == 5
        }
        #expect(member.errors.isEmpty)
        member.consumer.close(within: .seconds(10))
    }

    @Test("a commit that is refused is reported, and its offsets go with the next one")
    func commitRefused() async throws {
        let scene = try Scene()
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        try await eventually("the partition") {
            member.pump()
            return member.consumer.assignment.count == 1
        }
        scene.cluster.pushErrors([.topicAuthorizationFailed], for: .offsetCommit)
        member.consumer.noteStored(scene.at(0), nextOffset: 5)
        member.consumer.commitStored()
        try await eventually("the report") {
            member.pump()
            return !member.errors.isEmpty
        }
        #expect(member.errors.map(\.code) == [.authorizationFailed])
        member.consumer.close(within: .seconds(10))

        let next = try Member(scene.cluster) { _ in .committed }
        try next.consumer.subscribe(topics: [scene.topic])
        try scene.write(0..<7)
        try await eventually("the records from the committed offset on") {
            next.pump()
            return next.seen.count >= 2
        }
        #expect(next.values == texts(5..<7))
        next.consumer.close(within: .seconds(10))
    }
}
