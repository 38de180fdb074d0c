// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import HTTP1Wire
import KafkaClient
import NodeConfiguration
import PosixIO
import Testing

@testable import BrokerNode

@Suite("The limits of a node", .serialized)
struct LimitNodeTests {
    private static let path = "/api/v1/sse/detections"

    /// The profile that docs/operating/camera-wall.yaml is.
    private static func profile() throws -> Configuration {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        let path = root.joined(separator: "/") + "/docs/operating/camera-wall.yaml"
        let descriptor = unsafe open(path, O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        return try Configuration.parse(Array(bytes.prefix(max(0, count))), name: path)
    }

    @Test("the first seed's figures hold: 200 viewers, 10 events a second, 50 for who asks")
    func cameraWall() throws {
        let profile = try Self.profile()
        let bench = try NodeBench()
        let port = try bench.start {
            $0.limits = profile.limits
            $0.server.stuckTimeout = profile.server.stuckTimeout
            $0.server.idleTimeout = profile.server.idleTimeout
        }
        defer { bench.stop() }
        try #require(Waiting.until(within: .seconds(20)) { isReady(port) })
        let storm = ConnectionStorm(path: Self.path)
        storm.attempt(198, at: [port])
        try #require(Waiting.until(within: .seconds(20)) { storm.tally.areAllAnswered })
        #expect(storm.tally.admitted == 198, "\(storm.tally)")
        // A page and a head are no viewers.
        #expect(try get("/healthz", port).status == 200)
        let head = try LoopbackHTTP.exchange(
            Array("HEAD \(Self.path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8),
            port: port, within: .seconds(5))
        #expect(head.text.hasPrefix("HTTP/1.1 200 "))
        let refused = try get(Self.path + "?events_per_second=51", port)
        #expect(refused.status == 400)
        #expect(refused.text.contains("a whole number from 1 to 50"))

        let calm = SubscriberSet(count: 1, path: Self.path, targets: [port])
        let eager = SubscriberSet(
            count: 1, path: Self.path + "?events_per_second=50", targets: [port])
        for one in [calm, eager] {
            try #require(one.waitUntilStreaming(within: .seconds(20)))
        }
        storm.attempt(1, at: [port])
        try #require(Waiting.until(within: .seconds(20)) { storm.tally.areAllAnswered })
        #expect(storm.tally.refused == [503: 1], "\(storm.tally)")
        #expect(storm.tally.lastRefusal.contains("\"maximum\":200"))

        // One that is admitted has its part of the cluster's rate a moment later.
        let producer = try EventProducer(
            bootstrapServers: bench.kafka.bootstrapServers, partitions: 2)
        producer.startPace(perSecond: 100)
        let isTold = Waiting.until(within: .seconds(40)) {
            calm.progress.totalEvents >= 4 && eager.progress.totalEvents >= 4
        }
        #expect(isTold, "\(calm.progress) \(eager.progress)")
        try producer.stopPace()
        let published = producer.count
        let records = [calm.stop()[0], eager.stop()[0]]
        for record in records {
            #expect(record.receipts.count < published)
            #expect(record.complaints.allSatisfy { $0.hasPrefix("rate_limited") })
            #expect(!record.complaints.isEmpty)
        }
        // Those who went made room.
        storm.attempt(2, at: [port])
        #expect(
            Waiting.until(within: .seconds(20)) { storm.tally.open == 200 }, "\(storm.tally)")
    }

    @Test("a WebSocket is a connection like any other, and counts its events together")
    func webSocket() throws {
        let bench = try NodeBench()
        let port = try bench.start {
            $0.limits.clusterConnections = 1
            $0.limits.onLimit = .shed
        }
        defer { bench.stop() }
        try #require(Waiting.until(within: .seconds(20)) { isReady(port) })
        let handshake =
            "HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        let producer = try EventProducer(
            bootstrapServers: bench.kafka.bootstrapServers, partitions: 2)
        producer.startPace(perSecond: 50)
        let seen = try LoopbackHTTP.exchange(
            Array("GET /ws?channel=detections&events_per_second=2 \(handshake)".utf8), port: port,
            within: .seconds(4))
        try producer.stopPace()
        #expect(seen.text.hasPrefix("HTTP/1.1 101 "))
        #expect(seen.text.contains("{\"type\":\"rate_limited\",\"data\":{\"count\":"))
        let storm = ConnectionStorm(path: Self.path)
        storm.attempt(1, at: [port])
        #expect(Waiting.until(within: .seconds(20)) { storm.tally.open == 1 }, "it made room")
        let answer = try LoopbackHTTP.exchange(
            Array("GET /ws \(handshake)".utf8), port: port, within: .seconds(2)
        ).text
        #expect(answer.hasPrefix("HTTP/1.1 503 "), "\(answer)")
        #expect(answer.contains("limits.cluster_connections"))
    }

    @Test("the connections of one client share its rate, another client has its own")
    func clientRate() throws {
        let bench = try NodeBench()
        let port = try bench.start {
            $0.limits.principalEventRate = 20
            $0.limits.onLimit = .shed
            $0.server.trustedProxies = ["127.0.0.1"]
        }
        defer { bench.stop() }
        try #require(Waiting.until(within: .seconds(20)) { isReady(port) })
        let clients = SubscriberSet(count: 4, path: Self.path, targets: [port])
        try #require(clients.waitUntilStreaming(within: .seconds(20)))
        let producer = try EventProducer(
            bootstrapServers: bench.kafka.bootstrapServers, partitions: 2)
        producer.startPace(perSecond: 100)
        try #require(
            Waiting.until(within: .seconds(40)) { clients.progress.fewestEvents >= 2 },
            "\(clients.progress)")
        // Another client, by what the proxy says, gets everything that 20 a second are.
        let other = try LoopbackHTTP.exchange(
            Array(
                "GET \(Self.path) HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.4\r\n\r\n".utf8
            ),
            port: port, within: .seconds(3)
        ).text
        let before = clients.progress.totalEvents
        let began = MonotonicTime.now
        _ = Waiting.until(within: .seconds(2)) { false }
        let span = (MonotonicTime.now - began).inSeconds
        let count = clients.progress.totalEvents - before
        try producer.stopPace()
        #expect(Double(count) <= (span + 0.3) * 20, "\(count) in \(span) s")
        #expect(other.contains("event: "))
        #expect(other.contains("\"causes\":{\"principal\":"))
        #expect(clients.stop().allSatisfy { $0.complaints.contains { $0.contains("principal") } })
    }

    @Test("Redis away: the node's own part is given out, and then the answer names Redis")
    func redisAway() throws {
        let bench = try NodeBench()
        let port = try bench.start {
            $0.limits.clusterConnections = 100
            $0.redis.timeout = .milliseconds(500)
        }
        defer { bench.stop() }
        try #require(Waiting.until(within: .seconds(20)) { isReady(port) })
        let storm = ConnectionStorm(path: Self.path)
        storm.attempt(10, at: [port])
        try #require(Waiting.until(within: .seconds(20)) { storm.tally.open == 10 })
        bench.redis.kill()
        storm.attempt(200, at: [port])
        #expect(
            Waiting.until(within: .seconds(20)) { storm.tally.areAllAnswered }, "\(storm.tally)")
        #expect(storm.tally.open < 100 && storm.tally.open >= 10, "\(storm.tally)")
        #expect(storm.tally.lastRefusal.contains("Redis"), "\(storm.tally)")
        try bench.redis.restart()
        #expect(
            Waiting.until(within: .seconds(30)) {
                if storm.tally.areAllAnswered { storm.attempt(10, at: [port]) }
                return storm.tally.open == 100
            }, "\(storm.tally)")
        #expect(storm.tally.mostOpen == 100)
    }
}
