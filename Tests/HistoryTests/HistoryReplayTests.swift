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

/// The replay of one node.
final class ReplayBench: Sendable {
    let loop: EventLoop
    let directory: ChannelDirectory
    let replay: HistoryReplay
    let metrics: ReplayMetrics
    let gaps: GapMetrics
    let account = ReplayAccount()
    let readers: KafkaPageReaders
    private let connection: LoopBound<RedisConnection>

    init(
        _ server: RedisServerProcess, _ keys: HistoryKeys, pageBytes: Int = 1 << 20,
        concurrentReads: Int = 4, replyBytesMax: Int = 64 << 20, kafka: FakeKafka = FakeKafka(),
        readers readerCount: Int = 2, heldBytes: Int = 64 << 20
    ) throws {
        loop = try EventLoop(name: "replay")
        directory = try .forTests()
        metrics = ReplayMetrics(in: MetricsRegistry())
        gaps = GapMetrics(in: MetricsRegistry())
        let (directory, account) = (directory, account)
        readers = KafkaPageReaders(
            count: readerCount, pageBytes: pageBytes,
            equipment: .init(
                source: { FakeRecordSource(kafka) },
                encoder: {
                    try? BatchEncoder(
                        directory: directory, eventBytesMax: 1 << 20, account: account)
                }), log: .silent)
        var settings = RedisSettings(server)
        settings.replyBytesMax = replyBytesMax
        let redis = RedisConnection(
            loop: loop, settings: settings, purpose: "replay", scripts: [HistoryScripts.page],
            log: .silent)
        replay = HistoryReplay(
            loop: loop, connection: redis, keys: keys, directory: directory,
            encoder: try BatchEncoder(
                directory: directory, eventBytesMax: 1 << 20, account: account),
            readers: readers, account: account,
            limits: .init(
                pageBytes: pageBytes, concurrentReads: concurrentReads, heldBytes: heldBytes),
            metrics: metrics, gaps: gaps, log: .silent,
            knownTopics: { ["a", "b", "c"] })
        connection = LoopBound(redis, on: loop)
        loop.start()
        try start()
    }

    deinit {
        stop()
        readers.stop(within: .seconds(20))
        loop.stop()
        _ = loop.join(within: .seconds(20))
    }

    func start() throws {
        let connection = connection
        loop.post { connection.value.start() }
        let deadline = MonotonicTime.now + patience
        while try loop.value({ connection.value.state }) != .ready {
            try #require(MonotonicTime.now < deadline, "the connection never became ready")
        }
    }

    func stop() {
        let connection = connection
        loop.post { connection.value.stop() }
    }

    /// Asks everything in one turn of the loop, so that no answer comes in between.
    func ask(_ questions: [(Subscription, EventID)]) -> [Answer<ReplayOutcome>] {
        let answers = questions.map { _ in Answer<ReplayOutcome>() }
        let replay = replay
        loop.post {
            for (answer, (subscription, cursor)) in zip(answers, questions) {
                replay.readPage(of: subscription, after: cursor) { answer.give($0) }
            }
        }
        return answers
    }

    func page(_ subscription: Subscription, after cursor: EventID) throws -> ReplayOutcome {
        try ask([(subscription, cursor)])[0].wait()
    }

    var pendingCount: Int {
        get throws {
            let connection = connection
            return try loop.value { connection.value.pendingCount }
        }
    }

    struct Pages {
        var received: [Received] = []
        var pages = 0
        var largest = 0
        var through = EventID.zero
    }

    /// Follows the pages from `cursor` to `tip`, as a connection does.
    func readAll(_ subscription: Subscription, after cursor: EventID, to tip: EventID) throws
        -> Pages
    {
        var result = Pages()
        result.through = cursor
        repeat {
            let outcome = try page(subscription, after: result.through)
            guard case .page(let batches, let through) = outcome else {
                Issue.record("after \(result.through): \(outcome)")
                break
            }
            result.pages += 1
            try #require(result.pages < 2000, "the pages never end")
            for batch in batches {
                result.received += try batch.received(by: subscription, after: result.through)
            }
            result.largest = max(result.largest, batches.reduce(0) { $0 + $1.frames.count })
            #expect(through <= tip)
            try #require(through > result.through || through == tip, "a page without progress")
            result.through = through
        } while result.through < tip
        #expect(result.received.map(\.id) == result.received.map(\.id).sorted())
        return result
    }
}

/// Threads are the server's and the loop's; each test has its own of both.
@Suite("Replay from the Redis window", .timeLimit(.minutes(2)))
struct HistoryReplayTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
        _ = try link.send(.attach(keys, seen: .zero))
    }

    @Test("a loss is a gap in its place for subscriptions to its topic, and for no other")
    func loss() throws {
        let bench = try ReplayBench(server, keys)
        _ = try link.append(request("a", 0, 0..<2), keys)
        _ = try link.append(lossRequest("a", 0, 2...41, expected: 1), keys)
        _ = try link.append(request("c", 0, 0..<2), keys)
        _ = try link.append(request("a", 0, 42..<43, expected: 41), keys)
        let history = try link.history(keys)
        let tip = try #require(history.last).lastID
        let loss = try link.index("a", keys)[1].lastID
        let gap = GapNotice(
            from: EventID(milliseconds: loss.milliseconds, sequence: 2), to: loss,
            reason: .retention, lost: 40)
        let left = try bench.directory.subscription("left")
        let seen = try bench.readAll(left, after: .zero, to: tip).received
        let a = try link.window("a", keys).flatMap(\.received)
        #expect(seen == a[..<2] + [gap.received] + a[2...])
        // Who has received the notice does not get it again.
        #expect(try bench.readAll(left, after: loss, to: tip).received == Array(a[2...]))
        let right = try bench.directory.subscription("right")
        let others = try bench.readAll(right, after: .zero, to: tip).received
        #expect(others.map(\.event) == ["e", "e"])
    }

    /// Appends batches of random sizes to random topics; returns what is in the windows then.
    private func fill(
        _ random: inout SplitMix, batches: Int, padding: Int = 0,
        retention: HistoryRetention = .roomy, of topics: [String] = ["a", "b", "c"],
        from start: Int64 = 0
    ) throws -> [StoredBatch] {
        var next = Dictionary(uniqueKeysWithValues: topics.map { ($0, start) })
        for _ in 0..<batches {
            let topic = topics.randomElement(using: &random)!
            let from = next[topic]!
            let to = from + Int64.random(in: 1...5, using: &random)
            next[topic] = to
            let padding = Int.random(in: 0...padding, using: &random)
            _ = try link.append(request(topic, 0, from..<to, padding: padding), keys, retention)
        }
        return try link.history(keys)
    }

    private func wanted(_ history: [StoredBatch], _ topics: String..., after cursor: EventID)
        -> [Received]
    {
        history.filter { topics.contains($0.topic) }.flatMap(\.received).filter { $0.id > cursor }
    }

    private func tip() throws -> EventID {
        let fields = try link.send(RedisCommand("HGETALL").add(keys.sequence)).fields
        return try EventID.parse("\(fields["ms"]?.text ?? "0")-\(fields["n"]?.text ?? "0")")
    }

    @Test("from every position of a history follows exactly what comes after it")
    func everyPosition() throws {
        var random = SplitMix(seed: 1)
        let history = try fill(&random, batches: 30)
        let bench = try ReplayBench(server, keys)
        let (left, right) = try (
            bench.directory.subscription("left"), bench.directory.subscription("right")
        )
        let tip = try tip()
        let cursors = [.zero] + history.flatMap(\.received).map(\.id)
        for cursor in cursors {
            func read(_ subscription: Subscription) throws -> [Received] {
                try bench.readAll(subscription, after: cursor, to: tip).received
            }
            #expect(try read(left) == wanted(history, "a", "b", after: cursor))
            #expect(try read(right) == wanted(history, "b", "c", after: cursor))
            #expect(try read(.everything) == wanted(history, "a", "b", "c", after: cursor))
        }
        for reason in GapNotice.Reason.allCases { #expect(bench.gaps.count(reason) == 0) }
    }

    @Test("a time is a cursor: what follows is all that is later than its millisecond")
    func times() throws {
        var random = SplitMix(seed: 2)
        var history: [StoredBatch] = []
        for round: Int64 in 0..<5 {
            let now = WallClock.milliseconds
            #expect(eventually { WallClock.milliseconds > now + 1 })
            history = try fill(&random, batches: 6, from: round * 100)
        }
        let bench = try ReplayBench(server, keys)
        let tip = try tip()
        let times = Set(history.map(\.lastID.milliseconds))
        #expect(times.count > 4)
        for time in times.union(times.map { $0 - 1 }) where time < tip.milliseconds {
            let cursor = try EventID.parse("\(time)")
            let read = try bench.readAll(.everything, after: cursor, to: tip)
            #expect(read.received == wanted(history, "a", "b", "c", after: cursor))
        }
        // The time of the tip and all that come after it have nothing yet.
        for text in ["\(tip.milliseconds)", "\(tip.milliseconds + 5)", "\(UInt64.max)"] {
            let cursor = try EventID.parse(text)
            let outcome = try bench.page(.everything, after: cursor)
            guard case .page(let batches, let through) = outcome else {
                Issue.record("\(text): \(outcome)")
                continue
            }
            #expect(batches.isEmpty)
            #expect(through == cursor)
        }
    }

    @Test(
        "a cursor beyond the tip is unknown",
        arguments: ["1-1", "\(UInt64.max)-1", "\(UInt64.max)-\(UInt64.max - 1)"])
    func unknown(beyond: String) throws {
        _ = try link.append(request("a", 0, 0..<3), keys)
        let tip = try tip()
        let step = try EventID.parse(beyond)
        let bench = try ReplayBench(server, keys)
        let cursor = EventID(
            milliseconds: step.milliseconds == 1 ? tip.milliseconds : step.milliseconds,
            sequence: step.milliseconds == 1 ? tip.sequence + 1 : step.sequence)
        let outcome = try bench.page(.everything, after: cursor)
        guard case .unknownCursor(tip, let reason) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(reason == (step.milliseconds == 1 ? .unknownID : .futureID))
        #expect(bench.gaps.count(reason) == 1)
    }

    @Test("any cursor is one of what is lost to a history that was emptied")
    func emptied() throws {
        let bench = try ReplayBench(server, keys)
        let cursor = EventID(milliseconds: 1_763_683_200_123, sequence: 77)
        let outcome = try bench.page(.everything, after: cursor)
        guard case .lost(let notice) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(notice.from == .zero && notice.to > cursor && notice.reason == .historyLost)
        guard case .page(let batches, _) = try bench.page(.everything, after: .zero) else {
            Issue.record("nothing is not a page")
            return
        }
        #expect(batches.isEmpty)
    }

    @Test("small pages lead through everything", arguments: 0..<6 as Range<UInt64>)
    func smallPages(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        let history = try fill(&random, batches: 120, padding: 1500)
        // Each topic gets at least 4 KiB of a page, whatever the number of topics.
        let bench = try ReplayBench(server, keys, pageBytes: 1)
        let (left, tip) = try (bench.directory.subscription("left"), tip())
        for cursor in [.zero, history[7].lastID, history[60].received[0].id] {
            let read = try bench.readAll(left, after: cursor, to: tip)
            #expect(read.received == wanted(history, "a", "b", after: cursor), "seed \(seed)")
            #expect(read.pages > 5)
            // The bound, the last entry over it, and what frames add; for both topics.
            #expect(read.largest < 2 * (4096 + 9000))
        }
        let all = try bench.readAll(.everything, after: .zero, to: tip)
        #expect(all.received == wanted(history, "a", "b", "c", after: .zero))
    }

    @Test("entries so large that few of them fit a reply are paged through")
    func largeEntries() throws {
        for offset: Int64 in 0..<20 where !PartitionIngest.isHole(offset) {
            for topic in ["a", "b"] {
                let batch = request(topic, 0, offset..<(offset + 1), padding: 50_000)
                _ = try link.append(batch, keys)
            }
        }
        let history = try link.history(keys)
        let bench = try ReplayBench(server, keys, pageBytes: 1, replyBytesMax: 250_000)
        let left = try bench.directory.subscription("left")
        let read = try bench.readAll(left, after: .zero, to: try tip())
        #expect(read.received == wanted(history, "a", "b", after: .zero))
    }

    @Test("an entry that cannot be read is told as a gap, and what follows it is there")
    func damaged() throws {
        _ = try link.append(request("a", 0, 0..<2), keys)
        let before = try tip()
        func add(_ id: String, _ fields: [String]) throws {
            var command = RedisCommand("XADD").add(keys.window("a")).add(id)
            for field in fields { command.append(field) }
            _ = try link.send(command)
        }
        let ms = before.milliseconds
        try add("\(ms)-4", ["p", "0", "o", "2", "c", "2", "b", "\u{1}junk"])
        try add("\(ms)-5", ["p", "0", "o", "what", "c", "-1", "b", "?"])
        try add("\(ms)-6", ["x", "y"])
        _ = try link.send(RedisCommand("HSET").add(keys.sequence).add("n").add(6))
        _ = try link.append(request("a", 0, 4..<6), keys)
        let last = try #require(
            link.send(
                RedisCommand("XREVRANGE").add(keys.window("a")).add("+").add("-").add("COUNT")
                    .add(1)
            ).elements.first?.elements[0].text)
        let bench = try ReplayBench(server, keys)
        let left = try bench.directory.subscription("left")
        let read = try bench.readAll(left, after: before, to: try EventID.parse(last))
        func gap(_ from: UInt64, _ to: UInt64) -> Received {
            GapNotice(
                from: EventID(milliseconds: ms, sequence: from),
                to: EventID(milliseconds: ms, sequence: to), reason: .unreadable
            ).received
        }
        #expect(read.received.prefix(3) == [gap(2, 4), gap(4, 5), gap(5, 6)])
        #expect(read.received.dropFirst(3).map(\.id.sequence) == [7, 8])
    }

    @Test("those who ask the same share one read")
    func shared() throws {
        var random = SplitMix(seed: 6)
        let history = try fill(&random, batches: 10)
        let bench = try ReplayBench(server, keys)
        let (left, right) = try (
            bench.directory.subscription("left"), bench.directory.subscription("right")
        )
        let tip = try tip()
        let answers = bench.ask(Array(repeating: (left, .zero), count: 10) + [(right, .zero)])
        for (index, answer) in answers.enumerated() {
            guard case .page(let batches, let through) = try answer.wait() else {
                Issue.record("no page")
                continue
            }
            #expect(through == tip)
            let received = try batches.flatMap {
                try $0.received(by: index < 10 ? left : right, after: .zero)
            }
            #expect(
                received
                    == (index < 10
                        ? wanted(history, "a", "b", after: .zero)
                        : wanted(history, "b", "c", after: .zero)))
        }
        #expect(bench.metrics.pages.value == 2)
        #expect(bench.metrics.shared.value == 9)
        #expect(bench.metrics.waiting.value == 0)
        // A later question is a read of its own.
        _ = try bench.page(left, after: .zero)
        #expect(bench.metrics.pages.value == 3)
    }

    @Test("no more reads are under way than allowed, and each question gets its answer")
    func bounded() throws {
        var random = SplitMix(seed: 7)
        let history = try fill(&random, batches: 20)
        let bench = try ReplayBench(server, keys, concurrentReads: 3)
        let tip = try tip()
        let cursors = history.prefix(12).map(\.lastID)
        server.pause()
        let answers = bench.ask(cursors.map { (.everything, $0) })
        #expect(eventually { bench.metrics.waiting.value == 12 })
        #expect(try bench.pendingCount == 3)
        #expect(bench.metrics.pages.value == 3)
        #expect(answers.allSatisfy { !$0.isThere })
        server.resume()
        for (cursor, answer) in zip(cursors, answers) {
            guard case .page(let batches, tip) = try answer.wait() else {
                Issue.record("no page")
                continue
            }
            let received = try batches.flatMap {
                try $0.received(by: .everything, after: cursor)
            }
            #expect(received == wanted(history, "a", "b", "c", after: cursor))
        }
        #expect(bench.metrics.pages.value == 12)
        #expect(bench.metrics.waiting.value == 0)
    }

    @Test("without a connection the answer is to ask later, and later it is there")
    func away() throws {
        _ = try link.append(request("a", 0, 0..<2), keys)
        let bench = try ReplayBench(server, keys)
        bench.stop()
        guard case .unavailable = try bench.page(.everything, after: .zero) else {
            Issue.record("an answer without a connection")
            return
        }
        #expect(bench.metrics.waiting.value == 0)
        try bench.start()
        let read = try bench.readAll(.everything, after: .zero, to: try tip())
        #expect(read.received.count == 2)
    }
}
