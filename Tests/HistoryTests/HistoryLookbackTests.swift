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

/// Searches in history, over the replay of one node.
private final class LookbackBench: Sendable {
    let replay: ReplayBench
    let lookback: HistoryLookback
    let metrics: LookbackMetrics
    private let connection: LoopBound<RedisConnection>

    init(
        _ server: RedisServerProcess, _ keys: HistoryKeys, pageBytes: Int = 1 << 20,
        kafka: FakeKafka = FakeKafka(), limits: LookbackLimits = LookbackLimits()
    ) throws {
        replay = try ReplayBench(server, keys, pageBytes: pageBytes, kafka: kafka)
        metrics = LookbackMetrics(in: MetricsRegistry())
        let (loop, directory, pages, metrics) = (
            replay.loop, replay.directory, replay.replay, metrics
        )
        let made = try loop.value {
            let connection = RedisConnection(
                loop: loop, settings: RedisSettings(server), purpose: "lookback",
                scripts: [HistoryScripts.lookback], log: .silent)
            let lookback = HistoryLookback(
                loop: loop, connection: connection, keys: keys, directory: directory, pages: pages,
                limits: limits, metrics: metrics, log: .silent, knownTopics: { ["a", "b", "c"] })
            connection.start()
            return (LoopBound(connection, on: loop), lookback)
        }
        (connection, lookback) = made
        let deadline = MonotonicTime.now + patience
        let connection = connection
        while try loop.value({ connection.value.state }) != .ready {
            try #require(MonotonicTime.now < deadline, "the connection never became ready")
        }
    }

    deinit {
        let connection = connection
        replay.loop.post { connection.value.stop() }
    }

    func find(_ subscription: Subscription, last count: Int, through end: EventID) throws
        -> (start: EventID?, notice: GapNotice?)?
    {
        let answer = Answer<LookbackOutcome>()
        lookback.findStart(of: subscription, last: count, through: end) { answer.give($0) }
        switch try answer.wait() {
        case .start(let start, let notice): return (start, notice)
        case .unavailable: return nil
        }
    }
}

@Suite("Lookback", .timeLimit(.minutes(2)))
struct HistoryLookbackTests {
    private let server: RedisServerProcess
    private let link: RedisLink
    private let keys = HistoryKeys(prefix: "h")

    init() throws {
        server = try RedisServerProcess()
        link = try RedisLink(server)
    }

    /// What a subscription gets from `start` to the tip.
    private func received(
        _ bench: LookbackBench, _ subscription: Subscription, after start: EventID?, to tip: EventID
    ) throws -> [Received] {
        try bench.replay.readAll(subscription, after: try #require(start), to: tip).received
    }

    @Test(
        "the last N events of any subscription, over batches, topics and pages, however large N is",
        arguments: [1 << 20, 4096], [256, 4])
    func exact(_ pageBytes: Int, _ partEvents: Int) throws {
        var limits = LookbackLimits()
        limits.partEventsMin = partEvents
        let bench = try LookbackBench(server, keys, pageBytes: pageBytes, limits: limits)
        var offsets: [String: Int64] = [:]
        for round in 0..<40 {
            // "a" is busy, "b" has a little, "c" had something long ago.
            let topic = round < 4 ? "c" : (round % 9 == 0 ? "b" : "a")
            let base = offsets[topic] ?? 0
            offsets[topic] = base + 5
            _ = try link.append(request(topic, 0, base..<(base + 5), expected: base - 1), keys)
        }
        let tip = try #require(try link.history(keys).last).lastID
        for name in ["left", "right"] {
            let subscription = try bench.replay.directory.subscription(name)
            let all = try bench.replay.readAll(subscription, after: .zero, to: tip).received
            for count in [1, 2, 7, all.count - 1, all.count] {
                let found = try #require(try bench.find(subscription, last: count, through: tip))
                #expect(found.notice == nil)
                let got = try received(bench, subscription, after: found.start, to: tip)
                #expect(got.map(\.id) == all.suffix(count).map(\.id), "\(name), \(count)")
            }
            let more = try #require(
                try bench.find(subscription, last: all.count + 3, through: tip))
            #expect(more.notice == nil)
            #expect(
                try received(bench, subscription, after: more.start, to: tip).map(\.id)
                    == all.map(\.id))
            // Of what lies before an end, the end included.
            let end = all[all.count / 2].id
            let before = try #require(try bench.find(subscription, last: 3, through: end))
            #expect(
                try received(bench, subscription, after: before.start, to: tip).first?.id
                    == all[all.count / 2 - 2].id)
        }
    }

    @Test("a channel without history has no beginning")
    func empty() throws {
        let bench = try LookbackBench(server, keys)
        _ = try link.append(request("a", 0, 0..<5), keys)
        let right = try bench.replay.directory.subscription("right")
        let tip = try #require(try link.history(keys).last).lastID
        let found = try #require(try bench.find(right, last: 3, through: tip))
        #expect(found.start == nil)
        #expect(found.notice == nil)
    }

    @Test("a search that has looked at as much as it may says so")
    func bounded() throws {
        var limits = LookbackLimits()
        limits.eventsMax = 20
        limits.partEventsMin = 8
        limits.partEventsMax = 8
        let bench = try LookbackBench(server, keys, limits: limits)
        for base in stride(from: Int64(0), to: 100, by: 5) {
            _ = try link.append(request("a", 0, base..<(base + 5), expected: base - 1), keys)
        }
        let tip = try #require(try link.history(keys).last).lastID
        let left = try bench.replay.directory.subscription("left")
        let found = try #require(try bench.find(left, last: 50, through: tip))
        let notice = try #require(found.notice)
        #expect(notice.reason == .lookbackLimit)
        let start = try #require(found.start)
        #expect(notice.to <= start)
        let got = try received(bench, left, after: start, to: tip).count
        #expect((8..<50).contains(got))
        #expect(bench.metrics.limited.value == 1)
    }

    @Test("what the window let go is found in Kafka; where Kafka has let it go too, that is told")
    func olderThanTheWindow() throws {
        let kafka = FakeKafka()
        let bench = try LookbackBench(server, keys, kafka: kafka)
        let short = HistoryRetention(
            windowEvents: 10, windowAge: .seconds(3600), indexAge: .seconds(7200))
        for base in stride(from: Int64(0), to: 100, by: 5) {
            let request = request("a", 0, base..<(base + 5), expected: base - 1)
            try kafka.keep(request)
            _ = try link.append(request, keys, short)
        }
        let index = try link.index("a", keys)
        let tip = try #require(index.last).lastID
        let left = try bench.replay.directory.subscription("left")
        let all = try bench.replay.readAll(left, after: .zero, to: tip).received
        let found = try #require(try bench.find(left, last: 40, through: tip))
        #expect(found.notice == nil)
        #expect(
            try received(bench, left, after: found.start, to: tip).map(\.id)
                == all.suffix(40).map(\.id))
        kafka.state.withLock { $0.low[TopicPartition("a", 0)] = 50 }
        // A node that has not read these pages before.
        let other = try LookbackBench(server, keys, kafka: kafka)
        let cut = try #require(try other.find(left, last: all.count, through: tip))
        let notice = try #require(cut.notice)
        #expect(notice.reason == .retention)
        #expect(try notice.to <= #require(cut.start))
    }

    @Test("without Redis it is told that history is away")
    func away() throws {
        let bench = try LookbackBench(server, keys)
        server.kill()
        let left = try bench.replay.directory.subscription("left")
        let found = try bench.find(
            left, last: 3, through: EventID(milliseconds: 9, sequence: 9))
        #expect(found == nil)
    }
}
