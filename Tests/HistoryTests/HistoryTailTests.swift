// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import BrokerTestKit
import Bytes
import EventStreamWire
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import History

/// The tail of one node.
final class TailBench: Sendable {
    let loop: EventLoop
    let metrics: TailMetrics
    private struct Seen {
        var tips: [EventID] = []
        var received: [Received] = []
        var batchSizes: [Int] = []
    }
    private let seen = Lock(Seen())
    private struct Parts {
        let tail: HistoryTail
        let blocking: RedisConnection
        let commands: RedisConnection
    }
    private let parts: LoopBound<Parts>

    init(
        _ server: RedisServerProcess, _ keys: HistoryKeys, replyBytesMax: Int = 64 << 20
    ) throws {
        loop = try EventLoop(name: "tail")
        metrics = TailMetrics(in: MetricsRegistry())
        var settings = RedisSettings(server)
        settings.replyBytesMax = replyBytesMax
        let blocking = RedisConnection(
            loop: loop, settings: settings, purpose: "tail", log: .silent)
        let commands = RedisConnection(
            loop: loop, settings: RedisSettings(server), purpose: "commands", log: .silent)
        let directory = try ChannelDirectory.forTests()
        let seen = seen
        let tail = HistoryTail(
            loop: loop, connections: .init(blocking: blocking, commands: commands), keys: keys,
            directory: directory,
            encoder: try BatchEncoder(directory: directory, eventBytesMax: 1 << 20),
            metrics: metrics, log: .silent,
            began: { tip in seen.withLock { $0.tips.append(tip) } },
            deliver: { batches in
                seen.withLock { seen in
                    for batch in batches {
                        let received = try? batch.received(by: .everything, after: .zero)
                        seen.received += received ?? []
                        seen.batchSizes.append(batch.count)
                    }
                }
            })
        for connection in [blocking, commands] {
            connection.onStateChange = { [weak tail] state in
                if state == .ready { tail?.proceed() }
            }
        }
        parts = LoopBound(Parts(tail: tail, blocking: blocking, commands: commands), on: loop)
        loop.start()
        start()
    }

    deinit {
        stop()
        loop.stop()
        _ = loop.join(within: .seconds(20))
    }

    func start() {
        let parts = parts
        loop.post {
            parts.value.commands.start()
            parts.value.blocking.start()
        }
    }

    func stop() {
        let parts = parts
        loop.post {
            parts.value.blocking.stop()
            parts.value.commands.stop()
        }
    }

    var tips: [EventID] { seen.withLock { $0.tips } }
    var received: [Received] { seen.withLock { $0.received } }
    var count: Int { seen.withLock { $0.received.count } }
    var hasBegun: Bool { !tips.isEmpty }

    var knownTopics: [String] {
        get throws {
            let parts = parts
            return try loop.value { parts.value.tail.knownTopics }
        }
    }
    var isFollowing: Bool {
        get throws {
            let parts = parts
            return try loop.value { parts.value.tail.isFollowing }
        }
    }
}

/// Appends offsets of one partition over a connection until they are there, whatever happens to
/// the connection.
private func appendUntilThere(
    _ link: RedisLink, _ keys: HistoryKeys, _ request: AppendRequest,
    _ retention: HistoryRetention = .roomy
) throws {
    let deadline = MonotonicTime.now + patience
    while true {
        switch try link.begin(request, keys, retention).wait() {
        case .success(.appended), .success(.alreadyThere): return
        case .success(let outcome):
            Issue.record("\(outcome)")
            return
        case .failure(let error):
            try #require(MonotonicTime.now < deadline, "\(error)")
            try link.becomeReady()
        }
    }
}

@Suite("The tail", .timeLimit(.minutes(2)))
struct HistoryTailTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
        _ = try link.send(.attach(keys, seen: .zero))
    }

    /// Three connections write these topics at once, each its own partition of every topic.
    private func write(
        _ topics: [String], offsets: Range<Int64>, seed: UInt64 = 1, killing: Bool = false
    ) throws {
        let failures = Lock<[String]>([])
        let links = try (0..<3).map { _ in try RedisLink(server) }
        let threads = links.enumerated().map { number, link in
            let keys = keys
            return NamedThread("writer-\(number)") {
                var random = SplitMix(seed: seed &* 100 &+ UInt64(number))
                do {
                    var next = Dictionary(
                        uniqueKeysWithValues: topics.map { ($0, offsets.lowerBound) })
                    while let topic = topics.filter({ next[$0]! < offsets.upperBound })
                        .randomElement(using: &random)
                    {
                        let from = next[topic]!
                        let length = Int64.random(in: 1...6, using: &random)
                        let to = min(offsets.upperBound, from + length)
                        let batch = request(topic, Int32(number), from..<to)
                        try appendUntilThere(link, keys, batch)
                        next[topic] = to
                    }
                } catch { failures.withLock { $0.append("\(error)") } }
            }
        }
        if killing {
            // Every connection but this one, tails included, again and again.
            var kills = 0
            repeat {
                _ = try link.send(
                    RedisCommand("CLIENT").add("KILL").add("TYPE").add("normal").add("SKIPME")
                        .add("yes"))
                kills += 1
            } while !threads.allSatisfy { $0.join(within: .milliseconds(120)) } && kills < 500
            #expect(kills > 2)
        }
        for thread in threads { #expect(thread.join(within: patience)) }
        #expect(failures.withLock { $0 } == [])
    }

    private func history() throws -> [Received] { try link.history(keys).flatMap(\.received) }

    @Test("a loss is a gap in its place, on every node, for those who see the topic")
    func loss() throws {
        let benches = [try TailBench(server, keys), try TailBench(server, keys)]
        #expect(eventually { benches.allSatisfy(\.hasBegun) })
        _ = try link.append(request("a", 0, 0..<2), keys)
        _ = try link.append(lossRequest("a", 0, 2...41, expected: 1), keys)
        _ = try link.append(request("a", 0, 42..<43, expected: 41), keys)
        // A topic that no channel carries: nobody is told of its losses.
        _ = try link.append(lossRequest("none", 0, 0...9), keys)
        _ = try link.append(request("a", 0, 43..<44, expected: 42), keys)
        #expect(eventually { benches.allSatisfy { $0.count == 5 } })
        let history = try history()
        let lossID = EventID(
            milliseconds: try link.index("a", keys)[1].lastID.milliseconds, sequence: 3)
        let gap = GapNotice(
            from: EventID(milliseconds: lossID.milliseconds, sequence: 2), to: lossID,
            reason: .retention, lost: 40)
        for bench in benches {
            #expect(bench.received == history[..<2] + [gap.received] + history[2...])
            #expect(bench.metrics.losses.value == 2)
            #expect(bench.metrics.gaps.value == 0)
        }
    }

    @Test("it begins at the tip and gives what is appended from there on")
    func tip() throws {
        _ = try link.append(request("a", 0, 0..<3), keys)
        _ = try link.append(request("b", 0, 0..<2), keys)
        let before = try link.history(keys)
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        #expect(bench.tips == [before[1].lastID])
        _ = try link.append(request("b", 0, 2..<3), keys)
        _ = try link.append(request("a", 0, 4..<6), keys)
        #expect(eventually { bench.count == 3 })
        let all = try history()
        #expect(bench.received == Array(all[5...]))
        #expect(bench.metrics.events.value == 3)
        #expect(try bench.knownTopics.sorted() == ["a", "b"])
        #expect(try bench.isFollowing)
        #expect(bench.tips.count == 1)
    }

    @Test("a topic that nobody can receive takes its numbers and gives nothing")
    func unknownTopic() throws {
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        _ = try link.append(request("a", 0, 0..<1), keys)
        _ = try link.append(request("nobody", 0, 0..<2), keys)
        _ = try link.append(request("a", 0, 1..<2), keys)
        #expect(eventually { bench.count == 2 })
        #expect(bench.received.map(\.id.sequence) == [1, 4])
        #expect(bench.metrics.gaps.value == 0)
    }

    /// Goal: every node has the same events in the same order under the same IDs. Method: four
    /// topics, three of which are born while the tails run, are written by three connections at
    /// once; two tails are compared with the streams themselves.
    @Test(
        "two tails see the same, topics born meanwhile included", arguments: [1, 2, 3] as [UInt64])
    func twoTails(seed: UInt64) throws {
        _ = try link.append(request("a", 9, 0..<3), keys)
        let benches = [try TailBench(server, keys), try TailBench(server, keys)]
        for bench in benches { #expect(eventually { bench.hasBegun }) }
        try write(["a", "b", "late.one", "late.two"], offsets: 0..<150, seed: seed)
        let all = Array(try history()[3...])
        for bench in benches {
            #expect(eventually { bench.count >= all.count })
            #expect(bench.received == all, "seed \(seed)")
            #expect(bench.metrics.gaps.value == 0)
            #expect(bench.metrics.regressions.value == 0)
            #expect(try bench.knownTopics.count == 4)
        }
        #expect(all.map(\.id.sequence) == Array(4...(UInt64(all.count) + 3)))
    }

    @Test("cut connections lose and repeat nothing")
    func killed() throws {
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        try write(["a", "b", "late.one", "late.two"], offsets: 0..<400, killing: true)
        let all = try history()
        #expect(eventually { bench.count >= all.count })
        #expect(bench.received == all)
        #expect(bench.metrics.gaps.value == 0)
    }

    @Test("a Redis that stands still and goes on loses and repeats nothing")
    func paused() throws {
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        _ = try link.append(request("a", 0, 0..<3), keys)
        #expect(eventually { bench.count == 3 })
        server.pause()
        // Taken by the server's socket and carried out when it goes on.
        let answer = link.begin(request("a", 0, 4..<6), keys, .roomy)
        #expect(!answer.isThere)
        server.resume()
        _ = try answer.wait().get()
        #expect(eventually { bench.count == 5 })
        #expect(try bench.received == history())
    }

    @Test("one that was away catches up, however little a reply may hold")
    func catchUp() throws {
        _ = try link.append(request("a", 0, 0..<1), keys)
        let bench = try TailBench(server, keys, replyBytesMax: 200_000)
        #expect(eventually { bench.hasBegun })
        bench.stop()
        for offset: Int64 in 1..<60 where !PartitionIngest.isHole(offset) {
            for topic in ["a", "b", "late.one"] {
                let batch = request(topic, 0, offset..<(offset + 1), padding: 15_000)
                _ = try link.append(batch, keys)
            }
        }
        bench.start()
        let all = Array(try history()[1...])
        #expect(eventually { bench.count >= all.count })
        #expect(bench.received == all)
        #expect(bench.metrics.gaps.value == 0)
    }

    @Test("what was trimmed while it was away is told as one gap, in its place")
    func trimmed() throws {
        _ = try link.append(request("a", 0, 0..<3), keys)
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        let tip = bench.tips[0]
        bench.stop()
        for offset: Int64 in 10..<60 {
            _ = try link.append(request("a", 0, offset..<(offset + 1)), keys)
            _ = try link.append(request("b", 0, offset..<(offset + 1)), keys)
        }
        _ = try link.send(RedisCommand("XTRIM").add(keys.window("a")).add("MAXLEN").add(5))
        _ = try link.send(RedisCommand("XTRIM").add(keys.window("b")).add("MAXLEN").add(3))
        let left = try history()
        bench.start()
        #expect(eventually { bench.received.filter { !$0.isGap }.count >= left.count })
        let received = bench.received
        #expect(received.filter { !$0.isGap } == left)
        #expect(received.map(\.id) == received.map(\.id).sorted())
        let gaps = try received.filter(\.isGap).map { try $0.gap() }
        #expect(gaps.first?.from == tip)
        #expect(gaps.allSatisfy { $0.reason == .trimmed })
        // Together they cover exactly what is not there.
        let missing = gaps.flatMap { ($0.from.sequence + 1)...$0.to.sequence }
        let given = left.map(\.id.sequence)
        #expect((missing + given).sorted() == Array((tip.sequence + 1)...given.max()!))
        #expect(bench.metrics.gaps.value == UInt64(gaps.count))
    }

    @Test("a Redis that was emptied is followed under its new IDs, and clients are told")
    func emptied() throws {
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        _ = try link.append(request("a", 0, 0..<3), keys)
        _ = try link.append(request("b", 0, 0..<3), keys)
        #expect(eventually { bench.count == 6 })
        let before = bench.received
        _ = try link.send(RedisCommand("FLUSHALL"))
        // Nothing is appended before somebody has said what history this is.
        _ = try link.send(.attach(keys, seen: before[5].id))
        _ = try link.append(request("b", 0, 0..<3), keys)
        _ = try link.append(request("late.one", 0, 0..<3), keys)
        #expect(eventually { bench.count == 13 })
        #expect(bench.received[6].isGap)
        #expect(try bench.received[6].gap().reason == .historyLost)
        #expect(try Array(bench.received[7...]) == history())
        #expect(bench.received.map(\.id) == bench.received.map(\.id).sorted())
        #expect(bench.metrics.regressions.value == 1)
        #expect(bench.metrics.gaps.value == 0)
    }

    @Test("an entry that cannot be read keeps its place as a gap")
    func damaged() throws {
        let bench = try TailBench(server, keys)
        #expect(eventually { bench.hasBegun })
        _ = try link.append(request("a", 0, 0..<2), keys)
        let ms = try link.history(keys)[0].lastID.milliseconds
        _ = try link.send(
            RedisCommand("XADD").add(keys.window("a")).add("\(ms)-4").add("p").add("0").add("o")
                .add("2").add("c").add("2").add("b").add("\u{1}junk"))
        _ = try link.send(
            RedisCommand("XADD").add(keys.window("a")).add("\(ms)-5").add("x").add("y"))
        _ = try link.send(RedisCommand("HSET").add(keys.sequence).add("n").add(5))
        _ = try link.append(request("a", 0, 4..<6), keys)
        #expect(eventually { bench.count == 6 })
        let received = bench.received
        #expect(received.map(\.id.sequence) == [1, 2, 4, 5, 6, 7])
        #expect(try received[2].gap().reason == .unreadable)
        #expect(received[3].isGap)
        #expect(bench.metrics.unreadable.value == 2)
    }

    @Test("one that starts before Redis does begins when it is there")
    func late() throws {
        server.kill()
        let bench = try TailBench(server, keys)
        #expect(try !bench.isFollowing)
        try server.start()
        #expect(eventually { bench.hasBegun })
        #expect(bench.tips.map(\.sequence) == [0])
        try link.becomeReady()
        _ = try link.append(request("a", 0, 0..<2), keys)
        #expect(eventually { bench.count == 2 })
    }
}
