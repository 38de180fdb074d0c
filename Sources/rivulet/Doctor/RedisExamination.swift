// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO
import Reactor
import RedisClient

/// Asks one Redis server what it says of itself, over a connection of its own.
///
/// Threads: lives on a loop that it ends when it has its answer.
final class RedisExamination {
    /// The settings that the rules look at.
    private static let settingNames = [
        "maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save",
        "client-output-buffer-limit", "timeout",
    ]
    /// Times the clock is asked for; the quickest answer says most.
    private static let clockQuestions = 5

    private let loop: EventLoop
    private let connection: RedisConnection
    private let done: (Result<RedisFacts, RedisError>) -> Void
    private var facts = RedisFacts()
    private var clockAnswers = 0

    /// Asks, and waits for the answer on the calling thread, which is no loop's.
    static func ask(_ settings: RedisSettings, within limit: Duration) throws(RedisError)
        -> RedisFacts
    {
        let loop: EventLoop
        do throws(Errno) { loop = try EventLoop(name: "doctor") } catch {
            throw RedisError(.connectFailed, "no event loop: \(error)")
        }
        let outcome = Lock<Result<RedisFacts, RedisError>?>(nil)
        let examination = LoopBound(
            RedisExamination(settings, loop: loop) { result in
                outcome.withLock { $0 = result }
                loop.stop()
            }, on: loop)
        loop.start()
        loop.post { examination.value.begin() }
        if !loop.join(within: limit) {
            loop.post { examination.value.giveUp(after: limit) }
            _ = loop.join(within: .seconds(1))
        }
        guard let result = outcome.withLock({ $0 }) else {
            throw RedisError(.timedOut, "\(settings.address) did not answer within \(limit)")
        }
        return try result.get()
    }

    private init(
        _ settings: RedisSettings, loop: EventLoop,
        done: @escaping (Result<RedisFacts, RedisError>) -> Void
    ) {
        self.loop = loop
        self.done = done
        connection = RedisConnection(
            loop: loop, settings: settings, purpose: "doctor", log: Logger("redis", lowest: .error))
    }

    private func begin() {
        connection.onStateChange = { [weak self] state in
            if state == .ready { self?.askInfo() }
        }
        connection.start()
    }

    private func giveUp(after limit: Duration) {
        let trouble = connection.lastFailure.isEmpty ? "" : ": \(connection.lastFailure)"
        finish(
            .failure(
                RedisError(.timedOut, "no answer within \(limit)\(trouble)"))
        )
    }

    private func finish(_ result: Result<RedisFacts, RedisError>) {
        connection.onStateChange = nil
        connection.stop()
        done(result)
    }

    private func askInfo() {
        connection.send(RedisCommand("INFO")) { [weak self] result in
            guard let self else { return }
            switch result {
            case .failure(let error): finish(.failure(error))
            case .success(let reply):
                facts.info = RedisFacts.fields(ofInfo: reply.text ?? "")
                askSettings(Self.settingNames[...])
            }
        }
    }

    /// One after the other: to ask for several at once takes Redis 7.
    private func askSettings(_ names: ArraySlice<String>) {
        guard let name = names.first else { return askClock() }
        connection.send(RedisCommand("CONFIG").add("GET").add(name)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .failure:
                // Hosted servers do not show their settings; that is a finding, not a failure.
                facts.settings = nil
                askClock()
            case .success(let reply):
                let found = RedisFacts.settings(ofReply: reply.copy()) ?? [:]
                facts.settings = (facts.settings ?? [:]).merging(found) { $1 }
                askSettings(names.dropFirst())
            }
        }
    }

    private func askClock() {
        let asked = MonotonicTime.now
        connection.send(RedisCommand("TIME")) { [weak self] result in
            guard let self else { return }
            let taken = (MonotonicTime.now - asked).wholeMilliseconds
            let here = Int64(WallClock.milliseconds)
            switch result {
            case .failure(let error): return finish(.failure(error))
            case .success(let reply):
                let seconds = reply[0].text.flatMap { Int64($0) } ?? 0
                let microseconds = reply[1].text.flatMap { Int64($0) } ?? 0
                let uncertainty = taken / 2 + 1
                if clockAnswers == 0 || uncertainty < facts.clockUncertaintyMilliseconds {
                    let there = seconds.multipliedReportingOverflow(by: 1000).partialValue
                    facts.clockAheadMilliseconds =
                        there &+ microseconds / 1000 &- (here - taken / 2)
                    facts.clockUncertaintyMilliseconds = uncertainty
                }
            }
            clockAnswers += 1
            if clockAnswers < Self.clockQuestions { askClock() } else { finish(.success(facts)) }
        }
    }
}
