// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Dependability
import PosixIO
import RedisClient
import Testing

/// What connections that share a ``Dependency`` make known of their server, and how they come back.
@Suite("Trouble with Redis", .timeLimit(.minutes(2)))
struct TroubleTests {
    private let redis = Dependency("redis")

    private func becomes(_ word: String) -> Bool { eventually { redis.status().word == word } }

    @Test(
        "a server that is there and does not serve is named for what it is",
        arguments: [
            ("-WRONGPASS invalid username-password pair", "refused", "redis.password"),
            ("-LOADING Redis is loading the dataset in memory", "loading", "reads its data"),
            ("HTTP/1.1 400 Bad Request", "not_redis", "does not speak"),
        ])
    func refusals(reply: String, word: String, advice: String) throws {
        let server = try ScriptedServer { side in
            _ = side.readCommand()
            side.send("\(reply)\r\n")
            side.waitForHangUp()
        }
        var settings = server.settings
        settings.password = "secret"
        let client = try Client(settings, dependency: redis)
        #expect(becomes(word), "\(redis.status())")
        let status = redis.status()
        #expect(status.breaker != .closed)
        #expect(status.trouble?.message.contains(advice) == true, "\(status)")
        #expect(status.trouble?.message.contains("secret") == false)
        withExtendedLifetime(client) {}
    }

    @Test(
        "a server that refuses what it is asked is named too, and goes on being asked",
        arguments: [
            ("-OOM command not allowed when used memory > 'maxmemory'.", "out_of_memory"),
            ("-BUSY Redis is busy running a script.", "busy"),
            ("-READONLY You can't write against a read only replica.", "read_only"),
            ("-NOPERM this user has no permissions to run the 'set' command", "refused"),
        ])
    func answers(reply: String, word: String) throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            while !side.readCommand().isEmpty { side.send("\(reply)\r\n") }
        }
        let client = try Client(server.settings, dependency: redis)
        #expect(client.becomesReady())
        #expect(redis.status().isWell)
        #expect(client.send(RedisCommand("SET").add("k").add("v")).error != nil)
        #expect(redis.status().word == word)
        #expect(redis.status().breaker == .closed)
    }

    @Test("nobody, and one who takes the connection and says nothing, are two things")
    func silence() throws {
        let port = try #require(FreePort.choose())
        var settings = RedisSettings(address: .tcp(host: "127.0.0.1", port: port))
        let nobody = try Client(settings, dependency: redis)
        #expect(becomes("unreachable"))
        withExtendedLifetime(nobody) {}

        let server = try ScriptedServer { $0.waitForHangUp() }
        settings = server.settings
        settings.connectTimeout = .milliseconds(30)
        let other = Dependency("redis")
        let client = try Client(settings, dependency: other)
        #expect(eventually { other.status().word == "silent" }, "\(other.status())")
        withExtendedLifetime(client) {}
    }

    @Test("an answer that takes too long is trouble, though it comes")
    func slow() throws {
        let mayReply = Lock(false)
        let server = try ScriptedServer { side in
            side.answerHandshake()
            while !side.readCommand().isEmpty {
                _ = eventually { mayReply.withLock { $0 } }
                side.send("+late\r\n")
            }
        }
        let client = try Client(server.settings, dependency: redis)
        #expect(client.becomesReady())
        let sent = MonotonicTime.now
        let outcome = client.send(RedisCommand("GET").add("k"))
        _ = eventually { MonotonicTime.now - sent > .milliseconds(520) }
        mayReply.withLock { $0 = true }
        #expect(outcome.reply == .simple("late"))
        #expect(redis.status().word == "slow", "\(redis.status())")
    }

    /// Goal: a server that comes back meets one connection of a node, and the others after it.
    /// Method: many connections lose a server together; while it is away few attempts are made
    /// in all, and when it is back all of them are ready again.
    @Test("of many connections one finds out whether the server is back, and the others follow")
    func oneProbe() throws {
        let server = try RedisServerProcess()
        var settings = RedisSettings(address: .tcp(host: server.host, port: server.port))
        settings.reconnectDelayMax = .milliseconds(60)
        let clients = try (0..<12).map { _ in try Client(settings, dependency: redis) }
        #expect(clients.allSatisfy { $0.becomesReady() })
        server.kill()
        #expect(becomes("unreachable"))
        let before = attempts(clients)
        let began = MonotonicTime.now
        _ = eventually { MonotonicTime.now - began > .seconds(1) }
        // Alone, each would try dozens of times in that second.
        #expect(attempts(clients) - before < 24, "\(attempts(clients) - before)")
        try server.start()
        #expect(clients.allSatisfy { $0.becomesReady(times: 2) })
        #expect(redis.status().isWell)
    }

    private func attempts(_ clients: [Client]) -> Int {
        clients.reduce(0) { sum, client in
            sum + client.allStates.count { $0 == .connecting }
        }
    }
}

/// The same against real servers.
@Suite("Trouble with a real Redis", .timeLimit(.minutes(2)))
struct RealTroubleTests {
    private let redis = Dependency("redis")

    private func client(_ server: RedisServerProcess) throws -> Client {
        try Client(
            RedisSettings(address: .tcp(host: server.host, port: server.port)), dependency: redis)
    }

    @Test("a full server writes nothing, and is read")
    func full() throws {
        let server = try RedisServerProcess(arguments: ["--maxmemory", "100kb"])
        let client = try client(server)
        #expect(client.becomesReady())
        #expect(client.send(RedisCommand("SET").add("k").add("v")).error?.code == .outOfMemory)
        #expect(redis.status().word == "out_of_memory")
        #expect(client.send(RedisCommand("GET").add("k")).reply == .null)
        #expect(redis.status().breaker == .closed)
    }

    @Test("a replica is left, and looked for again")
    func replica() throws {
        let server = try RedisServerProcess(arguments: ["--replicaof", "127.0.0.1", "1"])
        let client = try client(server)
        #expect(client.becomesReady())
        #expect(client.send(RedisCommand("SET").add("k").add("v")).error?.code == .readOnly)
        #expect(redis.status().word == "read_only")
        #expect(client.becomesReady(times: 2))
    }

    @Test("a server that runs somebody's script for ever is busy, until that is killed")
    func busy() throws {
        let server = try RedisServerProcess(arguments: ["--busy-reply-threshold", "10"])
        let (culprit, client) = (try client(server), try client(server))
        #expect(culprit.becomesReady() && client.becomesReady())
        let endless = culprit.send(
            RedisCommand("EVAL").add("while true do end").add(0), deadline: .seconds(60))
        #expect(eventually { client.send(RedisCommand("GET").add("k")).error?.code == .busy })
        #expect(redis.status().word == "busy")
        #expect(client.send(RedisCommand("SCRIPT").add("KILL")).reply == .simple("OK"))
        #expect(endless.error != nil)
        #expect(client.send(RedisCommand("GET").add("k")).reply == .null)
    }
}
