// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import PosixIO
import RedisClient
import Testing

/// Against a real redis-server of the test's own.
@Suite("Redis connection to a server", .timeLimit(.minutes(2)))
struct RedisServerTests {
    private func settings(_ server: RedisServerProcess) -> RedisSettings {
        var settings = RedisSettings(address: .tcp(host: server.host, port: server.port))
        settings.commandTimeout = .seconds(10)
        settings.connectTimeout = .seconds(10)
        settings.reconnectDelayMax = .milliseconds(100)
        return settings
    }

    @Test("a password opens the server, with and without a user; a wrong one does not")
    func authentication() throws {
        let server = try RedisServerProcess(password: "hunter2")
        var settings = settings(server)
        settings.password = "hunter2"
        let plain = try Client(settings)
        #expect(plain.becomesReady())
        #expect(plain.send(RedisCommand("GET").add("k")).reply == .null)

        settings.username = "default"
        let named = try Client(settings)
        #expect(named.becomesReady())

        settings.password = "hunter3"
        let wrong = try Client(settings)
        #expect(eventually { wrong.timesWaiting >= 2 })
        #expect(wrong.timesReady == 0)
        #expect(wrong.log.contains("wrongPassword"))
        settings.username = nil
        settings.password = nil
        let missing = try Client(settings)
        #expect(eventually { missing.timesWaiting >= 2 })
        #expect(missing.log.contains("noAuthentication"))
        for client in [plain, named, wrong, missing] {
            #expect(!client.log.contains("hunter"))
        }
    }

    @Test("the database, the name and the Unix socket are those of the settings")
    func introduction() throws {
        let server = try RedisServerProcess()
        var settings = RedisSettings(address: .unix(path: server.socketPath))
        settings.database = 5
        settings.clientName = "rivulet-test"
        let fifth = try Client(settings)
        #expect(fifth.becomesReady())
        #expect(fifth.send(RedisCommand("SET").add("k").add("five")).reply == .simple("OK"))
        #expect(fifth.send(RedisCommand("CLIENT").add("GETNAME")).reply == bulk("rivulet-test"))

        settings.database = 0
        let first = try Client(settings)
        #expect(first.becomesReady())
        #expect(first.send(RedisCommand("GET").add("k")).reply == .null)
        #expect(fifth.send(RedisCommand("GET").add("k")).reply == bulk("five"))

        settings.database = 9999
        let nowhere = try Client(settings)
        #expect(eventually { nowhere.timesWaiting >= 1 })
        #expect(nowhere.timesReady == 0)
    }

    @Test("megabytes of any bytes go there and come back")
    func blob() throws {
        let server = try RedisServerProcess()
        let client = try Client(settings(server))
        #expect(client.becomesReady())
        var random = SeededRandom(seed: 3)
        let blob = (0..<(5 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) }
        #expect(client.send(RedisCommand("SET").add("k").add(blob)).reply == .simple("OK"))
        #expect(client.send(RedisCommand("GET").add("k")).reply == .bulk(blob))
        let length = client.send(RedisCommand("STRLEN").add(Array("k".utf8).span)).reply
        #expect(length == .integer(5 << 20))
        let number = client.send(RedisCommand("INCRBY").add("n").add(Int64.min)).reply
        #expect(number == .integer(.min))
    }

    @Test("a script runs by its hash, and again by its body when the server has forgotten it")
    func script() throws {
        let server = try RedisServerProcess()
        let script = RedisScript(
            name: "set", body: "redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], ARGV[2]}")
        let late = RedisScript(name: "late", body: "return 7")
        let client = try Client(settings(server), scripts: [script])
        #expect(client.becomesReady())
        let call = RedisCommand(script: script, keys: ["a"]).add([0, 255]).add(12)
        #expect(client.send(call).reply == .array([bulk("a"), bulk("12")]))
        #expect(client.send(RedisCommand("GET").add("a")).reply == .bulk([0, 255]))

        #expect(client.send(RedisCommand("SCRIPT").add("FLUSH")).reply == .simple("OK"))
        let outcomes = (0..<10).map { _ in Outcome() }
        client.perform { redis in for outcome in outcomes { redis.send(call, outcome.receive) } }
        for outcome in outcomes { #expect(outcome.reply == .array([bulk("a"), bulk("12")])) }
        #expect(outcomes.allSatisfy { $0.timesTold == 1 })

        let calls = (0..<3).map { _ in client.send(RedisCommand(script: late, keys: [])).reply }
        #expect(calls == [.integer(7), .integer(7), .integer(7)])
        let stats = try #require(client.send(RedisCommand("INFO").add("commandstats")).reply)
        guard case .bulk(let bytes) = stats else { return #expect(Bool(false), "\(stats)") }
        let text = String(decoding: bytes, as: UTF8.self)
        // One EVALSHA before the flush, ten that failed, and two of the late script.
        #expect(text.contains("cmdstat_evalsha:calls=13"))
        #expect(text.contains("cmdstat_eval:calls=11"))
    }

    @Test("a script that fails half-way may have done something, and says so")
    func failingScript() throws {
        let server = try RedisServerProcess()
        let script = RedisScript(
            name: "half", body: "redis.call('SET', 'k', 1) return redis.call('LPUSH', 'k', 1)")
        let client = try Client(settings(server), scripts: [script])
        #expect(client.becomesReady())
        let error = try #require(client.send(RedisCommand(script: script, keys: [])).error)
        #expect(error.mayHaveExecuted)
        #expect(!error.isRetriable)
        #expect(client.send(RedisCommand("GET").add("k")).reply == bulk("1"))
        let plain = try #require(client.send(RedisCommand("LPUSH").add("k").add("x")).error)
        #expect(plain.code == .wrongType)
        #expect(!plain.mayHaveExecuted)
    }

    @Test("a blocking read sleeps past the common deadline and wakes with what was added")
    func blockingRead() throws {
        let server = try RedisServerProcess()
        var settings = settings(server)
        settings.commandTimeout = .milliseconds(200)
        let reader = try Client(settings)
        let writer = try Client(self.settings(server))
        #expect(reader.becomesReady())
        #expect(writer.becomesReady())
        func read() -> Outcome {
            reader.send(
                RedisCommand("XREAD").add("BLOCK").add(30_000).add("STREAMS").add("s").add("$"),
                deadline: .seconds(31))
        }
        let outcome = read()
        func blocked() -> Bool {
            guard case .bulk(let bytes)? = writer.send(RedisCommand("INFO").add("clients")).reply
            else { return false }
            return String(decoding: bytes, as: UTF8.self).contains("blocked_clients:1")
        }
        #expect(eventually(blocked))
        let start = MonotonicTime.now
        #expect(eventually { MonotonicTime.now - start > .milliseconds(400) })
        #expect(outcome.timesTold == 0)
        let added = writer.send(RedisCommand("XADD").add("s").add("1-1").add("b").add([1, 2]))
        #expect(added.reply == bulk("1-1"))
        let entry = RedisReply.array([bulk("1-1"), .array([bulk("b"), .bulk([1, 2])])])
        #expect(outcome.reply == .array([.array([bulk("s"), .array([entry])])]))
        #expect(reader.timesReady == 1)
    }

    @Test("a server that was killed and started again is connected to again")
    func killed() throws {
        let server = try RedisServerProcess()
        let client = try Client(settings(server))
        #expect(client.becomesReady())
        let blocked = client.send(
            RedisCommand("BLPOP").add("none").add(0), deadline: .seconds(60))
        #expect(eventually { client.pendingCount == 1 })
        server.kill()
        #expect(blocked.error?.code == .connectionLost)
        #expect(eventually { client.timesWaiting >= 2 })
        try server.start()
        #expect(client.becomesReady(times: 2))
        #expect(client.send(RedisCommand("PING")).reply == .simple("PONG"))
        #expect(blocked.timesTold == 1)
        #expect(client.metrics.contains("rivulet_redis_connects_total 2"))
    }

    @Test("a server that stands still is given up at the deadline and found again when it goes on")
    func paused() throws {
        let server = try RedisServerProcess()
        var settings = settings(server)
        settings.commandTimeout = .milliseconds(150)
        settings.connectTimeout = .milliseconds(300)
        let client = try Client(settings)
        #expect(client.becomesReady())
        server.pause()
        let outcome = client.send(RedisCommand("PING"), deadline: .milliseconds(100))
        #expect(eventually { outcome.timesTold == 1 })
        #expect(outcome.error?.code == .timedOut)
        #expect(eventually { client.timesWaiting >= 2 })
        #expect(client.timesReady == 1)
        server.resume()
        #expect(client.becomesReady(times: 2))
        #expect(outcome.timesTold == 1)
    }

    @Test("what the loop hears in one turn leaves as one write, so a burst costs few packets")
    func burst() throws {
        let server = try RedisServerProcess()
        let client = try Client(settings(server))
        #expect(client.becomesReady())
        let told = Lock(0)
        client.perform { redis in
            for _ in 0..<50_000 {
                redis.send(RedisCommand("INCR").add("n")) { _ in told.withLock { $0 += 1 } }
            }
        }
        #expect(eventually { told.withLock { $0 } == 50_000 })
        #expect(client.send(RedisCommand("GET").add("n")).reply == bulk("50000"))
        let stats = client.send(RedisCommand("INFO").add("stats")).reply
        guard case .bulk(let bytes)? = stats else { return #expect(Bool(false), "\(stats as Any)") }
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
            .first { $0.hasPrefix("total_reads_processed:") }
        let reads = try #require(line.flatMap { Int($0.dropFirst(22)) })
        #expect(reads < 1000)
    }
}
