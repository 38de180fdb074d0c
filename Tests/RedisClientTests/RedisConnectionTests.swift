// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import RedisClient
import Testing

/// What a connection does when the server at the other end plays its part badly.
@Suite("Redis connection", .timeLimit(.minutes(2)))
struct RedisConnectionTests {
    @Test("ten thousand commands of one turn are answered in their order")
    func pipeline() throws {
        let echo = try ScriptedServer { side in
            side.answerHandshake()
            for _ in 0..<10_000 {
                let arguments = side.readCommand()
                guard arguments.count == 2 else { return }
                side.send(":\(arguments[1])\r\n")
            }
            side.waitForHangUp()
        }
        let client = try Client(echo.settings)
        #expect(client.becomesReady())
        let seen = Lock<[Int64]>([])
        client.perform { redis in
            for number in 0..<10_000 {
                redis.send(RedisCommand("ECHO").add(number)) { result in
                    guard case .success(let view) = result, let integer = view.integer else {
                        return
                    }
                    seen.withLock { $0.append(integer) }
                }
            }
        }
        #expect(eventually { seen.withLock { $0.count } == 10_000 })
        #expect(seen.withLock { $0 } == Array(0..<10_000))
    }

    @Test("a reply that comes byte by byte is one reply")
    func slowReply() throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            _ = side.readCommand()
            for byte in "*2\r\n$3\r\nabc\r\n:12\r\n".utf8 { side.send([byte]) }
            side.waitForHangUp()
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let reply = client.send(RedisCommand("GET").add("k")).reply
        #expect(reply == .array([bulk("abc"), .integer(12)]))
    }

    @Test("an error in an array is a value, and the connection lives on")
    func nestedError() throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            while !side.readCommand().isEmpty { side.send("*2\r\n+OK\r\n-ERR inner\r\n") }
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let expected = RedisReply.array([.simple("OK"), .error("ERR inner")])
        #expect(client.send(RedisCommand("EXEC")).reply == expected)
        #expect(client.send(RedisCommand("EXEC")).reply == expected)
        #expect(client.timesReady == 1)
    }

    @Test(
        "bytes that are no reply, or too much of one, end the connection; it comes back",
        arguments: [
            "HTTP/1.1 400\r\n", "$70000000\r\n", "*2000000\r\n", "+OK\r\n+nobody asked\r\n",
        ])
    func badReply(wire: String) throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                _ = side.readCommand()
                side.send(wire)
                side.waitForHangUp()
            },
            { side in
                side.answerHandshake()
                while !side.readCommand().isEmpty { side.send("+fine\r\n") }
            })
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let first = client.send(RedisCommand("GET").add("k"))
        #expect(client.becomesReady(times: 2))
        #expect(first.timesTold == 1)
        if !wire.hasPrefix("+OK") {
            #expect(first.error?.code == .connectionLost)
            #expect(first.error?.mayHaveExecuted == true)
        }
        #expect(client.send(RedisCommand("GET").add("k")).reply == .simple("fine"))
        #expect(client.metrics.contains(#"errors_total{code="protocolViolated"} 1"#))
    }

    @Test("a server that falls silent is dropped at the first deadline, whichever command it is of")
    func silence() throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            side.waitForHangUp()
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let patient = client.send(RedisCommand("XREAD"), deadline: .seconds(60))
        let hasty = client.send(RedisCommand("GET"), deadline: .milliseconds(50))
        #expect(hasty.error?.code == .timedOut)
        #expect(hasty.error?.mayHaveExecuted == true)
        #expect(patient.error?.code == .connectionLost)
        #expect(patient.error?.isRetriable == true)
        #expect(client.becomesReady(times: 2))
        #expect(patient.timesTold == 1)
        #expect(hasty.timesTold == 1)
    }

    @Test("a reply that came in time counts, though this process slept past the deadline")
    func lateReader() throws {
        let gate = Lock((mayReply: false, hasReplied: false))
        let server = try ScriptedServer { side in
            side.answerHandshake()
            _ = side.readCommand()
            side.send("+first\r\n")
            #expect(eventually { gate.withLock { $0.mayReply } })
            side.send("+in time\r\n")
            gate.withLock { $0.hasReplied = true }
            side.waitForHangUp()
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let outcome = Outcome()
        client.perform { redis in
            redis.send(RedisCommand("GET")) { _ in
                gate.withLock { $0.mayReply = true }
                let end = MonotonicTime.now + .milliseconds(80)
                #expect(eventually { gate.withLock { $0.hasReplied } && MonotonicTime.now > end })
            }
            redis.send(RedisCommand("GET"), deadline: .milliseconds(50), outcome.receive)
        }
        #expect(outcome.reply == .simple("in time"))
        #expect(client.timesReady == 1)
    }

    @Test("a connection cut in the middle of a reply fails each waiting command once")
    func cut() throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                for _ in 0..<3 { _ = side.readCommand() }
                side.send("+first\r\n$10\r\nhalf")
            },
            { side in
                side.answerHandshake()
                side.waitForHangUp()
            })
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let outcomes = [Outcome(), Outcome(), Outcome()]
        client.perform { redis in
            for outcome in outcomes { redis.send(RedisCommand("INCR"), outcome.receive) }
        }
        #expect(outcomes[0].reply == .simple("first"))
        for outcome in outcomes[1...] {
            #expect(outcome.error?.code == .connectionLost)
            #expect(outcome.error?.mayHaveExecuted == true)
            #expect(outcome.error?.isRetriable == true)
        }
        #expect(client.becomesReady(times: 2))
        #expect(outcomes.map(\.timesTold) == [1, 1, 1])
    }

    @Test("a command that had not been written whole is known not to have run")
    func unwritten() throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                // Reads the small command and nothing of what fills the socket behind it.
                _ = side.readCommand()
            },
            { side in
                side.answerHandshake()
                side.waitForHangUp()
            })
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let small = Outcome()
        let large = Outcome()
        let last = Outcome()
        client.perform { redis in
            redis.send(RedisCommand("INCR"), small.receive)
            let blob = [UInt8](repeating: 1, count: 32 << 20)
            redis.send(RedisCommand("SET").add(blob), large.receive)
            redis.send(RedisCommand("INCR"), last.receive)
        }
        #expect(small.error?.mayHaveExecuted == true)
        #expect(large.error?.mayHaveExecuted == false)
        #expect(last.error?.mayHaveExecuted == false)
        #expect(last.error?.code == .connectionLost)
    }

    @Test("without a connection a command fails at once, and not inside the call that sends it")
    func notConnected() throws {
        let unused = try ScriptedServer { $0.waitForHangUp() }
        let client = try Client(unused.settings)
        let outcome = Outcome()
        let isTooEarly = Lock(false)
        client.perform { redis in
            redis.send(RedisCommand("PING"), outcome.receive)
            if outcome.timesTold > 0 { isTooEarly.withLock { $0 = true } }
        }
        #expect(outcome.error?.code == .notConnected)
        #expect(outcome.error?.isRetriable == true)
        #expect(outcome.error?.mayHaveExecuted == false)
        #expect(!isTooEarly.withLock { $0 })
    }

    @Test("what would go past the bounds of the pipeline is refused, and the rest goes on")
    func full() throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            for number in 0..<4 {
                _ = side.readCommand()
                side.send(":\(number)\r\n")
            }
            side.waitForHangUp()
        }
        var settings = server.settings
        settings.pipelineDepthMax = 3
        settings.pipelineBytesMax = 1000
        let client = try Client(settings)
        #expect(client.becomesReady())
        let outcomes = (0..<5).map { _ in Outcome() }
        client.perform { redis in
            let blob = [UInt8](repeating: 0, count: 1000)
            redis.send(RedisCommand("SET").add(blob), outcomes[4].receive)
            for outcome in outcomes[..<4] { redis.send(RedisCommand("INCR"), outcome.receive) }
        }
        #expect(outcomes[..<3].map(\.reply) == [.integer(0), .integer(1), .integer(2)])
        #expect(outcomes[3].error?.code == .pipelineFull)
        #expect(outcomes[4].error?.code == .commandTooLarge)
        #expect(outcomes[4].error?.isRetriable == false)
        #expect(client.send(RedisCommand("INCR")).reply == .integer(3))
    }

    @Test(
        "a primary that has become a replica is left, so that its name is looked up again",
        arguments: ["READONLY You can't write against a read only replica.", "MASTERDOWN Link"])
    func failover(reply: String) throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                _ = side.readCommand()
                _ = side.readCommand()
                side.send("-\(reply)\r\n")
                side.waitForHangUp()
            },
            { side in
                side.answerHandshake()
                while !side.readCommand().isEmpty { side.send("+OK\r\n") }
            })
        var settings = server.settings
        settings.address = .tcp(host: "localhost", port: server.port)
        let client = try Client(settings)
        #expect(client.becomesReady())
        let outcomes = [Outcome(), Outcome()]
        client.perform { redis in
            for outcome in outcomes { redis.send(RedisCommand("SET"), outcome.receive) }
        }
        let first = try #require(outcomes[0].error)
        #expect(first.code == .readOnly || first.code == .masterDown)
        #expect(!first.mayHaveExecuted)
        #expect(outcomes[1].error?.code == .connectionLost)
        #expect(client.becomesReady(times: 2))
        #expect(client.send(RedisCommand("SET")).reply == .simple("OK"))
    }

    @Test("a server that is still loading is asked again until it serves")
    func loading() throws {
        let server = try ScriptedServer(
            { side in
                _ = side.readCommand()
                side.send("-LOADING Redis is loading the dataset in memory\r\n")
                side.waitForHangUp()
            },
            { side in
                side.answerHandshake()
                side.waitForHangUp()
            })
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        #expect(client.timesWaiting == 1)
    }

    @Test("a server that never answers the handshake does not hold the connection for ever")
    func deafServer() throws {
        let server = try ScriptedServer(
            { $0.waitForHangUp() },
            { side in
                side.answerHandshake()
                side.waitForHangUp()
            })
        var settings = server.settings
        settings.connectTimeout = .milliseconds(100)
        let client = try Client(settings)
        #expect(client.becomesReady())
        #expect(client.log.contains("not ready within 100 ms"))
    }

    @Test("stopping fails what waits, and a completion may itself stop or send")
    func stopping() throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            while !side.readCommand().isEmpty { side.send("+OK\r\n") }
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let waiting = Outcome()
        let afterStop = Outcome()
        client.perform { redis in
            redis.send(RedisCommand("GET")) { _ in
                redis.stop()
                redis.send(RedisCommand("GET"), afterStop.receive)
            }
            redis.send(RedisCommand("GET"), waiting.receive)
        }
        #expect(waiting.error?.code == .closed)
        #expect(waiting.error?.isRetriable == false)
        #expect(afterStop.error?.code == .notConnected)
        #expect(client.allStates.last == .stopped)
        client.perform { $0.start() }
        #expect(client.becomesReady(times: 2))
        #expect(client.send(RedisCommand("GET")).reply == .simple("OK"))
        #expect(waiting.timesTold == 1)
    }

    @Test("a completion that sends again while everything fails is refused, not lost")
    func resendWhileFailing() throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                _ = side.readCommand()
            }, { $0.waitForHangUp() })
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let again = Outcome()
        client.perform { redis in
            redis.send(RedisCommand("GET")) { _ in redis.send(RedisCommand("GET"), again.receive) }
        }
        #expect(again.error?.code == .notConnected)
        #expect(again.timesTold == 1)
    }

    @Test("an idle connection whose peer has gone silent is found out")
    func idle() throws {
        let server = try ScriptedServer(
            { side in
                side.answerHandshake()
                side.answerHandshake()
                side.waitForHangUp()
            },
            { side in
                side.answerHandshake()
                side.waitForHangUp()
            })
        var settings = server.settings
        settings.idlePingInterval = .milliseconds(20)
        settings.commandTimeout = .milliseconds(200)
        let client = try Client(settings)
        #expect(client.becomesReady(times: 2))
    }

    @Test("where nothing listens, and where a name means nothing, attempts go on")
    func nowhere() throws {
        let listener = try StreamSocket.listen(
            on: .loopback(port: 0), backlog: 1, sharesPort: false)
        let port = try StreamSocket.localAddress(of: listener.number).port!
        try listener.close()
        for host in ["127.0.0.1", "no such host"] {
            var settings = RedisSettings(address: .tcp(host: host, port: port))
            settings.reconnectDelayMax = .milliseconds(50)
            let client = try Client(settings)
            #expect(eventually { client.timesWaiting >= 3 })
            #expect(client.log.components(of: "cannot connect").count == 1)
        }
    }
}

extension String {
    /// The places where `part` occurs.
    fileprivate func components(of part: String) -> [String.Index] {
        indices.filter { self[$0...].hasPrefix(part) }
    }
}
