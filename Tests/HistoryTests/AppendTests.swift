// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import EventStreamWire
import PosixIO
import RedisClient
import Testing

@testable import History

/// One node's ingest of one partition, with batches and repetitions of its own.
private final class Writer {
    let link: RedisLink
    let keys: HistoryKeys
    let end: Int64
    var ingest: PartitionIngest
    private var next: Int64 = 0
    private var pending: Answer<Result<AppendOutcome, RedisError>>?
    private(set) var outcomes: [AppendOutcome] = []

    init(_ link: RedisLink, _ keys: HistoryKeys, topic: String, partition: Int32, end: Int64) {
        self.link = link
        self.keys = keys
        self.end = end
        ingest = PartitionIngest(
            topic: topic, partition: partition, highWater: -1,
            limits: .init(batchEvents: 6, batchBytes: 1 << 20))
    }

    var isDone: Bool { ingest.highWater == end - 1 }

    func step(_ random: inout SplitMix) throws {
        if let answer = pending {
            let outcome = try answer.wait().get()
            pending = nil
            outcomes.append(outcome)
            let action = ingest.finished(outcome)
            if case .rewind(let offset) = action { next = offset }
        } else {
            for _ in 0..<Int.random(in: 0...9, using: &random) where next < end {
                if ingest.isNew(next) { ingest.collectOrSkip(next) }
                next += 1
            }
            if ingest.inFlight == nil { _ = ingest.takeBatch() }
            guard let request = ingest.inFlight else { return }
            pending = link.begin(request, keys, .roomy)
            // Sent again before the first answer is there, as after a lost connection.
            if Bool.random(using: &random) { _ = link.begin(request, keys, .roomy) }
        }
    }
}

@Suite("The append", .timeLimit(.minutes(2)))
struct AppendTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
    }

    private func id(_ outcome: AppendOutcome) throws -> EventID {
        guard case .appended(let milliseconds, let sequence) = outcome else {
            Issue.record("\(outcome)")
            throw RedisError(.serverReplied, "\(outcome)")
        }
        return EventID(milliseconds: milliseconds, sequence: sequence)
    }

    @Test("a batch is in the window and in the index under the ID of its last event")
    func one() throws {
        let batch = request("t", 2, 10..<20)
        let lastID = try id(link.append(batch, keys))
        #expect(lastID.sequence == 8)
        let now = WallClock.milliseconds
        #expect(lastID.milliseconds <= now && now - lastID.milliseconds < 60_000)
        let stored = try link.window("t", keys)
        #expect(stored.map(\.lastID) == [lastID])
        #expect(stored[0].events == (try batch.events))
        #expect(
            try link.index("t", keys) == [
                StoredPlace(lastID: lastID, partition: 2, base: 10, count: 8, hasOffsets: true)
            ])
        #expect(try link.highWater("t", 2, keys) == "19")
        #expect(try link.topics(keys) == ["t"])
        let news = try link.send(RedisCommand("XRANGE").add(keys.news).add("-").add("+"))
        #expect(news.elements.map { $0.elements[1].fields["t"]?.text } == ["t"])
    }

    @Test("the same batch again is there already, and a slice of it as well")
    func again() throws {
        _ = try id(link.append(request("t", 0, 0..<10), keys))
        #expect(try link.append(request("t", 0, 0..<10), keys) == .alreadyThere(highWater: 9))
        #expect(try link.append(request("t", 0, 4..<6), keys) == .alreadyThere(highWater: 9))
        #expect(try link.append(request("t", 0, 5..<15), keys) == .overlaps(highWater: 9))
        #expect(try link.history(keys).count == 1)
        let rest = try id(link.append(request("t", 0, 10..<15, expected: 9), keys))
        #expect(rest.sequence == 13)
        // Another partition of the topic has a mark of its own.
        #expect(try id(link.append(request("t", 1, 0..<2), keys)).sequence == 15)
    }

    @Test("a loss takes one place in window and index, moves the mark, and is there once")
    func loss() throws {
        _ = try id(link.append(request("t", 0, 0..<3), keys))
        let lost = lossRequest("t", 0, 3...99, expected: 2)
        #expect(lost.count == 1 && lost.last == 99)
        let lossID = try id(link.append(lost, keys))
        #expect(lossID.sequence == 4)
        #expect(try link.append(lost, keys) == .alreadyThere(highWater: 99))
        // A node that lost more, or had read some of it in time, sends what is left.
        let longer = lossRequest("t", 0, 3...120, expected: 2)
        #expect(try link.append(longer, keys) == .overlaps(highWater: 99))
        _ = try id(link.append(request("t", 0, 100..<102, expected: 99), keys))
        #expect(try link.highWater("t", 0, keys) == "101")
        let loss = HistoryLoss(last: 99, lost: 97, reason: .retention)
        let places = try link.index("t", keys)
        #expect(places.map(\.loss) == [nil, loss, nil])
        #expect(places[1].lastID == lossID && places[1].base == 3 && places[1].count == 1)
        #expect(try link.window("t", keys).map(\.events.count) == [3, 1])
    }

    @Test("a window lets a loss go like a batch of one event")
    func lossIsTrimmed() throws {
        let small = HistoryRetention(
            windowEvents: 3, windowAge: .seconds(3600), indexAge: .seconds(7200))
        let lost = try id(link.append(lossRequest("t", 0, 0...9), keys, small))
        _ = try id(link.append(request("t", 0, 10..<14, expected: 9), keys, small))
        let floor = try link.send(RedisCommand("HGETALL").add(keys.floor("t"))).fields
        #expect(floor["id"]?.text == "\(lost)")
        #expect(floor["events"]?.text == "3")
    }

    /// Goal: two nodes that append the same partitions at once, in slices of their own and some of
    /// them twice, leave one copy of each event. Method: two connections each drive the ingest of
    /// every partition in random turns; the streams are compared with what was to be written.
    @Test("two nodes at once leave one copy of each event", arguments: 0..<12 as Range<UInt64>)
    func twoNodes(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        let other = try RedisLink(server)
        let topics = ["a", "b", "c"]
        let end: Int64 = 60
        var writers: [Writer] = []
        for topic in topics {
            for partition: Int32 in 0..<2 {
                for link in [link, other] {
                    writers.append(
                        Writer(link, keys, topic: topic, partition: partition, end: end))
                }
            }
        }
        var steps = 0
        while let writer = writers.filter({ !$0.isDone }).randomElement(using: &random) {
            try writer.step(&random)
            steps += 1
            try #require(steps < 20_000, "seed \(seed) does not come to an end")
        }
        let history = try link.history(keys)
        let wanted = (0..<end).filter { !PartitionIngest.isHole($0) }
        for topic in topics {
            for partition: Int32 in 0..<2 {
                let events = history.filter { $0.topic == topic && $0.partition == partition }
                    .flatMap(\.events)
                #expect(events.map(\.offset) == wanted, "seed \(seed)")
                #expect(events.allSatisfy { $0.value == content(topic, partition, $0.offset) })
                #expect(try link.highWater(topic, partition, keys) == "\(end - 1)")
            }
        }
        try expectConsecutive(history)
        let outcomes = writers.flatMap(\.outcomes)
        let hasMet = outcomes.contains { if case .appended = $0 { false } else { true } }
        #expect(hasMet, "the two never met")
        let hasLost = outcomes.contains { if case .redisLostData = $0 { true } else { false } }
        #expect(!hasLost)
    }

    /// The sequence numbers follow each other over all topics, the times never go back, and the
    /// index says the same as the windows.
    private func expectConsecutive(_ history: [StoredBatch]) throws {
        var next: UInt64 = 1
        var time: UInt64 = 0
        for batch in history {
            #expect(batch.sequences.lowerBound == next)
            #expect(batch.lastID.milliseconds >= time)
            next = batch.lastID.sequence + 1
            time = batch.lastID.milliseconds
        }
        for topic in Set(history.map(\.topic)) {
            let places = try link.index(topic, keys)
            let window = history.filter { $0.topic == topic }
            #expect(places.map(\.lastID) == window.map(\.lastID))
            #expect(places.map(\.count) == window.map(\.events.count))
            #expect(places.map(\.partition) == window.map(\.partition))
        }
        let sequence = try link.send(RedisCommand("HGETALL").add(keys.sequence)).fields
        #expect(sequence["n"]?.text == "\(next - 1)")
        #expect(sequence["ms"]?.text == "\(time)")
    }

    @Test("a batch of nothing moves the mark and nothing else")
    func empty() throws {
        var ingest = PartitionIngest(
            topic: "t", partition: 0, highWater: -1, limits: .init(batchEvents: 9, batchBytes: 99))
        ingest.skip(offset: 5, awaitingDeadLetter: false)
        let batch = try ingest.nextBatch()
        #expect(
            try link.append(batch, keys) == .appended(lastMilliseconds: 0, lastSequence: 0))
        #expect(try link.highWater("t", 0, keys) == "5")
        let all = try link.send(RedisCommand("KEYS").add("*")).elements.map(\.text)
        #expect(all == [keys.highWater("t")])
        #expect(try link.append(batch, keys) == .alreadyThere(highWater: 5))
    }

    @Test("times never go back, also where the clock does")
    func clock() throws {
        let future: UInt64 = 99_000_000_000_000
        _ = try link.send(
            RedisCommand("HSET").add(keys.sequence).add("ms").add(future).add("n").add(41))
        let lastID = try id(link.append(request("t", 0, 0..<1), keys))
        #expect(lastID == EventID(milliseconds: future, sequence: 42))
        #expect(try link.window("t", keys).map(\.lastID) == [lastID])
    }

    @Test("numbers beyond 2^31 and offsets beyond 2^40 stay exact")
    func large() throws {
        let start: UInt64 = 9_007_199_254_000_000
        _ = try link.send(
            RedisCommand("HSET").add(keys.sequence).add("ms").add(1).add("n").add(start))
        let base: Int64 = 1_099_511_627_776 * 7
        let lastID = try id(link.append(request("t", 0, base..<(base + 3)), keys))
        #expect(lastID.sequence == start + 3)
        #expect(try link.highWater("t", 0, keys) == "\(base + 2)")
        #expect(try link.window("t", keys)[0].events.map(\.offset) == [base, base + 1, base + 2])
        #expect(
            try link.append(request("t", 0, base..<(base + 3)), keys)
                == .alreadyThere(highWater: base + 2))
    }

    // MARK: - Retention

    private func floor(_ topic: String) throws -> (id: String?, events: Int?) {
        let fields = try link.send(RedisCommand("HGETALL").add(keys.floor(topic))).fields
        return (fields["id"]?.text, fields["events"].flatMap { Int($0.text) })
    }

    /// What the owner of a partition does every now and then; an append looks for what is too old
    /// only one time in eight.
    private func letGoOfOld(_ retention: HistoryRetention, windowOnly: Bool = false) throws {
        var isMore = true
        while isMore {
            isMore = try link.with(keys, retention) {
                $0.windowOnlyTopic = windowOnly ? "t" : nil
                $0.trim("t", $1)
            }.wait().get()
        }
    }

    @Test("one append in eight lets go what is too old, whoever else does")
    func appendsLetGo() throws {
        let retention = HistoryRetention(
            windowEvents: 1000, windowAge: .milliseconds(1), indexAge: .seconds(7200))
        let first = try id(link.append(request("t", 0, 0..<2), keys, retention))
        var next: Int64 = 2
        #expect(
            eventually {
                _ = try? link.append(
                    request("t", 0, next..<(next + 1), expected: next - 1), keys, retention)
                next += 1
                return (try? link.window("t", keys).first?.lastID) != first
            })
    }

    @Test("the window keeps its number of events, the floor says what went, the index keeps all")
    func windowByEvents() throws {
        let retention = HistoryRetention(
            windowEvents: 50, windowAge: .seconds(3600), indexAge: .seconds(7200))
        var ids: [EventID] = []
        for round: Int64 in 0..<30 {
            let range = (round * 7)..<(round * 7 + 7)  // Six events each.
            ids.append(
                try id(
                    link.append(
                        request("t", 0, range, expected: range.lowerBound - 1), keys, retention)))
            let kept = try link.window("t", keys).map(\.lastID)
            #expect(kept == ids.suffix(8))
            let floor = try floor("t")
            #expect(floor.events == kept.count * 6)
            #expect((floor.id ?? "0-0") == (ids.count > 8 ? ids[ids.count - 9].description : "0-0"))
        }
        #expect(try link.index("t", keys).map(\.lastID) == ids)
    }

    @Test("a batch larger than the window stays until the next one")
    func hugeBatch() throws {
        let retention = HistoryRetention(
            windowEvents: 5, windowAge: .seconds(3600), indexAge: .seconds(7200))
        let first = try id(link.append(request("t", 0, 0..<50), keys, retention))
        #expect(try link.window("t", keys).map(\.lastID) == [first])
        let second = try id(link.append(request("t", 0, 50..<51, expected: 49), keys, retention))
        #expect(try link.window("t", keys).map(\.lastID) == [second])
        #expect(try floor("t").id == first.description)
    }

    @Test("the index of a topic that nobody replays lets go what the window does")
    func windowOnly() throws {
        let retention = HistoryRetention(
            windowEvents: 1000, windowAge: .milliseconds(300), indexAge: .seconds(7200))
        func append(_ offsets: Range<Int64>, expected: Int64) throws -> EventID {
            try id(
                link.with(keys, retention) {
                    $0.windowOnlyTopic = "t"
                    $0.append(request("t", 0, offsets, expected: expected), $1)
                }.wait().get())
        }
        _ = try append(0..<2, expected: -1)
        let second = try append(2..<3, expected: 1)
        #expect(eventually { WallClock.milliseconds > second.milliseconds + 310 })
        let third = try append(3..<6, expected: 2)
        try letGoOfOld(retention, windowOnly: true)
        #expect(try link.window("t", keys).map(\.lastID) == [third])
        // The floor's own entry stays.
        #expect(try link.index("t", keys).map(\.lastID) == [second, third])
    }

    @Test("the window lets go what is older than its age, and the index does not")
    func windowByAge() throws {
        let retention = HistoryRetention(
            windowEvents: 1000, windowAge: .milliseconds(300), indexAge: .seconds(7200))
        let first = try id(link.append(request("t", 0, 0..<2), keys, retention))
        let second = try id(link.append(request("t", 0, 2..<3, expected: 1), keys, retention))
        #expect(try link.window("t", keys).map(\.lastID) == [first, second])
        #expect(eventually { WallClock.milliseconds > second.milliseconds + 310 })
        let third = try id(link.append(request("t", 0, 3..<6, expected: 2), keys, retention))
        try letGoOfOld(retention)
        #expect(try link.window("t", keys).map(\.lastID) == [third])
        #expect(try floor("t").id == second.description)
        #expect(try floor("t").events == 2)
        #expect(try link.index("t", keys).map(\.lastID) == [first, second, third])
    }

    @Test(
        "a window that was made much smaller shrinks over the next appends, whatever the index",
        arguments: [Duration.seconds(7200), .milliseconds(1)])
    func shrinks(indexAge: Duration) throws {
        var last: Int64 = -1
        func append(_ retention: HistoryRetention) throws -> EventID {
            last += 1
            if PartitionIngest.isHole(last) { last += 1 }
            return try id(link.append(request("t", 0, last..<(last + 1)), keys, retention))
        }
        var ids: [EventID] = []
        for _ in 0..<300 { ids.append(try append(.roomy)) }
        let small = HistoryRetention(
            windowEvents: 10, windowAge: .seconds(3600), indexAge: indexAge)
        for _ in 0..<6 { ids.append(try append(small)) }
        #expect(try link.window("t", keys).map(\.lastID) == ids.suffix(10))
        #expect(try floor("t").id == ids[ids.count - 11].description)
        #expect(try floor("t").events == 10)
    }

    @Test("an index that would be shorter than the window is as long as it")
    func shortIndex() throws {
        let retention = HistoryRetention(
            windowEvents: 10, windowAge: .seconds(3600), indexAge: .milliseconds(1))
        var ids: [EventID] = []
        for offset: Int64 in 0..<400 where !PartitionIngest.isHole(offset) {
            ids.append(try id(link.append(request("t", 0, offset..<(offset + 1)), keys, retention)))
        }
        #expect(try link.window("t", keys).map(\.lastID) == ids.suffix(10))
        let index = try link.index("t", keys).map(\.lastID)
        #expect(index.suffix(10) == ids.suffix(10))
        // Redis trims by whole nodes of a hundred entries.
        #expect(index.count < ids.count)
        #expect(try floor("t").events == 10)
    }

    // MARK: - Marks

    @Test("marks are read for the partitions that were asked for")
    func highWaters() throws {
        _ = try link.append(request("t", 1, 0..<5), keys)
        _ = try link.append(request("t", 4, 7..<9), keys)
        let found = try link.with(keys) { appender, completion in
            appender.highWaters(of: "t", partitions: [4, 0, 1], completion)
        }.wait().get()
        #expect(found == .init(ofPartitions: [8, nil, 4], topicIsKnown: true))
        let other = try link.with(keys) { appender, completion in
            appender.highWaters(of: "other", partitions: [0], completion)
        }.wait().get()
        #expect(other == .init(ofPartitions: [nil], topicIsKnown: false))
    }

    @Test(
        "a mark that is no offset is refused, not taken for none", arguments: ["x", "-7", "1e30"])
    func brokenMark(text: String) throws {
        _ = try link.send(RedisCommand("HSET").add(keys.highWater("t")).add(0).add(text))
        let found = try link.with(keys) { appender, completion in
            appender.highWaters(of: "t", partitions: [0], completion)
        }.wait()
        #expect(throws: RedisError.self) { try found.get() }
    }

    @Test(
        "no mark that Redis may hold crashes an append",
        arguments: ["9223372036854775807", "-9223372036854775808", "1e308", "-5", "x"])
    func hostileMark(text: String) throws {
        _ = try link.send(RedisCommand("HSET").add(keys.highWater("t")).add(0).add(text))
        var ingest = PartitionIngest(
            topic: "t", partition: 0, highWater: -1, limits: .init(batchEvents: 9, batchBytes: 99))
        for offset: Int64 in 0..<3 { ingest.collectOrSkip(offset) }
        let outcome = try link.begin(ingest.nextBatch(), keys, .roomy).wait()
        if case .success(let outcome) = outcome { _ = ingest.finished(outcome) }
        #expect(throws: RedisError.self) { try outcome.get() }
    }

    @Test("a mark is forgotten only while it is the one that was seen")
    func forget() throws {
        _ = try link.append(request("t", 0, 0..<10), keys)
        func forget(_ seen: Int64) throws -> Bool {
            try link.with(keys) { appender, completion in
                appender.forgetHighWater(of: "t", partition: 0, seen: seen, completion)
            }.wait().get()
        }
        #expect(try !forget(8))
        #expect(try link.highWater("t", 0, keys) == "9")
        #expect(try forget(9))
        #expect(try link.highWater("t", 0, keys) == nil)
        // The answer may have been lost on its way.
        #expect(try forget(9))
    }

    @Test("a Redis that was emptied is noticed by who knows better, and by nobody else")
    func emptied() throws {
        _ = try link.append(request("t", 0, 0..<10), keys)
        _ = try link.send(RedisCommand("FLUSHALL"))
        #expect(
            try link.append(request("t", 0, 10..<12, expected: 9), keys)
                == .redisLostData(highWater: -1))
        #expect(try link.history(keys).isEmpty)
        let again = try id(link.append(request("t", 0, 0..<12, expected: -1), keys))
        #expect(again.sequence == 10)
        // Went back a little: a replica that had less took over.
        _ = try link.send(RedisCommand("HSET").add(keys.highWater("t")).add(0).add(6))
        #expect(
            try link.append(request("t", 0, 12..<14, expected: 11), keys)
                == .redisLostData(highWater: 6))
    }
}
