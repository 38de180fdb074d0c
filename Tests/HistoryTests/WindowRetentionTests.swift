// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import EventStreamWire
import Observability
import PosixIO
import RedisClient
import Testing

@testable import History

/// Against a redis-server of its own.
@Suite("What the window lets go", .timeLimit(.minutes(2)))
struct WindowRetentionTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
    }

    /// Appends event after event to `topic` and returns their IDs.
    private func append(
        _ count: Int, to topic: String, from first: Int64 = 0, padding: Int = 0,
        _ retention: HistoryRetention = .roomy
    ) throws -> [EventID] {
        var ids: [EventID] = []
        var offset = first
        while ids.count < count {
            if !PartitionIngest.isHole(offset) {
                let batch = request(topic, 0, offset..<(offset + 1), padding: padding)
                guard
                    case .appended(let milliseconds, let sequence) = try link.append(
                        batch, keys, retention)
                else { throw RedisError(.serverReplied, "not appended") }
                ids.append(EventID(milliseconds: milliseconds, sequence: sequence))
            }
            offset += 1
        }
        return ids
    }

    private func floor(_ topic: String) throws -> [String: String] {
        try link.send(RedisCommand("HGETALL").add(keys.floor(topic))).fields.mapValues(\.text)
    }

    @Test("the window keeps so many bytes, and the floor counts those it still has")
    func bytes() throws {
        let size = request("t", 0, 0..<1, padding: 1000).bytes.count
        var retention = HistoryRetention.roomy
        // Five and a half: numbers of more digits make later ones a little larger.
        retention.window.bytes = size * 11 / 2
        let ids = try append(40, to: "t", padding: 1000, retention)
        let kept = try link.window("t", keys).map(\.lastID)
        #expect(kept == ids.suffix(5))
        let floor = try floor("t")
        #expect(floor["id"] == ids[ids.count - 6].description)
        #expect(floor["events"] == "5")
        let bytes = try #require(floor["bytes"].flatMap { Int($0) })
        #expect(bytes > 5 * size - 1 && bytes < 5 * size + 50)
        #expect(try link.index("t", keys).map(\.lastID) == ids)
    }

    @Test("a topic with a window of its own keeps that, and the others what all keep")
    func ofTopic() throws {
        var retention = HistoryRetention.roomy
        retention.topics["small"] = .init(events: 3, age: .seconds(3600))
        let small = try append(10, to: "small", retention)
        let other = try append(10, to: "other", retention)
        #expect(try link.window("small", keys).map(\.lastID) == small.suffix(3))
        #expect(try link.window("other", keys).map(\.lastID) == other)
    }

    @Test("what is too old goes from an idle topic as well, and the next append finds its place")
    func idle() throws {
        var retention = HistoryRetention.roomy
        retention.window.age = .milliseconds(200)
        let ids = try append(5, to: "t")
        let last = try #require(ids.last)
        #expect(eventually { WallClock.milliseconds > last.milliseconds + 210 })
        let old = retention
        #expect(try link.with(keys, old) { $0.trim("t", $1) }.wait().get())
        #expect(try link.window("t", keys).isEmpty)
        #expect(try floor("t") == ["id": last.description, "events": "0", "bytes": "0"])
        #expect(try link.index("t", keys).map(\.lastID) == ids)
        #expect(try !link.with(keys, old) { $0.trim("t", $1) }.wait().get())
        let next = try append(1, to: "t", from: 100, retention)
        #expect(next[0].sequence == last.sequence + 1)
        #expect(try floor("t")["events"] == "1")
    }

    @Test("a topic without history is trimmed without a trace")
    func nothing() throws {
        #expect(try !link.with(keys) { $0.trim("none", $1) }.wait().get())
        #expect(try floor("none").isEmpty)
    }

    @Test("shedding takes the oldest of all topics, and leaves what is young")
    func shedding() throws {
        let first = try append(10, to: "a", padding: 1000)
        let second = try append(10, to: "b", padding: 1000)
        let last = try #require(second.last)
        #expect(eventually { WallClock.milliseconds > last.milliseconds + 60 })
        let third = try append(10, to: "a", from: 100, padding: 1000)
        let shed = try link.with(keys) {
            $0.shed(bytes: 14_000, sparing: .milliseconds(50), $1)
        }.wait().get()
        #expect(shed.entries == shed.events)
        #expect(shed.bytes >= 14_000)
        #expect((11...14).contains(shed.entries))
        // All of the first, which are the oldest, and some of the second.
        #expect(try link.window("a", keys).map(\.lastID) == third)
        #expect(try floor("a")["id"] == first[9].description)
        #expect(try link.window("b", keys).map(\.lastID) == second.suffix(20 - shed.entries))
        let rest = try link.with(keys) {
            $0.shed(bytes: .max >> 12, sparing: .seconds(3600), $1)
        }.wait().get()
        #expect(rest == HistoryAppender.Shed())
        #expect(try link.index("a", keys).map(\.lastID) == first + third)
    }

    /// Goal: a Redis that is full costs nobody an event. Method: three times what it holds, read
    /// from Kafka by an ingest; the index says that all of it was appended, without a hole.
    @Test("a full Redis lets go of the oldest of its window, and ingest goes on")
    func full() async throws {
        let scene = try IngestScene(
            partitions: 8, redis: ["--maxmemory", "12mb", "--maxmemory-policy", "noeviction"])
        let bench = try IngestBench(scene)
        for partition: Int32 in 0..<8 {
            for offset: Int64 in 0..<40 {
                try scene.write(
                    content("a", partition, offset, padding: 100_000), to: partition)
            }
        }
        scene.flush()
        try await scene.awaitHistory(through: 39, of: 0..<8)
        let index = try scene.link.index("a", scene.keys)
        var next: UInt64 = 1
        var offsets: [Int32: [Int64]] = [:]
        for entry in index {
            #expect(entry.lastID.sequence == next + UInt64(entry.count) - 1)
            next = entry.lastID.sequence + 1
            offsets[entry.partition, default: []] += (0..<Int64(entry.count)).map {
                entry.base + $0
            }
        }
        #expect(next == 321)
        for partition: Int32 in 0..<8 { #expect(offsets[partition] == Array(0..<40)) }
        let metrics = bench.metrics
        #expect(metrics.shedEvents.value > 100)
        #expect(metrics.shedBatches.value > 0)
        #expect(try await comesAbout { metrics.redisIsFull.value == 0 })
        let kept = try scene.link.window("a", scene.keys).map(\.lastID)
        #expect(kept == index.map(\.lastID).suffix(kept.count))
    }

    @Test("what Redis says of its memory is read, and what is dangerous is named")
    func memory() throws {
        let text = try link.send(RedisCommand("INFO").add("memory")).text
        let memory = try #require(RedisMemory(info: text))
        #expect(memory == RedisMemory(limit: 0, policy: "noeviction"))
        #expect(memory.danger == nil && memory.hint != nil)
        _ = try link.send(RedisCommand("CONFIG").add("SET").add("maxmemory").add("64mb"))
        _ = try link.send(
            RedisCommand("CONFIG").add("SET").add("maxmemory-policy").add("allkeys-lru"))
        let later = try link.send(RedisCommand("INFO").add("memory")).text
        let evicting = try #require(RedisMemory(info: later))
        #expect(evicting == RedisMemory(limit: 64 << 20, policy: "allkeys-lru"))
        #expect(evicting.danger?.contains("allkeys-lru") == true && evicting.hint == nil)
    }

    @Test(
        "what is no answer about memory is none",
        arguments: [
            "", "maxmemory:12", "maxmemory_policy:noeviction", "maxmemory:-1\r\nmaxmemory_policy:x",
        ])
    func notMemory(text: String) { #expect(RedisMemory(info: text) == nil) }
}
