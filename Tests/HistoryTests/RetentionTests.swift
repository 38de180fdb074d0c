// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import BrokerTestKit
import EventStreamWire
import KafkaClient
import Observability
import PosixIO
import RedisClient
import Testing

@testable import History

/// Against librdkafka's mock cluster, which forgets what exceeds 5 MiB a partition.
@Suite("Retention and jumps, from Kafka to clients", .timeLimit(.minutes(2)))
struct RetentionTests {
    /// Goal: what Kafka has deleted before it was read is counted, appended as a loss in its
    /// place, and told to clients of every node, live and in a replay; everything else arrives
    /// once. Method: Redis stands still while a partition gets more than twice what it holds.
    @Test("retention that overtakes a stalled owner is a gap on every node, and nothing is silent")
    func overtaken() async throws {
        let scene = try IngestScene(partitions: 1)
        var options = IngestBench.Options()
        options.redisTimeout = .milliseconds(400)
        options.heldBytesMax = 200_000
        options.queuedBytesMax = 1 << 20
        let bench = try IngestBench(scene, options)
        let tails = [
            try TailBench(scene.server, scene.keys), try TailBench(scene.server, scene.keys),
        ]
        try scene.write(0..<5, to: 0)
        try await scene.awaitHistory(through: 4, of: 0..<1)
        #expect(try await comesAbout { tails.allSatisfy { $0.hasBegun && $0.count == 5 } })

        scene.server.pause()
        for offset: Int64 in 5..<135 {
            try scene.write(content("a", 0, offset, padding: 100_000), to: 0)
        }
        scene.flush()
        #expect(try await comesAbout { bench.metrics.holds.value > 0 })
        scene.server.resume()
        try await scene.awaitHistory(through: 134, of: 0..<1)
        try scene.write(135..<137, to: 0)
        try await scene.awaitHistory(through: 136, of: 0..<1)

        let kept = try scene.events(of: 0)
        let losses = try scene.losses()
        var accounted = kept.map(\.offset)
        for loss in losses { accounted += Array((loss.last - loss.lost + 1)...loss.last) }
        #expect(accounted.sorted() == Array(0..<137))
        #expect(!losses.isEmpty)
        let lost = losses.reduce(0) { $0 + $1.lost }
        // History is there before its owner has heard so; and where Redis stood still for longer
        // than an answer may take, it hears only that the batch it sends again was there.
        let metrics = bench.metrics
        #expect(
            try await comesAbout {
                let (events, offsets) = (metrics.events.value, metrics.lostOffsets.value)
                if events == UInt64(137 - lost), offsets == UInt64(lost) { return true }
                return metrics.duplicates.value > 0 && events <= UInt64(137 - lost)
                    && offsets <= UInt64(lost)
            })
        #expect(
            kept.allSatisfy {
                $0.value
                    == content(
                        "a", 0, $0.offset, padding: (5..<135).contains($0.offset) ? 100_000 : 0)
            })

        let total = kept.count + losses.count
        #expect(try await comesAbout { tails.allSatisfy { $0.count == total } })
        let first = tails[0].received
        #expect(first == tails[1].received)
        let gaps = try first.filter(\.isGap).map { try $0.gap() }
        #expect(gaps.map(\.lost) == losses.map { UInt64($0.lost) })
        #expect(gaps.allSatisfy { $0.reason == .retention })
        #expect(
            first.map(\.id.sequence)
                == Array(first[0].id.sequence..<(first[0].id.sequence + UInt64(total))))
        try await bench.stop()
    }

    @Test("a jump over offsets that Kafka holds is a hole; over those it has deleted, a loss")
    func jumps() async throws {
        let scene = try IngestScene(partitions: 1)
        let bench = try IngestBench(scene)
        try scene.write(0..<3, to: 0)
        try await scene.awaitHistory(through: 2, of: 0..<1)
        try bench.jump(TopicPartition("a", 0), to: 6)
        try scene.write(3..<8, to: 0)
        try await scene.awaitHistory(through: 7, of: 0..<1)
        #expect(try scene.events(of: 0).map(\.offset) == [0, 1, 2, 6, 7])
        #expect(try scene.losses().isEmpty)
        #expect(bench.metrics.lostOffsets.value == 0)
        #expect(bench.metrics.duplicates.value == 0)
        try await bench.stop()
    }

    @Test("a mark below what Kafka still holds is followed by a loss up to there")
    func markBelowLow() async throws {
        let scene = try IngestScene(partitions: 1)
        for offset: Int64 in 0..<80 {
            try scene.write(content("a", 0, offset, padding: 100_000), to: 0)
        }
        scene.flush()
        _ = try scene.link.send(RedisCommand("HSET").add(scene.keys.highWater("a")).add(0).add(3))
        let bench = try IngestBench(scene)
        try await scene.awaitHistory(through: 79, of: 0..<1)
        let offsets = try scene.events(of: 0).map(\.offset)
        let low = try #require(offsets.first)
        #expect(low > 4)
        #expect(offsets == Array(low..<80))
        #expect(
            try scene.losses() == [HistoryLoss(last: low - 1, lost: low - 4, reason: .retention)])
        #expect(bench.metrics.lostOffsets.value == UInt64(low - 4))
        try await bench.stop()
    }
}

extension IngestScene {
    /// The losses in the index, in order.
    func losses() throws -> [HistoryLoss] { try link.index(topic, keys).compactMap(\.loss) }
}
