// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO
import Testing

extension Cluster {
    @Suite("reads on", .serialized)
    struct Orphans {
        private static let clients = 30

        /// Events of every partition, and how long they take to reach every client.
        private func round(
            _ producer: EventProducer, _ clients: SubscriberSet, within limit: Duration
        ) throws -> Duration? {
            let began = MonotonicTime.now
            try producer.publish(48)
            return clients.waitForEvents(producer.count, within: limit)
                ? MonotonicTime.now - began : nil
        }

        /// Goal: after a kill -9 the survivors read the dead node's partitions long before Kafka
        /// would. Method: Kafka is told to wait for a minute, so what arrives before that arrived
        /// by the survivors. A start that went wrong takes as long to be noticed, and is no fault
        /// of what is tested here.
        @Test("after a node was killed, before Kafka has noticed")
        func death() throws {
            let cluster = try TestCluster(nodes: 3, settings: ["kafka.session_timeout": "60s"])
            try #require(
                cluster.waitUntilShared(within: .seconds(120)), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let survivors = [cluster.ports[0], cluster.ports[2]]
            let clients = SubscriberSet(
                count: Self.clients, path: Cluster.detections, targets: survivors)
            try #require(clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            _ = try #require(try round(producer, clients, within: .seconds(20)))

            cluster.nodes[1].kill()
            let silence = try round(producer, clients, within: .seconds(30))
            #expect(silence != nil, "\(clients.progress)\n\(cluster.diagnosis)")
            let read = [0, 2].map { cluster.nodes[$0].metric("rivulet_ingest_orphans") }
            #expect(read.reduce(0, +) > 0, "survivors read orphans: \(read)")
            let page = try LoopbackHTTP.get("/cluster", port: survivors[0], within: .seconds(5))
            #expect(page.text.contains("\"state\":\"unreachable\""), "\(page.text)")
            Verdict.onWholeRun(clients.stop(), count: producer.count).demandClean(cluster)
        }

        /// Goal: a node that slept while others read its partitions does no harm when it wakes.
        @Test("while a node is paused, and it comes back without a repeat")
        func pause() throws {
            let cluster = try TestCluster(nodes: 3)
            try #require(cluster.waitUntilShared(), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: Self.clients, path: Cluster.detections,
                targets: [cluster.ports[0], cluster.ports[2]])
            try #require(clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            _ = try #require(try round(producer, clients, within: .seconds(20)))
            cluster.nodes[1].pause()
            _ = try #require(
                try round(producer, clients, within: .seconds(30)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: 200)
            // Long enough that the group has put it out as well.
            let isOut = Waiting.until(within: .seconds(60)) {
                [0, 2].reduce(0) { $0 + (cluster.nodes[$1].health()?.partitions ?? 0) } >= 24
                    && [0, 2].allSatisfy {
                        cluster.nodes[$0].metric("rivulet_ingest_orphans") == 0
                    }
            }
            #expect(isOut, "\(cluster.diagnosis)")
            cluster.nodes[1].resume()
            #expect(
                Waiting.until(within: .seconds(60)) {
                    (cluster.nodes[1].health()?.partitions ?? 0) > 0
                }, "\(cluster.diagnosis)")
            try producer.stopPace()
            #expect(
                clients.waitForEvents(producer.count, within: .seconds(30)),
                "\(producer.count) published, \(clients.progress)")
            Verdict.onWholeRun(clients.stop(), count: producer.count).demandClean(cluster)
        }

        /// A measurement: CLUSTER_KILLS says how often a node is killed, and how long its
        /// partitions were silent at the clients is printed. CLUSTER_KILLS_LEASE sets another
        /// lease, for comparison with Kafka alone.
        @Test("and how long that takes", .enabled(if: kills != nil))
        func measure() throws {
            var settings = ["kafka.session_timeout": "6s"]
            if let lease = unsafe getenv("CLUSTER_KILLS_LEASE") {
                settings["cluster.lease"] = unsafe String(cString: lease)
            }
            let cluster = try TestCluster(nodes: 3, settings: settings)
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: Self.clients, path: Cluster.detections,
                targets: [cluster.ports[0], cluster.ports[2]])
            for number in 1...(kills ?? 1) {
                try #require(cluster.waitUntilShared(within: .seconds(60)), "\(cluster.diagnosis)")
                _ = try #require(try round(producer, clients, within: .seconds(60)))
                cluster.nodes[1].kill()
                let silence = try round(producer, clients, within: .seconds(60))
                print("kill \(number): \(silence.map { "\($0.inSeconds)" } ?? "none") s")
                #expect(silence != nil, "\(cluster.diagnosis)")
                cluster.nodes[1].start()
                try cluster.nodes[1].waitUntilReady()
            }
            Verdict.onWholeRun(clients.stop(), count: producer.count).demandClean(cluster)
        }
    }
}

private var kills: Int? {
    unsafe getenv("CLUSTER_KILLS").flatMap { unsafe Int(String(cString: $0)) }
}
