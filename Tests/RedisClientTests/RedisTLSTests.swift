// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import PosixIO
import RedisClient
import TLSEngine
import Testing

/// Against a real redis-server of the test's own, over TLS.
@Suite("Redis connection over TLS", .timeLimit(.minutes(2)))
struct RedisTLSTests {
    private let authority: TestAuthority
    private let server: RedisServerProcess
    private let port: UInt16

    init() throws {
        authority = try TestAuthority()
        let identity = try authority.issue("redis")
        port = try #require(FreePort.choose())
        server = try RedisServerProcess(
            password: "hunter2",
            arguments: [
                "--tls-port", "\(port)", "--tls-cert-file", identity.certificateFile,
                "--tls-key-file", identity.keyFile, "--tls-ca-cert-file",
                authority.certificateFile, "--tls-auth-clients", "no",
            ])
    }

    private func settings(
        host: String = "localhost", _ tls: TLSClientSettings? = nil
    ) throws -> RedisSettings {
        var settings = RedisSettings(
            url: try RedisURL("rediss://:hunter2@\(host):\(port)/3"))
        var trust = TLSClientSettings()
        trust.authorityFile = authority.certificateFile
        settings.tls = try TLSClientContext(tls ?? trust)
        settings.commandTimeout = .seconds(10)
        settings.connectTimeout = .seconds(10)
        settings.reconnectDelayMax = .milliseconds(100)
        return settings
    }

    @Test("commands and replies of all sizes go through", arguments: ["localhost", "127.0.0.1"])
    func sizes(host: String) throws {
        let client = try Client(try settings(host: host))
        #expect(client.becomesReady())
        for size in [0, 1, 16_384, 16_385, 5_000_000] {
            let value = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
            #expect(
                client.send(RedisCommand("SET").add("k").add(value)).reply == .simple("OK"))
            let isSame = client.send(RedisCommand("GET").add("k")).reply == .bulk(value)
            #expect(isSame, "\(size) bytes")
        }
        let outcomes = (0..<2000).map { client.send(RedisCommand("ECHO").add("\($0)")) }
        for (index, outcome) in outcomes.enumerated() {
            #expect(outcome.reply == bulk("\(index)"))
        }
    }

    @Test("the connection comes back after the server was killed")
    func reconnect() throws {
        let client = try Client(try settings())
        #expect(client.becomesReady())
        try server.restart()
        #expect(client.becomesReady(times: 2))
        #expect(client.send(RedisCommand("ECHO").add("again")).reply == bulk("again"))
    }

    @Test("a server that cannot prove who it is gets no password")
    func strangers() throws {
        let stranger = try TestAuthority()
        var other = TLSClientSettings()
        other.authorityFile = stranger.certificateFile
        let distrusting = try Client(try settings(other))
        #expect(eventually { distrusting.timesWaiting >= 2 })
        #expect(distrusting.timesReady == 0)
        #expect(distrusting.log.contains("certificateRejected"))
        #expect(distrusting.metrics.contains("rivulet_redis_errors_total{code=\"tlsFailed\"}"))

        // The certificate is for localhost and 127.0.0.1, which this is another name of.
        let misnamed = try Client(try settings(host: "127.1.0.1"))
        #expect(eventually { misnamed.timesWaiting >= 1 })
        #expect(misnamed.timesReady == 0)

        other.verifiesServer = false
        let careless = try Client(try settings(other))
        #expect(careless.becomesReady())
    }

    @Test("TLS to a plain port fails in words, and TLS without trust is never plain")
    func mistakes() throws {
        var wrongPort = try settings()
        wrongPort.address = .tcp(host: "localhost", port: server.port)
        wrongPort.connectTimeout = .milliseconds(300)
        let client = try Client(wrongPort)
        #expect(eventually { client.timesWaiting >= 1 })
        #expect(client.timesReady == 0)

        var untrusting = try settings()
        untrusting.tls = nil
        let silent = try Client(untrusting)
        #expect(eventually { silent.timesWaiting >= 1 })
        #expect(silent.timesReady == 0 && silent.log.contains("settingInvalid"))
    }
}
