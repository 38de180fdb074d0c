// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import BrokerTestKit
import EventStreamWire
import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import History

/// The Redis window holds little here, so most of history has to come back from Kafka.
@Suite("Replay from Kafka", .timeLimit(.minutes(2)))
struct KafkaReplayTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")
    private let kafka = FakeKafka()

    private static let small = HistoryRetention(
        windowEvents: 40, windowAge: .seconds(3600), indexAge: .seconds(7200))

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
        _ = try link.send(.attach(keys, seen: .zero))
    }

    /// Appends batches of random sizes to random topics and partitions, keeps them in Kafka, and
    /// returns them in their order.
    private func fill(
        _ random: inout SplitMix, batches: Int, padding: Int = 0,
        retention: HistoryRetention = small, of topics: [String] = ["a", "b", "c"],
        from start: Int64 = 0, partitions: Int32 = 3
    ) throws -> [StoredBatch] {
        var next: [TopicPartition: Int64] = [:]
        var history: [StoredBatch] = []
        for _ in 0..<batches {
            let place = TopicPartition(
                topics.randomElement(using: &random)!,
                Int32.random(in: 0..<partitions, using: &random))
            let from = next[place] ?? start
            let to = from + Int64.random(in: 1...6, using: &random)
            next[place] = to
            let padding = Int.random(in: 0...padding, using: &random)
            let batch = request(place.topic, place.partition, from..<to, padding: padding)
            guard batch.count > 0 else { continue }
            try kafka.keep(batch)
            guard case .appended(let ms, let n) = try link.append(batch, keys, retention) else {
                Issue.record("\(place) \(from)..<\(to) was not appended")
                continue
            }
            history.append(
                StoredBatch(
                    topic: place.topic, partition: place.partition,
                    lastID: EventID(milliseconds: ms, sequence: n), events: try batch.events))
        }
        return history
    }

    private func wanted(_ history: [StoredBatch], _ topics: String..., after cursor: EventID)
        -> [Received]
    {
        history.filter { topics.contains($0.topic) }.flatMap(\.received).filter { $0.id > cursor }
    }

    private func floor(_ topic: String, _ field: String = "id") throws -> EventID {
        try EventID.parse(link.send(RedisCommand("HGET").add(keys.floor(topic)).add(field)).text)
    }

    @Test(
        "from every position follows exactly what comes after it, whichever tier has it",
        arguments: [1 << 20, 1])
    func everyPosition(pageBytes: Int) throws {
        var random = SplitMix(seed: 11)
        let history = try fill(&random, batches: 120, padding: pageBytes == 1 ? 900 : 0)
        let tip = try #require(history.last?.lastID)
        #expect(try link.window("a", keys).count < history.filter { $0.topic == "a" }.count)
        let bench = try ReplayBench(server, keys, pageBytes: pageBytes, kafka: kafka)
        let (left, right) = try (
            bench.directory.subscription("left"), bench.directory.subscription("right")
        )
        let cursors = [.zero] + history.flatMap(\.received).map(\.id)
        for (index, cursor) in cursors.enumerated() where index % (pageBytes > 1 ? 3 : 20) == 0 {
            func read(_ subscription: Subscription) throws -> [Received] {
                try bench.readAll(subscription, after: cursor, to: tip).received
            }
            #expect(try read(left) == wanted(history, "a", "b", after: cursor))
            #expect(try read(right) == wanted(history, "b", "c", after: cursor))
            #expect(try read(.everything) == wanted(history, "a", "b", "c", after: cursor))
        }
        #expect(bench.metrics.kafkaPages.value > 0)
        for reason in GapNotice.Reason.allCases { #expect(bench.gaps.count(reason) == 0) }
    }

    /// Goal: records of a topic that was made anew are never given out under the IDs of those that
    /// had their offsets before. Method: one of three partitions is filled, forgotten, and filled
    /// again with other records at the same offsets.
    @Test("what a topic held before it was made anew is a gap, and never other records")
    func madeAnew() throws {
        var random = SplitMix(seed: 14)
        let before = try fill(&random, batches: 60, of: ["a"], partitions: 2)
        let mark = try #require(link.highWater("a", 0, keys).flatMap { Int64($0) })
        let forgotten = try link.with(keys) { appender, completion in
            appender.forgetHighWater(of: "a", partition: 0, seen: mark, completion)
        }.wait().get()
        #expect(forgotten)
        let since = try #require(before.last?.lastID)
        kafka.forget(TopicPartition("a", 0))
        var after: [StoredBatch] = []
        for round: Int64 in 0..<60 {
            // Others than those before, at the same offsets.
            let batch = request("a", 0, (round * 3)..<(round * 3 + 3), padding: 50)
            try kafka.keep(batch)
            guard case .appended(let ms, let n) = try link.append(batch, keys, Self.small) else {
                Issue.record("round \(round) was not appended")
                continue
            }
            after.append(
                StoredBatch(
                    topic: "a", partition: 0, lastID: EventID(milliseconds: ms, sequence: n),
                    events: try batch.events))
        }
        let tip = try #require(after.last?.lastID)
        #expect(try floor("a") > since)
        let bench = try ReplayBench(server, keys, pageBytes: 1 << 20, kafka: kafka)
        let left = try bench.directory.subscription("left")
        let read = try bench.readAll(left, after: .zero, to: tip).received.filter { !$0.isGap }
        let kept = before.filter { $0.partition == 1 } + after
        #expect(read == kept.flatMap(\.received))
        #expect(bench.gaps.count(.kafkaLost) > 0)
        for cursor in [before[20].lastID, since, after[5].lastID] {
            let read = try bench.readAll(left, after: cursor, to: tip).received
            #expect(
                read.filter { !$0.isGap } == kept.flatMap(\.received).filter { $0.id > cursor })
        }
    }

    @Test("readers that begin anywhere come to share their pages")
    func shared() throws {
        var random = SplitMix(seed: 12)
        let history = try fill(&random, batches: 1200, of: ["a"], partitions: 4)
        let tip = try #require(history.last?.lastID)
        let bench = try ReplayBench(server, keys, pageBytes: 32 << 10, kafka: kafka)
        let left = try bench.directory.subscription("left")
        _ = try bench.readAll(left, after: .zero, to: tip)
        let alone = bench.metrics.kafkaPages.value
        #expect(alone > 8)
        for index in stride(from: 3, to: 600, by: 60) {
            let cursor = history[index].received[0].id
            let read = try bench.readAll(left, after: cursor, to: tip)
            #expect(read.received == wanted(history, "a", after: cursor))
        }
        // Ten others: all of it is there, whole or but for a first page of each.
        #expect(bench.metrics.kafkaPages.value <= alone + 20)
        #expect(bench.metrics.cached.value > 20)
    }

    @Test("who asks at once is answered, whatever the bounds", arguments: [1, 3])
    func crowd(readers: Int) throws {
        var random = SplitMix(seed: 13)
        let history = try fill(&random, batches: 300)
        let bench = try ReplayBench(
            server, keys, pageBytes: 4096, concurrentReads: 2, kafka: kafka, readers: readers,
            heldBytes: 64 << 10)
        let left = try bench.directory.subscription("left")
        let cursors = history.prefix(200).map { $0.received[0].id }
        // What has been looked at is let go, as by a client that was sent it.
        let answers = cursors.map { _ in Answer<(received: [Received], through: EventID)>() }
        let replay = bench.replay
        bench.loop.post {
            for (answer, cursor) in zip(answers, cursors) {
                replay.readPage(of: left, after: cursor) { outcome in
                    guard case .page(let batches, let through) = outcome else { return }
                    let received = try? batches.flatMap {
                        try $0.received(by: left, after: cursor)
                    }
                    answer.give((received ?? [], through))
                }
            }
        }
        for (cursor, answer) in zip(cursors, answers) {
            let (received, through) = try answer.wait()
            #expect(
                received == wanted(history, "a", "b", after: cursor).filter { $0.id <= through })
        }
        #expect(bench.account.heldBytes < 128 << 10)
        #expect(bench.metrics.waiting.value == 0)
    }

    @Test("what compaction and retention took is told where it was, and counted")
    func gaps() throws {
        var random = SplitMix(seed: 14)
        let history = try fill(&random, batches: 120, of: ["a", "b"])
        let tip = try #require(history.last?.lastID)
        let floor = try min(floor("a"), floor("b"))
        let old = history.filter { $0.lastID <= floor }
        var lost: [EventID: GapNotice.Reason] = [:]
        // Retention: of one partition, all before its tenth batch that lies in Kafka.
        let place = TopicPartition("a", 1)
        let ofPlace = old.filter { $0.topic == "a" && $0.partition == 1 }
        let low = ofPlace[ofPlace.count / 2].events.last!.offset
        kafka.state.withLock { $0.low[place] = low }
        for batch in ofPlace {
            for (event, received) in zip(batch.events, batch.received) where event.offset < low {
                lost[received.id] = .retention
            }
        }
        // Compaction: single events here and there.
        for batch in old.filter({ $0.topic == "b" }).enumerated().filter({ $0.offset % 5 == 2 }) {
            let row = batch.element.events.count / 2
            kafka.compact("b", batch.element.partition, batch.element.events[row].offset)
            lost[batch.element.received[row].id] = .compacted
        }
        let bench = try ReplayBench(server, keys, kafka: kafka)
        let left = try bench.directory.subscription("left")
        for (index, cursor) in ([.zero] + old.flatMap(\.received).map(\.id)).enumerated()
        where index % 4 == 0 {
            let read = try bench.readAll(left, after: cursor, to: tip)
            let gaps = try read.received.filter(\.isGap).map { try $0.gap() }
            #expect(
                read.received.filter { !$0.isGap }
                    == wanted(history, "a", "b", after: cursor).filter { lost[$0.id] == nil })
            let missing = lost.filter { $0.key > cursor }
            #expect(gaps.reduce(0) { $0 + ($1.lost ?? 0) } == UInt64(missing.count))
            for (id, reason) in missing {
                let isTold = gaps.contains { $0.from < id && id <= $0.to && $0.reason == reason }
                #expect(isTold, "\(id) is missing without a word after \(cursor)")
            }
            for gap in gaps {
                #expect(lost[gap.to] == gap.reason)
                let between = read.received.filter {
                    !$0.isGap && $0.id > gap.from && $0.id <= gap.to
                }
                #expect(between.isEmpty, "events inside of a gap")
            }
        }
        #expect(bench.gaps.count(.retention) > 0)
        #expect(bench.gaps.count(.compacted) > 0)
    }

    @Test("what the index let go is told before anything else", arguments: [1 << 20, 1])
    func trimmedIndex(pageBytes: Int) throws {
        var random = SplitMix(seed: 15)
        var short = Self.small
        short.indexBatches = 30
        let history = try fill(
            &random, batches: 260, padding: 900, retention: short, of: ["a", "b"])
        let tip = try #require(history.last?.lastID)
        let ends = try (a: floor("a", "index"), b: floor("b", "index"))
        let known = try ["a", "b"].flatMap { try link.index($0, keys) }.map(\.lastID)
        let lost = Set(
            history.filter { !known.contains($0.lastID) }.flatMap(\.received).map(\.id))
        #expect(lost.max() == max(ends.a, ends.b))
        #expect(try link.index("a", keys).count <= 31)
        let bench = try ReplayBench(server, keys, pageBytes: pageBytes, kafka: kafka)
        let left = try bench.directory.subscription("left")
        let cursors = [.zero] + history.flatMap(\.received).map(\.id)
        for (index, cursor) in cursors.enumerated() where index % 17 == 0 {
            let read = try bench.readAll(left, after: cursor, to: tip)
            #expect(
                read.received.filter { !$0.isGap }
                    == wanted(history, "a", "b", after: cursor).filter { !lost.contains($0.id) })
            // A client that is cut anywhere has been told of all that is missing so far.
            var told: [GapNotice] = []
            var last = cursor
            for message in read.received {
                if message.isGap {
                    told.append(try message.gap(id: message.id))
                    #expect(message.id >= last || message.id == cursor)
                }
                last = max(last, message.id)
                for id in lost where id > cursor && id <= last {
                    let isTold = told.contains { $0.from < id && id <= $0.to }
                    #expect(isTold, "\(id) is missing without a word at \(last)")
                }
            }
            #expect(told.allSatisfy { $0.reason == .trimmed })
            #expect(told.isEmpty == !lost.contains { $0 > cursor })
        }
    }

    @Test("an index that Redis has lost is told as a gap")
    func lostIndex() throws {
        var random = SplitMix(seed: 16)
        let history = try fill(&random, batches: 60, of: ["a"])
        let tip = try #require(history.last?.lastID)
        _ = try link.send(RedisCommand("DEL").add(keys.index("a")))
        let bench = try ReplayBench(server, keys, kafka: kafka)
        let left = try bench.directory.subscription("left")
        let cursor = history[3].lastID
        let read = try bench.readAll(left, after: cursor, to: tip)
        let gaps = try read.received.filter(\.isGap).map { try $0.gap() }
        #expect(gaps == [GapNotice(from: cursor, to: try floor("a"), reason: .historyLost)])
        #expect(
            read.received.filter { !$0.isGap }
                == wanted(history, "a", after: try floor("a")))
        #expect(bench.gaps.count(.historyLost) == 1)
    }

    @Test("a loss that ingest has written is told from the index as from the window")
    func writtenLoss() throws {
        try kafka.keep(request("a", 0, 0..<3))
        _ = try link.append(request("a", 0, 0..<3), keys, Self.small)
        _ = try link.append(lossRequest("a", 0, 3...9, expected: 2), keys, Self.small)
        let batch = request("a", 0, 10..<13, expected: 9)
        try kafka.keep(batch)
        _ = try link.append(batch, keys, Self.small)
        var random = SplitMix(seed: 17)
        let more = try fill(&random, batches: 60, of: ["a"], from: 100, partitions: 1)
        let tip = try #require(more.last?.lastID)
        let bench = try ReplayBench(server, keys, kafka: kafka)
        let left = try bench.directory.subscription("left")
        let read = try bench.readAll(left, after: .zero, to: tip)
        let first = read.received.prefix(8)
        #expect(first.map(\.isGap) == [false, false, false, true, false, false, false, false])
        #expect(try first.dropFirst(3).first?.gap().lost == 7)
        #expect(bench.gaps.count(.retention) == 1)
    }

    @Test("where Kafka does not answer the page ends before, or is asked for later")
    func away() throws {
        var random = SplitMix(seed: 18)
        let history = try fill(&random, batches: 80, of: ["a"])
        let tip = try #require(history.last?.lastID)
        let bench = try ReplayBench(server, keys, kafka: kafka)
        let left = try bench.directory.subscription("left")
        kafka.state.withLock { $0.answersLeft = 0 }
        guard case .unavailable = try bench.page(left, after: .zero) else {
            Issue.record("a page without Kafka")
            return
        }
        #expect(bench.metrics.unavailable.value == 1)
        kafka.state.withLock { $0.answersLeft = 20 }
        guard case .page(let batches, let through) = try bench.page(left, after: .zero) else {
            Issue.record("no page of what there was")
            return
        }
        let received = try batches.flatMap { try $0.received(by: left, after: .zero) }
        #expect(received.count > 10)
        #expect(received == wanted(history, "a", after: .zero).filter { $0.id <= through })
        kafka.state.withLock { $0.answersLeft = nil }
        let read = try bench.readAll(left, after: through, to: tip)
        #expect(read.received == wanted(history, "a", after: through))
    }

    @Test("a cursor of another cluster is told apart from one of the future")
    func foreign() throws {
        var random = SplitMix(seed: 19)
        _ = try fill(&random, batches: 5, of: ["a"])
        let before = WallClock.milliseconds
        #expect(eventually { WallClock.milliseconds > before + 2 })
        let history = try fill(&random, batches: 5, of: ["a"], from: 1000)
        let tip = try #require(history.last?.lastID)
        let bench = try ReplayBench(server, keys, kafka: kafka)
        let left = try bench.directory.subscription("left")
        // Its time is in the past, its number was given later.
        let foreign = EventID(milliseconds: before + 1, sequence: tip.sequence)
        let read = try bench.readAll(left, after: foreign, to: tip)
        let first = try #require(read.received.first)
        #expect(try first.gap().reason == .unknownID)
        #expect(try first.gap().from == foreign)
        #expect(Array(read.received.dropFirst()) == wanted(history, "a", after: foreign))
        #expect(bench.gaps.count(.unknownID) == 1)
        let future = EventID(milliseconds: WallClock.milliseconds + 3_600_000, sequence: 5)
        guard case .unknownCursor(tip, .futureID) = try bench.page(left, after: future) else {
            Issue.record("the future is there")
            return
        }
    }
}

extension Received {
    /// The notice that this message is, where its ID is not its end.
    func gap(id: EventID) throws -> GapNotice {
        let asIfAtEnd = try Received(id: end(), event: event, data: data)
        return try asIfAtEnd.gap()
    }

    private func end() throws -> EventID {
        let parts = data.split(separator: "\"").map(String.init)
        let index = try #require(parts.firstIndex(of: "to"))
        return try EventID.parse(parts[index + 2])
    }
}
