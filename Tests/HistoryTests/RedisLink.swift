// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import EventStreamWire
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import History

extension RedisSettings {
    /// To a server of a test's own: nothing is given up early on a busy machine, and it is found
    /// again soon.
    init(_ server: RedisServerProcess, commandTimeout: Duration = .seconds(10)) {
        self.init(address: .unix(path: server.socketPath))
        self.commandTimeout = commandTimeout
        connectTimeout = commandTimeout
        reconnectDelayMax = .milliseconds(100)
    }
}

/// A connection on a loop of its own, used from a test's thread.
final class RedisLink: Sendable {
    let loop: EventLoop
    private let connection: LoopBound<RedisConnection>

    init(_ server: RedisServerProcess) throws {
        loop = try EventLoop(name: "redis-link")
        let redis = RedisConnection(
            loop: loop, settings: RedisSettings(server), purpose: "test", log: .silent)
        connection = LoopBound(redis, on: loop)
        loop.start()
        let connection = connection
        loop.post { connection.value.start() }
        try becomeReady()
    }

    deinit {
        let connection = connection
        loop.post { connection.value.stop() }
        loop.stop()
        _ = loop.join(within: .seconds(20))
    }

    func becomeReady() throws {
        let connection = connection
        let deadline = MonotonicTime.now + patience
        while try loop.value({ connection.value.state }) != .ready {
            try #require(MonotonicTime.now < deadline, "the connection never became ready")
        }
    }

    func send(_ command: RedisCommand) throws -> RedisReply {
        let answer = Answer<Result<RedisReply, RedisError>>()
        let connection = connection
        loop.post {
            connection.value.send(command) { result in
                switch result {
                case .success(let view): answer.give(.success(view.copy()))
                case .failure(let error): answer.give(.failure(error))
                }
            }
        }
        return try answer.wait().get()
    }

    func begin(_ request: AppendRequest, _ keys: HistoryKeys, _ retention: HistoryRetention)
        -> Answer<Result<AppendOutcome, RedisError>>
    {
        with(keys, retention) { $0.append(request, $1) }
    }

    func append(
        _ request: AppendRequest, _ keys: HistoryKeys, _ retention: HistoryRetention = .roomy
    ) throws -> AppendOutcome {
        try begin(request, keys, retention).wait().get()
    }

    /// Calls an appender on the loop.
    func with<Value: Sendable>(
        _ keys: HistoryKeys, _ retention: HistoryRetention = .roomy,
        _ body:
            @escaping @Sendable (
                HistoryAppender, @escaping (Result<Value, RedisError>) -> Void
            ) -> Void
    ) -> Answer<Result<Value, RedisError>> {
        let answer = Answer<Result<Value, RedisError>>()
        let connection = connection
        loop.post {
            let appender = HistoryAppender(
                connection: connection.value, keys: keys, retention: retention)
            body(appender) { answer.give($0) }
        }
        return answer
    }
}

extension HistoryRetention {
    /// Lets nothing go within a test.
    static let roomy = HistoryRetention(
        windowEvents: 1_000_000, windowAge: .seconds(3600), indexAge: .seconds(7200))
}

extension RedisReply {
    var elements: [RedisReply] { if case .array(let elements) = self { elements } else { [] } }
    var bytes: [UInt8] { if case .bulk(let bytes) = self { bytes } else { [] } }
    var text: String { bytes.text }
    /// The fields of a stream entry or the pairs of HGETALL.
    var fields: [String: RedisReply] {
        var fields: [String: RedisReply] = [:]
        let all = elements
        for index in stride(from: 0, to: all.count - 1, by: 2) {
            fields[all[index].text] = all[index + 1]
        }
        return fields
    }
}

/// One entry of a window as Redis holds it, decoded without the code under test but its codec.
struct StoredBatch: Equatable {
    let topic: String
    let partition: Int32
    let lastID: EventID
    let events: [HistoryEvent]

    var sequences: ClosedRange<UInt64> {
        (lastID.sequence - UInt64(events.count) + 1)...lastID.sequence
    }
}

/// One entry of an index.
struct StoredPlace: Equatable {
    let lastID: EventID
    let partition: Int32
    let base: Int64
    let count: Int
    let hasOffsets: Bool
    var loss: HistoryLoss?

    var ids: [EventID] {
        ((lastID.sequence - UInt64(count) + 1)...lastID.sequence).map {
            EventID(milliseconds: lastID.milliseconds, sequence: $0)
        }
    }
}

extension RedisLink {
    /// The batches of a topic's window; losses are left out.
    func window(_ topic: String, _ keys: HistoryKeys) throws -> [StoredBatch] {
        try entries(keys.window(topic)).filter { $0.1["l"] == nil }.map { lastID, fields in
            let base = try #require(Int64(fields["o"]?.text ?? ""))
            let count = try #require(Int(fields["c"]?.text ?? ""))
            return StoredBatch(
                topic: topic, partition: try #require(Int32(fields["p"]?.text ?? "")),
                lastID: lastID,
                events: try BatchLayout.events(
                    fields["b"]?.bytes ?? [], base: base, count: count))
        }
    }

    func index(_ topic: String, _ keys: HistoryKeys) throws -> [StoredPlace] {
        try entries(keys.index(topic)).map { lastID, fields in
            StoredPlace(
                lastID: lastID, partition: try #require(Int32(fields["p"]?.text ?? "")),
                base: try #require(Int64(fields["o"]?.text ?? "")),
                count: try #require(Int(fields["c"]?.text ?? "")), hasOffsets: fields["x"] != nil,
                loss: fields["l"].flatMap { HistoryLoss($0.text) })
        }
    }

    func highWater(_ topic: String, _ partition: Int32, _ keys: HistoryKeys) throws -> String? {
        let reply = try send(RedisCommand("HGET").add(keys.highWater(topic)).add(partition))
        return reply == .null ? nil : reply.text
    }

    /// Topics that have history, sorted.
    func topics(_ keys: HistoryKeys) throws -> [String] {
        try send(RedisCommand("SMEMBERS").add(keys.topics)).elements.map(\.text).sorted()
    }

    private func entries(_ key: String) throws -> [(EventID, [String: RedisReply])] {
        let reply = try send(RedisCommand("XRANGE").add(key).add("-").add("+"))
        return try reply.elements.map { item in
            (try EventID.parse(item.elements[0].text), item.elements[1].fields)
        }
    }

    /// All of history in the order of the IDs.
    func history(_ keys: HistoryKeys) throws -> [StoredBatch] {
        try topics(keys).flatMap { try window($0, keys) }.sorted { $0.lastID < $1.lastID }
    }
}

/// A request for offsets of a topic whose every seventh offset holds nothing.
func request(
    _ topic: String, _ partition: Int32 = 0, _ offsets: Range<Int64>, expected: Int64 = -1,
    padding: Int = 0
) -> AppendRequest {
    var ingest = PartitionIngest(
        topic: topic, partition: partition, highWater: expected,
        limits: .init(batchEvents: .max, batchBytes: .max))
    for offset in offsets { ingest.collectOrSkip(offset, padding: padding) }
    return ingest.takeBatch()!
}

/// A request that says that offsets of a topic are lost.
func lossRequest(
    _ topic: String, _ partition: Int32 = 0, _ offsets: ClosedRange<Int64>, expected: Int64 = -1
) -> AppendRequest {
    var ingest = PartitionIngest(
        topic: topic, partition: partition, highWater: expected,
        limits: .init(batchEvents: .max, batchBytes: .max))
    _ = ingest.retentionPassed(asked: offsets.lowerBound, low: offsets.upperBound + 1)
    return ingest.takeBatch()!
}

extension PartitionIngest {
    static func isHole(_ offset: Int64) -> Bool { offset % 7 == 3 }

    /// Collects what ``request(_:_:_:expected:padding:)`` holds at `offset`.
    mutating func collectOrSkip(_ offset: Int64, padding: Int = 0) {
        if Self.isHole(offset) {
            skip(offset: offset, awaitingDeadLetter: false)
        } else {
            collect(offset, content(topic, partition, offset, padding: padding))
        }
    }
}
