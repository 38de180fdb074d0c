// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Bytes
import EventStreamWire
import HistorySimulation
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import History

/// A connection to a server of the test's own, used from its thread.
private final class Link: Sendable {
    let loop: EventLoop
    private let parts: LoopBound<(connection: RedisConnection, appender: HistoryAppender)>

    init(_ server: RedisServerProcess, _ keys: HistoryKeys, windowEvents: Int) throws {
        let loop = try EventLoop(name: "model-link")
        self.loop = loop
        let connection = RedisConnection(
            loop: loop, settings: RedisSettings(address: .unix(path: server.socketPath)),
            purpose: "test", log: Logger("test", sink: { _ in }))
        let appender = HistoryAppender(
            connection: connection, keys: keys,
            retention: HistoryRetention(
                windowEvents: windowEvents, windowAge: .seconds(3600), indexAge: .seconds(7200)))
        parts = LoopBound((connection, appender), on: loop)
        loop.start()
        let parts = parts
        loop.post { parts.value.connection.start() }
        let deadline = MonotonicTime.now + .seconds(40)
        while loop.answer({ parts.value.connection.state == .ready }) != true {
            try #require(MonotonicTime.now < deadline, "the connection never became ready")
        }
    }

    deinit {
        let parts = parts
        loop.post { parts.value.connection.stop() }
        loop.stop()
        _ = loop.join(within: .seconds(20))
    }

    private func wait<Value: Sendable>(
        _ ask:
            @escaping @Sendable (
                RedisConnection, HistoryAppender, @escaping (Result<Value, RedisError>) -> Void
            ) -> Void
    ) throws -> Value {
        let answer = Lock<Result<Value, RedisError>?>(nil)
        let parts = parts
        loop.post {
            ask(parts.value.connection, parts.value.appender) { result in
                answer.withLock { $0 = result }
            }
        }
        let deadline = MonotonicTime.now + .seconds(40)
        while true {
            if let result = answer.withLock({ $0 }) { return try result.get() }
            try #require(MonotonicTime.now < deadline, "no answer came")
            _ = loop.answer { true }
        }
    }

    func append(_ request: AppendRequest) throws -> AppendOutcome {
        try wait { _, appender, done in appender.append(request, done) }
    }

    func attach(seen: EventID) throws -> HistoryState {
        try wait { _, appender, done in appender.attach(seen: seen, done) }
    }

    func send(_ command: RedisCommand) throws -> RedisReply {
        try wait { connection, _, done in
            connection.send(command) { result in
                switch result {
                case .success(let view): done(.success(view.copy()))
                case .failure(let error): done(.failure(error))
                }
            }
        }
    }
}

extension RedisReply {
    fileprivate var elements: [RedisReply] {
        if case .array(let elements) = self { elements } else { [] }
    }
    fileprivate var text: String {
        if case .bulk(let bytes) = self { String(decoding: bytes, as: UTF8.self) } else { "" }
    }
}

@Suite("The model of the scripts", .timeLimit(.minutes(2)))
struct ModelTests {
    private let keys = HistoryKeys(prefix: "h")

    private func request(
        _ random: inout some RandomNumberGenerator, _ model: HistoryModel
    ) -> AppendRequest {
        let topic = ["a", "b"].randomElement(using: &random)!
        let partition = Int32.random(in: 0...1, using: &random)
        let mark = model.mark(topic, partition) ?? -1
        let base = max(0, mark + Int64.random(in: -2...2, using: &random))
        let count = Int.random(in: 0...4, using: &random)
        let expected = mark + (Int.random(in: 0..<9, using: &random) == 0 ? 3 : 0)
        return AppendRequest(
            topic: topic, partition: partition, base: base,
            last: base + Int64(max(1, count)) - 1, expectedHighWater: expected, count: count,
            bytes: [1, 2, 3])
    }

    /// What the server holds, in the model's form as far as that is compared.
    private func expectEqual(_ link: Link, _ model: HistoryModel, _ seed: UInt64) throws {
        for topic in ["a", "b"] {
            func ids(_ key: String) throws -> [String] {
                try link.send(RedisCommand("XRANGE").add(key).add("-").add("+")).elements
                    .map { $0.elements[0].text }
            }
            let state = model.topics[topic]
            let place = "seed \(seed), topic \(topic)"
            #expect(
                try ids(keys.window(topic)) == (state?.window ?? []).map { "\($0.id)" }, "\(place)")
            #expect(
                try ids(keys.index(topic)) == (state?.index ?? []).map { "\($0.id)" }, "\(place)")
            for partition: Int32 in 0...1 {
                let mark = try link.send(
                    RedisCommand("HGET").add(keys.highWater(topic)).add(partition)
                ).text
                let wanted = model.mark(topic, partition).map { "\($0)" } ?? ""
                #expect(mark == wanted, "\(place)[\(partition)]")
            }
        }
    }

    /// Goal: the simulation says something about the product. Method: the same random operations
    /// on the model and on a real server; the server's clock is taken from what it answers.
    @Test("does what the scripts do on a server", arguments: 1...6 as ClosedRange<UInt64>)
    func same(seed: UInt64) throws {
        let server = try RedisServerProcess()
        let link = try Link(server, keys, windowEvents: 20)
        var model = HistoryModel()
        var random = ModelRandom(state: seed)
        var epoch = ""
        var seen = EventID.zero
        for _ in 0..<120 {
            switch Int.random(in: 0..<14, using: &random) {
            case 0:
                let state = try link.attach(seen: seen)
                // Whether it leapt is for the model to say; the time is the server's.
                var tried = model
                var mine = tried.attach(seen: seen, server: "one", now: 0)
                if state.tip != mine.tip {
                    let leapt = mine.tip.sequence > 0 ? HistoryScripts.clockAllowance : 0
                    tried = model
                    mine = tried.attach(
                        seen: seen, server: "one", now: state.tip.milliseconds - leapt)
                }
                model = tried
                #expect(state.tip == mine.tip, "seed \(seed)")
                #expect(state.ends == mine.ends, "seed \(seed)")
                #expect(Set(state.topics) == Set(mine.topics), "seed \(seed)")
                epoch = mine.epoch
            case 1:
                // Somebody has seen more than this server was given, or knows it.
                if Bool.random(using: &random) {
                    seen = EventID(
                        milliseconds: model.tip.milliseconds
                            + UInt64.random(in: 0...2000, using: &random),
                        sequence: model.tip.sequence + UInt64.random(in: 0...9, using: &random))
                }
            case 2 where Int.random(in: 0..<6, using: &random) == 0:
                _ = try link.send(RedisCommand("FLUSHALL"))
                model = HistoryModel()
            default:
                let request = request(&random, model)
                let outcome = try link.append(request)
                var now: UInt64 = 0
                if case .appended(let ms, _) = outcome { now = ms }
                let mine = model.append(request, epoch: epoch, now: now, windowEvents: 20)
                #expect(outcome == mine, "seed \(seed)")
            }
            try expectEqual(link, model, seed)
        }
    }
}

/// The same sequence for the same seed.
private struct ModelRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 29)
    }
}
