// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import Glibc
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

/// Waits for something that other threads do; false where it has not come about in time.
func eventually(within limit: Duration = .seconds(20), _ condition: () -> Bool) -> Bool {
    let deadline = MonotonicTime.now + limit
    while !condition() {
        guard MonotonicTime.now < deadline else { return false }
        _ = poll(nil, 0, 1)
    }
    return true
}

/// What one command came to, and how often it was told.
final class Outcome: Sendable {
    private let results = Lock<[Result<RedisReply, RedisError>]>([])

    func record(_ result: Result<RedisReply, RedisError>) {
        results.withLock { $0.append(result) }
    }

    var timesTold: Int { results.withLock { $0.count } }

    /// The result, once there is one.
    func wait() -> Result<RedisReply, RedisError>? {
        guard eventually({ timesTold > 0 }) else { return nil }
        return results.withLock { $0.first }
    }

    var reply: RedisReply? {
        guard case .success(let reply)? = wait() else { return nil }
        return reply
    }

    var error: RedisError? {
        guard case .failure(let error)? = wait() else { return nil }
        return error
    }
}

/// A connection on a loop of its own, used from a test's thread.
final class Client: Sendable {
    let loop: EventLoop
    private let connection: LoopBound<RedisConnection>
    private let states = Lock<[RedisConnection.State]>([])
    private let logged = Lock<[UInt8]>([])
    private let registry = MetricsRegistry()

    init(
        _ settings: RedisSettings, scripts: [RedisScript] = [], dependency: Dependency? = nil
    ) throws {
        loop = try EventLoop(name: "redis-test")
        let logged = self.logged
        let log = Logger("redis", lowest: .debug) { line in logged.withLock { $0 += line } }
        let redis = RedisConnection(
            loop: loop, settings: settings, purpose: "test", scripts: scripts, log: log,
            metrics: RedisMetrics(in: registry), dependency: dependency)
        let states = self.states
        redis.onStateChange = { state in states.withLock { $0.append(state) } }
        connection = LoopBound(redis, on: loop)
        loop.start()
        perform { $0.start() }
    }

    deinit {
        perform { $0.stop() }
        loop.stop()
        #expect(loop.join(within: .seconds(20)))
    }

    /// Runs `body` on the loop.
    func perform(_ body: @escaping @Sendable (RedisConnection) -> Void) {
        let connection = self.connection
        loop.post { body(connection.value) }
    }

    func send(_ command: RedisCommand, deadline: Duration? = nil) -> Outcome {
        let outcome = Outcome()
        perform { $0.send(command, deadline: deadline, outcome.receive) }
        return outcome
    }

    var pendingCount: Int {
        let count = Lock<Int?>(nil)
        perform { redis in
            let pending = redis.pendingCount
            count.withLock { $0 = pending }
        }
        #expect(eventually { count.withLock { $0 } != nil })
        return count.withLock { $0 } ?? -1
    }

    var log: String { String(decoding: logged.withLock { $0 }, as: UTF8.self) }
    var metrics: String { registry.render() }
    var allStates: [RedisConnection.State] { states.withLock { $0 } }
    var timesReady: Int { allStates.count { $0 == .ready } }
    var timesWaiting: Int { allStates.count { if case .waiting = $0 { true } else { false } } }

    func becomesReady(times: Int = 1) -> Bool { eventually { timesReady >= times } }
}

extension Outcome {
    /// A completion that records.
    func receive(_ result: Result<RedisReplyView, RedisError>) {
        switch result {
        case .success(let view): record(.success(view.copy()))
        case .failure(let error): record(.failure(error))
        }
    }
}

func bulk(_ text: String) -> RedisReply { .bulk(Array(text.utf8)) }
