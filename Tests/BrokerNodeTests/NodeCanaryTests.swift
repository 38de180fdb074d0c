// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import BrokerTestKit
import ClusterHarness
import KafkaClient
import NodeConfiguration
import PosixIO
import Testing

/// Two nodes in this process; the second one reaches Redis through a network that can be made bad.
private final class Pair {
    let redis: RedisServerProcess
    let kafka: KafkaMockCluster
    let relay: LoopbackRelay
    private var nodes: [BrokerNode] = []
    private(set) var ports: [UInt16] = []

    init() throws {
        redis = try RedisServerProcess()
        kafka = try KafkaMockCluster(brokers: 1, log: NodeBench.quiet)
        for topic in ["its.detections", "rivulet.dead-letter", "rivulet.canary"] {
            try kafka.createTopic(topic, partitions: 2)
        }
        let port = try #require(FreePort.choose())
        relay = try LoopbackRelay(from: port, to: redis.port)
        for (index, redisPort) in [redis.port, port].enumerated() {
            var configuration = Configuration()
            configuration.node.id = "node-\(index + 1)"
            configuration.server.listen = ["127.0.0.1:0"]
            configuration.server.loops = 1
            configuration.cluster.renewal = .milliseconds(100)
            configuration.cluster.lease = .milliseconds(400)
            configuration.redis.url = "redis://127.0.0.1:\(redisPort)/0"
            configuration.redis.timeout = .milliseconds(800)
            configuration.kafka.bootstrapServers = kafka.bootstrapServers
            configuration.kafka.sessionTimeout = .seconds(6)
            configuration.kafka.fetchWaitMax = .milliseconds(5)
            configuration.telemetry.enabled = false
            configuration.canary.interval = .milliseconds(100)
            configuration.canary.staleAfter = .milliseconds(1500)
            let node = try BrokerNode(configuration: configuration, log: NodeBench.quiet)
            nodes.append(node)
            try node.start()
            ports.append(try #require(node.addresses.first?.port))
        }
    }

    func stop() { for node in nodes { node.stop() } }

    /// What both nodes say at `/readyz`.
    func look() -> [(status: Int, text: String)] {
        ports.map { port in
            let answer = try? get("/readyz", port)
            return (answer?.status ?? 0, answer?.text ?? "")
        }
    }

    /// Waits until both nodes' answers satisfy `condition`; false where the first or `everybody`
    /// was ever told not to be ready meanwhile.
    func becomes(
        everybodyReady: Bool = false, _ condition: ([(status: Int, text: String)]) -> Bool
    ) -> Bool {
        var isGood = true
        let holds = Waiting.until(within: .seconds(40)) {
            let answers = look()
            if answers[0].status != 200 { isGood = false }
            if everybodyReady, answers[1].status != 200 { isGood = false }
            return condition(answers)
        }
        return holds && isGood
    }
}

@Suite("Canaries of real nodes", .serialized, .timeLimit(.minutes(3)))
struct NodeCanaryTests {
    private static let fresh = "\"verdict\":\"fresh\""

    /// Goal: a balancer takes out exactly the sick node, and nobody in an outage of all. Method:
    /// first one node of two has a Redis whose answers take long, then one that says nothing, with
    /// the sockets open; then Redis stops for both.
    @Test(
        "who alone is cut off from Redis is unready; where Redis is slow, or away for all, nobody")
    func oneAndAll() throws {
        let pair = try Pair()
        defer { pair.stop() }
        try #require(
            Waiting.until(within: .seconds(40)) {
                pair.look().allSatisfy { $0.status == 200 && $0.text.contains(Self.fresh) }
            }, "\(pair.look())")

        slowRedis(pair)
        pair.relay.condition = .silent
        #expect(
            pair.becomes { $0[1].status == 503 && $0[1].text.contains("\"status\":\"unready\"") },
            "\(pair.look())")
        #expect(pair.look()[1].text.contains("other nodes receive what this one does not"))
        pair.relay.condition = .open
        #expect(
            pair.becomes { $0.allSatisfy { $0.status == 200 && $0.text.contains(Self.fresh) } },
            "\(pair.look())")

        pair.redis.pause()
        let stale = "\"verdict\":\"stale\""
        #expect(
            pair.becomes(everybodyReady: true) { $0.allSatisfy { $0.text.contains(stale) } },
            "\(pair.look())")
        // For longer than it took to find the sick one.
        let began = MonotonicTime.now
        #expect(
            pair.becomes(everybodyReady: true) { _ in
                MonotonicTime.now - began > .milliseconds(3500)
            })
        pair.redis.resume()
        #expect(
            pair.becomes(everybodyReady: true) {
                $0.allSatisfy { $0.text.contains("\"status\":\"ready\"") }
            }, "\(pair.look())")
    }

    /// It is said to be slow, and no loop stands still.
    private func slowRedis(_ pair: Pair) {
        pair.relay.condition = .slow(.milliseconds(300))
        #expect(
            pair.becomes { $0[1].status == 200 && $0[1].text.contains("\"redis\":\"slow\"") },
            "\(pair.look())")
        let loops = pair.look()[1].text.components(separated: "\"loop ")
        #expect(loops.count == 5, "one to serve, ingest, tail, cluster")
        #expect(loops.dropFirst().allSatisfy { $0.contains("\"state\":\"running\"") })
    }
}

extension String {
    fileprivate func components(separated mark: String) -> [Substring] {
        var parts: [Substring] = []
        var rest = self[...]
        while let range = rest.firstRange(of: mark) {
            parts.append(rest[..<range.lowerBound])
            rest = rest[range.upperBound...]
        }
        return parts + [rest]
    }
}
