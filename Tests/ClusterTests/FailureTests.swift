// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import PosixIO
import Testing

extension Cluster {
    @Suite("survives", .serialized)
    struct Failure {
        private static let subscribers = 100

        /// The sum of the partitions that the running nodes read.
        private func partitions(of cluster: TestCluster) -> Int {
            cluster.nodes.reduce(0) { sum, node in
                sum + (node.hasEnded ? 0 : node.health()?.partitions ?? 0)
            }
        }

        @Test("the death of a node: no client loses or repeats an event, and it comes back")
        func deathOfANode() throws {
            let cluster = try TestCluster(nodes: 3)
            try #require(cluster.waitUntilShared(), "\(cluster.diagnosis)")
            let whole = partitions(of: cluster)
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: Self.subscribers, path: Cluster.detections, targets: cluster.ports)
            try #require(clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: 200)
            try #require(clients.waitForEvents(50, within: .seconds(20)), "\(cluster.diagnosis)")

            let victim = cluster.nodes[1]
            victim.kill()
            #expect(
                clients.waitUntilStreaming(within: .seconds(10)),
                "clients find another node: \(clients.progress)")
            #expect(
                Waiting.until(within: .seconds(40)) { partitions(of: cluster) == whole },
                "survivors read all \(whole) partitions: \(partitions(of: cluster))")

            victim.start()
            try victim.waitUntilReady()
            #expect(
                Waiting.until(within: .seconds(40)) { (victim.health()?.partitions ?? 0) > 0 },
                "a node that is back gets partitions back")

            try producer.stopPace()
            let arrived = clients.waitForEvents(producer.count, within: .seconds(30))
            #expect(arrived, "\(producer.count) events published, \(clients.progress)")
            Verdict.onWholeRun(clients.stop(), count: producer.count).demandClean(cluster)
        }

        @Test("Kafka and Redis that come up after the node")
        func lateDependencies() throws {
            let redis = try RedisServerProcess()
            redis.kill()
            let kafka = try DevKafkaProcess()
            let port = try #require(FreePort.choose())
            let node = try NodeProcess(
                id: "early", redisURL: "redis://127.0.0.1:\(redis.port)/0",
                kafka: ["127.0.0.1:\(port)"])
            node.start()
            #expect(
                Waiting.until(within: .seconds(10)) { node.health() != nil },
                "the node answers without Redis and Kafka: \(node.logEnd)")
            #expect(!node.isReadyNow, "a node without history is not ready")

            try redis.start()
            let broker = try #require(
                kafka.bootstrapServers[0].split(separator: ":").last.flatMap { UInt16($0) })
            let relay = try LoopbackRelay(from: port, to: broker)
            try node.waitUntilReady(within: .seconds(30))
            let client = SubscriberSet(count: 1, path: Cluster.detections, targets: [node.port])
            try #require(client.waitUntilStreaming(within: .seconds(10)), "\(node.logEnd)")
            let producer = try EventProducer(bootstrapServers: kafka.bootstrapServers)
            try producer.publish(1000)
            #expect(
                client.waitForEvents(1000, within: .seconds(40)),
                "\(client.progress)\n\(node.logEnd)")
            let verdict = Verdict.onWholeRun(client.stop(), count: 1000)
            #expect(verdict.isClean, "\(verdict)\n\(node.logEnd)")
            withExtendedLifetime(relay) {}
        }
    }
}
