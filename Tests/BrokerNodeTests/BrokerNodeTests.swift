// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import BrokerTestKit
import ClusterHarness
import HTTP1Wire
import KafkaClient
import NodeConfiguration
import Observability
import PosixIO
import Testing

/// One node in this process, with a redis-server and the mock cluster of its own.
final class NodeBench: Sendable {
    let redis: RedisServerProcess
    let kafka: KafkaMockCluster
    private let node = Lock<Holder?>(nil)

    // The node belongs to the thread that started it; the tests use one thread at a time.
    private final class Holder: @unchecked Sendable {
        // @unchecked: only reached while the lock is held.
        let node: BrokerNode
        init(_ node: BrokerNode) { self.node = node }
    }

    init(redisArguments: [String] = []) throws {
        redis = try RedisServerProcess(arguments: redisArguments)
        kafka = try KafkaMockCluster(brokers: 1, log: Self.quiet)
        let topics = [
            "its.detections", "its.system.metrics", "rivulet.dead-letter", "rivulet.canary",
        ]
        for topic in topics {
            try kafka.createTopic(topic, partitions: 2)
        }
    }

    static let quiet = Logger("test", lowest: .error) { _ in }

    func start(_ adjust: (inout Configuration) -> Void = { _ in }) throws -> UInt16 {
        var configuration = Configuration()
        configuration.node.id = "node-under-test"
        configuration.server.listen = ["127.0.0.1:0"]
        configuration.server.loops = 2
        configuration.server.drain = .seconds(5)
        configuration.server.drainNotice = .zero
        configuration.redis.url = "unix://\(redis.socketPath)"
        configuration.kafka.bootstrapServers = kafka.bootstrapServers
        configuration.kafka.sessionTimeout = .seconds(6)
        configuration.kafka.fetchWaitMax = .milliseconds(5)
        configuration.telemetry.interval = .milliseconds(100)
        adjust(&configuration)
        let broker = try BrokerNode(configuration: configuration, log: Self.quiet)
        try broker.start()
        let listening = broker.addresses + broker.encryptedAddresses
        let port = try #require(listening.first?.port)
        let holder = Holder(broker)
        node.withLock { $0 = holder }
        return port
    }

    func stop() { node.withLock { $0?.node.stop() } }

    func whenAskedToStop(_ body: @escaping @Sendable () -> Void) {
        node.withLock { $0?.node.whenAskedToStop(body) }
    }

    func reload() { node.withLock { $0?.node.reload() } }
}

func get(_ target: String, _ port: UInt16, _ headers: [(String, String)] = []) throws
    -> HTTPAnswer
{
    var fields = HTTPHeaders()
    for (name, value) in headers {
        switch name {
        case "Last-Event-ID": fields.append("Last-Event-ID", value)
        default: Issue.record("this test sends no \(name)")
        }
    }
    return try LoopbackHTTP.get(target, port: port, headers: fields)
}

func isReady(_ port: UInt16) -> Bool { (try? get("/readyz", port).status) == 200 }

@Suite("Broker node", .serialized)
struct BrokerNodeTests {
    @Test("a node whose Redis is away listens, says so, and comes up when it is back")
    func redisAway() throws {
        let bench = try NodeBench()
        bench.redis.kill()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(try get("/healthz", port).status == 200)
        let ready = try get("/readyz", port)
        #expect(ready.status == 503)
        #expect(ready.text.contains("\"status\":\"starting\""))
        let stream = try get("/api/v1/sse/system", port)
        #expect(stream.status == 503)
        #expect(stream.headers.first("Retry-After") != nil)
        try bench.redis.restart()
        let cameUp = Waiting.until(within: .seconds(20)) { isReady(port) }
        #expect(cameUp)
    }

    @Test("bad requests get a problem that names what was wrong")
    func problems() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let cases: [(target: String, status: Int, holds: String)] = [
            ("/nowhere", 404, "/api/v1/sse/{channel}"),
            ("/api/v1/sse/nothing", 404, "\"accepted\":[\"cameras\""),
            ("/api/v1/sse/cameras?colour=red", 400, "\"parameter\":\"colour\""),
            ("/api/v1/sse/cameras?min_confidence=high", 400, "\"given\":\"high\""),
            ("/api/v1/sse/cameras?camera_ids=", 400, "empty value"),
            ("/api/v1/sse/cameras?last_event_id=abc", 400, "\"given\":\"abc\""),
            ("/api/v1/sse/cameras?last_event_id=1-2-3", 400, "Malformed event ID"),
            ("/sse/events?channels=cameras,nothing", 404, "\"given\":\"nothing\""),
            ("/sse/events?zones=a", 400, "\"accepted\":[\"channels\""),
        ]
        for entry in cases {
            let answer = try get(entry.target, port)
            #expect(answer.status == entry.status, "\(entry.target)")
            #expect(answer.headers.first("Content-Type") == "application/problem+json")
            let holds = answer.text.contains(entry.holds)
            #expect(holds, "\(entry.target): \(answer.text)")
        }
        let header = try get("/api/v1/sse/cameras", port, [("Last-Event-ID", "-5")])
        #expect(header.status == 400)
        #expect(header.text.contains("\"parameter\":\"Last-Event-ID\""))
    }

    @Test("the pages tell what is there")
    func pages() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let channels = try get("/api/v1/channels", port).text
        #expect(channels.contains("\"name\":\"cameras\""))
        #expect(channels.contains("\"parameter\":\"min_confidence\""))
        #expect(channels.contains("\"patterns\":[\"events.*\"]"))
        let metrics = try get("/metrics", port)
        #expect(
            metrics.text.contains(
                "rivulet_info{version=\"\(Rivulet.version)\",node=\"node-under-test\"} 1"))
        #expect(metrics.text.contains("rivulet_subscribers{loop=\"serve-1\"} 0"))
        #expect(try get("/api/v1/sse/health", port).text.contains("\"service_status\":\"healthy\""))
        #expect(try get("/", port).text.contains("\"name\":\"rivulet\""))
    }

    @Test("the node's own telemetry reaches a client through Kafka and Redis, and a drain ends it")
    func telemetry() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let request = "GET /api/v1/sse/system?nodes=node-under-test HTTP/1.1\r\nHost: x\r\n\r\n"
        let received = Lock("")
        let client = NamedThread("client") {
            // The stream ends when the node drains.
            let exchange = try? LoopbackHTTP.exchange(
                Array(request.utf8), port: port, within: .seconds(30))
            guard let exchange, case .closed = exchange.end else { return }
            let text = exchange.text
            received.withLock { $0 = text }
        }
        let flowed = Waiting.until(within: .seconds(20)) {
            let text = (try? get("/metrics", port).text) ?? ""
            return text.contains("rivulet_events_delivered_total{loop=\"serve-0\"} ")
                && !(text.contains("rivulet_events_delivered_total{loop=\"serve-0\"} 0\n")
                    && text.contains("rivulet_events_delivered_total{loop=\"serve-1\"} 0\n"))
        }
        #expect(flowed)
        bench.stop()
        #expect(client.join(within: .seconds(10)))
        let text = received.withLock { $0 }
        #expect(text.contains("event: system_update\n"))
        #expect(text.contains("\"event_type\":\"resource_usage\""))
        // One at the beginning, one before the planned end.
        #expect(text.ranges(of: "retry: ").count == 2)
        #expect(text.hasSuffix("\n"))
    }

    @Test("a port that another process has is named")
    func portInUse() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        let other = try NodeBench()
        #expect {
            _ = try other.start { $0.server.listen = ["127.0.0.1:\(port)"] }
        } throws: { error in
            "\(error)".contains("127.0.0.1:\(port) is in use")
        }
    }
}
