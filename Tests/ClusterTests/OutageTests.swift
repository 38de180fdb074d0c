// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO
import Testing

extension Cluster {
    /// Goal: an outage of Redis or Kafka loses nothing and disconnects nobody, the node says what
    /// is wrong and stays ready, and it goes on by itself. By default one node and outages of a
    /// few seconds; CLUSTER_OUTAGE=30 makes it three nodes and so many seconds each, and prints how
    /// long after each outage every client had everything.
    @Suite("sits out", .serialized)
    struct Outage {
        private static let clients = 30

        private static let long = unsafe getenv("CLUSTER_OUTAGE").flatMap {
            unsafe Int(String(cString: $0))
        }

        private let length: Duration = .seconds(long ?? 3)

        /// A cluster with clients and a producer at work.
        private struct Stage {
            let cluster: TestCluster
            let producer: EventProducer
            let clients: SubscriberSet

            var node: NodeProcess { cluster.nodes[0] }

            init(_ nodes: Int) throws {
                cluster = try TestCluster(
                    nodes: nodes,
                    settings: [
                        // A group that forgets its members in an outage is the mock's way, not
                        // Kafka's, whose coordinator starts the clocks anew.
                        "kafka.session_timeout": "180s", "kafka.heartbeat_interval": "300ms",
                    ],
                    redisArguments: ["--appendonly", "yes", "--appendfsync", "everysec"])
                producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
                clients = SubscriberSet(
                    count: Outage.clients, path: Cluster.detections, targets: cluster.ports)
                try #require(
                    clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
                producer.startPace(perSecond: 200)
                try #require(
                    clients.waitForEvents(50, within: .seconds(40)), "\(cluster.diagnosis)")
            }

            /// Begins an outage, waits until the node says so and as long as it is to last, ends
            /// it, and waits until every client has all that was published until then.
            func sitOut(
                _ what: String, saying words: [String], for length: Duration,
                begin: () throws -> Void, end: () throws -> Void
            ) throws {
                let began = MonotonicTime.now
                try begin()
                let isSaid = Waiting.until(within: .seconds(20)) {
                    let readiness = node.readiness
                    return readiness.status == 200
                        && (["\"status\":\"degraded\""] + words).allSatisfy {
                            readiness.text.contains($0)
                        }
                }
                #expect(isSaid, "\(what): \(node.readiness)\n\(cluster.diagnosis)")
                _ = Waiting.until(within: length - (MonotonicTime.now - began)) { false }
                #expect(clients.progress.streaming == Outage.clients, "\(what)")
                let before = clients.progress.fewestEvents
                try end()
                let ended = MonotonicTime.now
                #expect(clients.waitForEvents(before + 1, within: .seconds(60)), "\(what)")
                let live = MonotonicTime.now - ended
                let published = producer.count
                let isThere = clients.waitForEvents(published, within: .seconds(60))
                #expect(isThere, "\(what): \(clients.progress) of \(published)")
                if long != nil {
                    let whole = MonotonicTime.now - ended
                    print(
                        "\(what) away for \((ended - began).inSeconds) s: events came again "
                            + "\(live.inSeconds) s later, every client had all \(published) "
                            + "after \(whole.inSeconds) s")
                }
                let isReady = Waiting.until(within: .seconds(20)) {
                    node.readiness.text.contains("\"status\":\"ready\"")
                }
                #expect(isReady, "\(what): \(node.readiness)\n\(cluster.diagnosis)")
            }

            /// Takes one broker away after the other, its partitions led by another meanwhile, and
            /// waits each time until every client has what was published with it away.
            func takeBrokersOneByOne() throws {
                for broker in 1...3 {
                    let other = broker % 3 + 1
                    try cluster.kafka.command("down \(broker)")
                    for partition in 0..<24 {
                        try cluster.kafka.command("leader its.detections \(partition) \(other)")
                    }
                    let isSaid = Waiting.until(within: .seconds(20)) {
                        node.readiness.text.contains("\"kafka\":\"partial\"")
                            && node.metric("rivulet_kafka_brokers", containing: "away") == 1
                    }
                    #expect(isSaid, "broker \(broker): \(node.readiness)")
                    let began = MonotonicTime.now
                    let published = producer.count
                    let isThere = clients.waitForEvents(published, within: .seconds(60))
                    #expect(isThere, "broker \(broker): \(clients.progress) of \(published)")
                    print(
                        "broker \(broker) away: every client had all \(published) events "
                            + "\((MonotonicTime.now - began).inSeconds) s after it was said")
                    try cluster.kafka.command("up \(broker)")
                    let isBack = Waiting.until(within: .seconds(20)) {
                        node.metric("rivulet_kafka_brokers", containing: "up") == 3
                    }
                    #expect(isBack, "broker \(broker): \(node.readiness)")
                }
            }

            /// Nobody lost, repeated or disconnected anything.
            func finish() throws {
                try producer.stopPace()
                let arrived = clients.waitForEvents(producer.count, within: .seconds(30))
                #expect(arrived, "\(producer.count) published, \(clients.progress)")
                let records = clients.stop()
                #expect(records.allSatisfy { $0.streams == 1 }, "\(records.map(\.streams))")
                Verdict.onWholeRun(records, count: producer.count).demandClean(cluster)
            }
        }

        @Test("a Redis that stands still, a Kafka without brokers, and a consumer that is fenced")
        func outages() throws {
            let stage = try Stage(Self.long == nil ? 1 : 3)
            let (redis, kafka) = (stage.cluster.redis, stage.cluster.kafka)
            try stage.sitOut(
                "Redis", saying: ["\"redis\":\"silent\"", "\"breaker\":\"open\""], for: length,
                begin: { redis.pause() }, end: { redis.resume() })
            #expect(stage.node.metric("rivulet_breaker_opens_total", containing: "redis") >= 1)
            try stage.sitOut(
                "Kafka", saying: ["\"kafka\":\"unreachable\"", "127.0.0.1:"], for: length,
                begin: { try kafka.command("down all") }, end: { try kafka.command("up all") })
            #expect(stage.node.metric("rivulet_breaker_opens_total", containing: "kafka") >= 1)
            // A member that is fenced never works again; another one takes its place.
            try kafka.command("error heartbeat fencedInstance")
            let isRestarted = Waiting.until(within: .seconds(20)) {
                stage.cluster.nodes.contains {
                    $0.metric("rivulet_component_restarts_total", containing: "ingest") == 1
                }
            }
            #expect(isRestarted, "\(stage.node.readiness)\n\(stage.cluster.diagnosis)")
            try stage.finish()
        }

        @Test(
            "brokers one by one, a Redis that is killed, a Kafka process that stands still",
            .enabled(if: long != nil))
        func longOutages() throws {
            let stage = try Stage(3)
            let (redis, kafka) = (stage.cluster.redis, stage.cluster.kafka)
            try stage.takeBrokersOneByOne()
            try stage.sitOut(
                "a killed Redis with AOF", saying: ["\"redis\":\"unreachable\""], for: length,
                begin: { redis.kill() }, end: { try redis.start() })
            try stage.sitOut(
                "a stopped Kafka", saying: ["\"kafka\":\"silent\""], for: length,
                begin: { kafka.process.pause() }, end: { kafka.process.resume() })
            try stage.finish()
        }
    }
}
