// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import EventStreamWire
import KafkaClient
import Observability
import PosixIO
import RedisClient
import Testing

@testable import History

@Suite("Ingest from Kafka to history", .timeLimit(.minutes(2)))
struct IngestTests {
    @Test("records of before and after the start are in history once, in order by partition")
    func exactlyOnce() async throws {
        let scene = try IngestScene(partitions: 4)
        for partition: Int32 in 0..<4 { try scene.write(0..<200, to: partition) }
        scene.flush()
        let bench = try IngestBench(scene)
        try await scene.awaitHistory(through: 199, of: 0..<4)
        for partition: Int32 in 0..<4 { try scene.write(200..<300, to: partition) }
        try await scene.awaitHistory(through: 299, of: 0..<4)
        try scene.expectExactlyOnce(300, of: 0..<4)
        #expect(bench.metrics.events.value == 1200)
        #expect(bench.metrics.duplicates.value == 0)
        #expect(try await comesAbout { bench.metrics.heldBytes.value == 0 })
        try await bench.stop()
    }

    @Test("keys, headers and times come along")
    func parts() async throws {
        let scene = try IngestScene(partitions: 1)
        try scene.write(
            bytes("{\"n\":1}"), to: 0, key: bytes("k"), headers: [("trace", [0, 255]), ("x", [])])
        try scene.write(bytes(" { } "), to: 0, key: [])
        scene.flush()
        let bench = try IngestBench(scene)
        try await scene.awaitHistory(through: 1, of: 0..<1)
        let events = try scene.events(of: 0)
        #expect(events.map(\.value.text) == ["{\"n\":1}", " { } "])
        #expect(events.map(\.key) == [bytes("k"), []])
        #expect(events[0].headers.map(\.name.text) == ["trace", "x"])
        #expect(events[0].headers.map(\.value) == [[0, 255], []])
        let now = Int64(WallClock.milliseconds)
        #expect(events.allSatisfy { abs(now - $0.timestamp) < 60_000 })
        try await bench.stop()
    }

    @Test("times far away, and events of a megabyte, pass as they are")
    func extremes() async throws {
        let scene = try IngestScene(partitions: 1)
        let times: [Int64] = [1, 4_102_444_800_000, 253_402_300_800_000, 1 << 61, 2]
        for time in times { try scene.write(bytes("{\"n\":\(time)}"), to: 0, timestamp: time) }
        let large = content("a", 0, 5, padding: 1_000_000)
        try scene.write(
            large, to: 0, key: bytes("k"), headers: [("traceparent", bytes("00-1-2-01"))])
        try scene.write(6..<8, to: 0)
        scene.flush()
        let bench = try IngestBench(scene)
        try await scene.awaitHistory(through: 7, of: 0..<1)
        let events = try scene.events(of: 0)
        #expect(events.map(\.timestamp).prefix(5) == times[...])
        #expect(events[5].value == large && events[5].key == bytes("k"))
        #expect(events[5].headers.map(\.value) == [bytes("00-1-2-01")])
        #expect(events.map(\.offset) == Array(0..<8))
        // The IDs have Redis' time and not the events'.
        let now = WallClock.milliseconds
        let ids = try scene.link.window("a", scene.keys).map(\.lastID.milliseconds)
        #expect(ids.allSatisfy { $0 <= now && now - $0 < 60_000 })
        try await bench.stop()
    }

    @Test("a topic that appears while the node runs is read from its beginning, also with latest")
    func topicAppears() async throws {
        let scene = try IngestScene(partitions: 1)
        var options = IngestBench.Options()
        options.topicPatterns = ["late.*"]
        let bench = try IngestBench(scene, options)
        #expect(try await comesAbout { bench.partitionCount == 1 })
        try scene.cluster.createTopic("late.one", partitions: 3)
        for partition: Int32 in 0..<3 {
            try scene.producer.produce(
                topic: "late.one", partition: partition, key: nil,
                value: content("late.one", partition, 0))
        }
        scene.flush()
        #expect(
            try await comesAbout {
                try (0..<3).allSatisfy {
                    try scene.link.highWater("late.one", $0, scene.keys) == "0"
                }
            })
        #expect(bench.partitionCount == 4)
        try await bench.stop()
    }

    @Test(
        "where it starts at the end, that place is kept; a partition that comes later is read whole"
    )
    func endIsKept() async throws {
        let scene = try IngestScene(partitions: 2)
        for partition: Int32 in 0..<2 { try scene.write(0..<40, to: partition) }
        scene.flush()
        // Partition 0 alone is known: the topic had one partition when it was first read.
        _ = try scene.link.send(
            RedisCommand("HSET").add(scene.keys.highWater("a")).add(0).add(39))
        var options = IngestBench.Options()
        options.startsAtEnd = true
        let bench = try IngestBench(scene, options)
        try await scene.awaitHistory(through: 39, of: 1..<2)
        #expect(try scene.events(of: 0).isEmpty)
        #expect(try scene.events(of: 1).map(\.offset) == Array(0..<40))
        try await bench.stop()

        let other = try IngestScene(partitions: 1)
        try other.write(0..<40, to: 0)
        other.flush()
        let first = try IngestBench(other, options)
        try await other.awaitHistory(through: 39, of: 0..<1)
        try await first.stop()
        try other.write(40..<50, to: 0)
        other.flush()
        let second = try IngestBench(other, options)
        try await other.awaitHistory(through: 49, of: 0..<1)
        #expect(try other.events(of: 0).map(\.offset) == Array(40..<50))
        try await second.stop()
    }

    @Test("a Redis emptied before its owner noticed gets the newest events again from the next one")
    func emptiedBeforeRebalance() async throws {
        let scene = try IngestScene(partitions: 1)
        try scene.write(0..<1500, to: 0)
        scene.flush()
        let first = try IngestBench(scene)
        try await scene.awaitHistory(through: 1499, of: 0..<1)
        // What is stored is committed on the way out.
        try await first.stop()
        _ = try scene.link.send(RedisCommand("FLUSHALL"))
        let second = try IngestBench(scene)
        try await scene.awaitHistory(through: 1499, of: 0..<1)
        #expect(try scene.events(of: 0).map(\.offset) == Array(500..<1500))
        try await second.stop()
    }

    @Test("what is no event goes to the dead-letter topic, and the partition goes on")
    func deadLetters() async throws {
        let scene = try IngestScene(partitions: 2)
        let bad: [(value: [UInt8], reason: String)] = [
            (bytes("no JSON"), "malformed"),
            (bytes("[1,2]"), "not_an_object"),
            (bytes("{\"a\":") + [0xff, 0xfe] + bytes("}"), "invalid_utf8"),
            ([], "malformed"),
            // Smaller than an event may be, larger than the producer takes.
            (bytes("x") + [UInt8](repeating: 120, count: 1_020_000), "malformed"),
        ]
        var offset: Int64 = 0
        for (value, _) in bad {
            try scene.write(content("a", 0, offset), to: 0)
            try scene.write(value, to: 0, key: bytes("key"))
            offset += 2
        }
        try scene.write(nil, to: 0, key: bytes("tombstone"))
        try scene.write(content("a", 0, offset + 1), to: 0)
        let large = bytes("{\"a\":\"" + String(repeating: "y", count: 5_000_000) + "\"}")
        try scene.write(large, to: 1)
        try scene.write(content("a", 1, 1), to: 1)
        scene.flush()
        let bench = try IngestBench(scene)
        try await scene.awaitHistory(through: offset + 1, of: 0..<1)
        try await scene.awaitHistory(through: 1, of: 1..<2)
        let evens = stride(from: 0, to: offset, by: 2).map { Int64($0) }
        let kept = try scene.events(of: 0)
        #expect(kept.map(\.offset) == evens + [offset + 1])
        #expect(kept.allSatisfy { $0.value == content("a", 0, $0.offset) })
        #expect(try scene.events(of: 1).map(\.offset) == [1])
        #expect(bench.metrics.tombstones.value == 1)
        #expect(bench.metrics.deadLetterFailures.value == 0)

        let letters = try scene.deadLetters()
        #expect(letters.count == bad.count + 1)
        let first = letters.filter { $0.headers["rivulet-partition"] == "0" }
        #expect(first.map { $0.headers["rivulet-reason"] } == bad.map(\.reason))
        #expect(first.prefix(4).map(\.value) == bad.prefix(4).map(\.value))
        #expect(first.allSatisfy { $0.key == bytes("key") })
        #expect(first.map { $0.headers["rivulet-offset"] } == ["1", "3", "5", "7", "9"])
        #expect(letters.allSatisfy { $0.headers["rivulet-topic"] == "a" })
        #expect(letters.allSatisfy { $0.headers["rivulet-detail"]?.isEmpty == false })
        let cut = try #require(first.last)
        #expect(cut.value == Array(bad[4].value.prefix(1024)))
        #expect(cut.headers["rivulet-size"] == "1020001")
        let second = try #require(letters.first { $0.headers["rivulet-partition"] == "1" })
        #expect(second.headers["rivulet-reason"] == "too_large")
        #expect(second.headers["rivulet-size"] == "\(large.count)")
        #expect(second.value == Array(large.prefix(1024)))
        try await bench.stop()
    }

    /// Goal: a node that is gone without a word costs nothing and repeats nothing. Method: two
    /// members share four partitions; one of them is cut off while records are written.
    @Test("when a node is gone the other goes on with its partitions")
    func takeover() async throws {
        let scene = try IngestScene(partitions: 4)
        let benches = [try IngestBench(scene), try IngestBench(scene)]
        #expect(try await comesAbout { benches.allSatisfy { $0.partitionCount == 2 } })
        for partition: Int32 in 0..<4 { try scene.write(0..<300, to: partition) }
        try await scene.awaitHistory(through: 50, of: 0..<4)
        try await benches[1].stop(within: .zero)
        for partition: Int32 in 0..<4 { try scene.write(300..<500, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 499, of: 0..<4)
        try scene.expectExactlyOnce(500, of: 0..<4)
        #expect(try await comesAbout { benches[0].partitionCount == 4 })
        try await benches[0].stop()
    }

    @Test("two groups that read the same partitions at once leave one copy")
    func zombie() async throws {
        let scene = try IngestScene(partitions: 2)
        for partition: Int32 in 0..<2 { try scene.write(0..<1000, to: partition) }
        scene.flush()
        // Batches of other sizes, so that they overlap.
        var other = IngestBench.Options()
        other.group = "others"
        other.batchEvents = 33
        let benches = [try IngestBench(scene), try IngestBench(scene, other)]
        #expect(try await comesAbout { benches.allSatisfy { $0.partitionCount == 2 } })
        for partition: Int32 in 0..<2 { try scene.write(1000..<2000, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 1999, of: 0..<2)
        try scene.expectExactlyOnce(2000, of: 0..<2)
        #expect(try await comesAbout { benches.contains { $0.metrics.duplicates.value > 0 } })
        for bench in benches { try await bench.stop() }
    }

    @Test("a Redis that stands still while records are written loses none of them")
    func redisPaused() async throws {
        let scene = try IngestScene(partitions: 2)
        var options = IngestBench.Options()
        options.redisTimeout = .milliseconds(400)
        let bench = try IngestBench(scene, options)
        for partition: Int32 in 0..<2 { try scene.write(0..<100, to: partition) }
        try await scene.awaitHistory(through: 99, of: 0..<2)
        scene.server.pause()
        for partition: Int32 in 0..<2 { try scene.write(100..<400, to: partition) }
        scene.flush()
        // Some appends have been given up and sent again by then.
        #expect(try await comesAbout { bench.metrics.retries.value > 4 })
        scene.server.resume()
        try await scene.awaitHistory(through: 399, of: 0..<2)
        try scene.expectExactlyOnce(400, of: 0..<2)
        try await bench.stop()
    }

    @Test("partitions that are given while Redis is away are read when it is there")
    func redisAwayAtStart() async throws {
        let scene = try IngestScene(partitions: 2)
        for partition: Int32 in 0..<2 { try scene.write(0..<50, to: partition) }
        scene.flush()
        scene.server.kill()
        let bench = try IngestBench(scene)
        #expect(try await comesAbout { bench.isAwaitingStart })
        #expect(bench.partitionCount == 0)
        try scene.server.start()
        try scene.link.becomeReady()
        try await scene.awaitHistory(through: 49, of: 0..<2)
        try scene.expectExactlyOnce(50, of: 0..<2)
        try await bench.stop()
    }

    @Test("a Redis that was emptied gets the newest events again")
    func redisEmptied() async throws {
        let scene = try IngestScene(partitions: 2)
        let bench = try IngestBench(scene)
        for partition: Int32 in 0..<2 { try scene.write(0..<300, to: partition) }
        try await scene.awaitHistory(through: 299, of: 0..<2)
        _ = try scene.link.send(RedisCommand("FLUSHALL"))
        for partition: Int32 in 0..<2 { try scene.write(300..<310, to: partition) }
        try await scene.awaitHistory(through: 309, of: 0..<2)
        try scene.expectExactlyOnce(310, of: 0..<2)
        #expect(bench.metrics.redisLosses.value == 2)
        try await bench.stop()
    }

    @Test("another group goes on after the mark in history, whatever it has committed")
    func startsAtMark() async throws {
        let scene = try IngestScene(partitions: 1)
        try scene.write(0..<40, to: 0)
        scene.flush()
        let first = try IngestBench(scene)
        try await scene.awaitHistory(through: 39, of: 0..<1)
        try await first.stop()
        try scene.write(40..<60, to: 0)
        scene.flush()
        var options = IngestBench.Options()
        options.group = "others"
        options.startsAtEnd = true
        let second = try IngestBench(scene, options)
        try await scene.awaitHistory(through: 59, of: 0..<1)
        try scene.expectExactlyOnce(60, of: 0..<1)
        #expect(second.metrics.records.value == 20)
        try await second.stop()
    }

    @Test("without a mark and a commit the end is the start, where that is asked for")
    func startsAtEnd() async throws {
        let scene = try IngestScene(partitions: 1)
        try scene.write(0..<40, to: 0)
        scene.flush()
        var options = IngestBench.Options()
        options.startsAtEnd = true
        let bench = try IngestBench(scene, options)
        #expect(try await comesAbout { bench.partitionCount == 1 })
        // When the end is found is Kafka's affair: records are written until one arrives.
        var next: Int64 = 40
        #expect(
            try await comesAbout {
                try? scene.write(content("a", 0, next), to: 0)
                next += 1
                return bench.metrics.events.value > 0
            })
        scene.flush()
        try await scene.awaitHistory(through: next - 1, of: 0..<1)
        let offsets = try scene.events(of: 0).map(\.offset)
        let first = try #require(offsets.first)
        #expect(first >= 40)
        #expect(offsets == Array(first..<next))
        try await bench.stop()
    }

    @Test("a mark beyond the end of the partition is one of an earlier topic")
    func recreated() async throws {
        let scene = try IngestScene(partitions: 1)
        try scene.write(0..<30, to: 0)
        scene.flush()
        _ = try scene.link.send(
            RedisCommand("HSET").add(scene.keys.highWater("a")).add(0).add(5000))
        let bench = try IngestBench(scene)
        #expect(try await comesAbout { (try? scene.highWater(0)) == 29 })
        try scene.expectExactlyOnce(30, of: 0..<1)
        try await bench.stop()
    }

    @Test("a member with nothing to read stays in its group")
    func idle() async throws {
        let scene = try IngestScene(partitions: 1)
        var options = IngestBench.Options()
        options.pollIntervalMax = .milliseconds(3000)
        let bench = try IngestBench(scene, options)
        #expect(try await comesAbout { bench.partitionCount == 1 })
        let end = MonotonicTime.now + .seconds(5)
        var isMember = true
        #expect(
            try await comesAbout {
                isMember = isMember && bench.partitionCount == 1
                return MonotonicTime.now > end
            })
        #expect(isMember)
        try await bench.stop()
    }
}
