// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO
import Testing

extension Cluster {
    @Suite("is looked after", .serialized)
    struct Drills {
        /// Goal: a drain on request moves every client to the other node and loses nothing.
        @Test("a node drains on request, and its clients go on elsewhere")
        func drain() throws {
            let cluster = try TestCluster(nodes: 2)
            try #require(cluster.waitUntilShared(), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: 40, path: Cluster.detections, targets: cluster.ports)
            try #require(clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            try producer.publish(48)
            try #require(clients.waitForEvents(48, within: .seconds(20)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: 200)

            let answer = try LoopbackHTTP.exchange(
                Array(Drills.drainRequest.utf8), port: cluster.ports[0], within: .seconds(10))
            #expect(answer.text.hasPrefix("HTTP/1.1 202 "), "\(answer.text)")
            let end = cluster.nodes[0].waitForEnd(within: .seconds(30))
            #expect(end == .exited(0), "\(cluster.diagnosis)")
            #expect(clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            #expect(
                Waiting.until(within: .seconds(20)) {
                    cluster.nodes[1].health()?.partitions ?? 0 >= 24
                }, "the other has all partitions\n\(cluster.diagnosis)")
            try producer.stopPace()
            #expect(
                clients.waitForEvents(producer.count, within: .seconds(30)),
                "\(producer.count) published, \(clients.progress)\n\(cluster.diagnosis)")
            Verdict.onWholeRun(clients.stop(), count: producer.count).demandClean(cluster)
        }

        private static let drainRequest =
            "POST /admin/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

        /// A drill: CLUSTER_DRILL says with how many clients, CLUSTER_DRILL_RATE how many events a
        /// second each gets. Every node is restarted, one after
        /// the other, while events flow; printed is what the clients noticed.
        @Test("a rolling restart loses nothing", .enabled(if: drillClients != nil))
        func rollingRestart() throws {
            let cluster = try TestCluster(nodes: 3, settings: ["server.drain_notice": "1s"])
            try #require(cluster.waitUntilShared(), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: drillClients ?? 0, path: Cluster.detections, targets: cluster.ports,
                honoursRetry: true)
            try #require(clients.waitUntilStreaming(within: .seconds(60)), "\(cluster.diagnosis)")
            try producer.publish(48)
            try #require(clients.waitForEvents(48, within: .seconds(60)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: drillRate)
            for node in cluster.nodes {
                let began = MonotonicTime.now
                node.terminate()
                let end = node.waitForEnd(within: .seconds(60))
                #expect(end == .exited(0), "\(node.id)\n\(cluster.diagnosis)")
                let ended = MonotonicTime.now
                node.start()
                try node.waitUntilReady()
                #expect(cluster.waitUntilShared(within: .seconds(60)), "\(cluster.diagnosis)")
                print(
                    "\(node.id): drained in \((ended - began).inSeconds) s, back after "
                        + "\((MonotonicTime.now - ended).inSeconds) s")
            }
            try producer.stopPace()
            #expect(
                clients.waitForEvents(producer.count, within: .seconds(60)),
                "\(producer.count) published, \(clients.progress)\n\(cluster.diagnosis)")
            let records = clients.stop()
            Drills.report(records, of: producer.count)
            Verdict.onWholeRun(records, count: producer.count).demandClean(cluster)
        }

        /// A drill: a node stands still for thirty seconds with clients of its own, and wakes.
        @Test("a node sleeps for half a minute", .enabled(if: drillClients != nil))
        func sleep() throws {
            let cluster = try TestCluster(nodes: 3)
            try #require(cluster.waitUntilShared(), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: drillClients ?? 0, path: Cluster.detections, targets: cluster.ports,
                honoursRetry: true)
            try #require(clients.waitUntilStreaming(within: .seconds(60)), "\(cluster.diagnosis)")
            try producer.publish(48)
            try #require(clients.waitForEvents(48, within: .seconds(60)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: drillRate)
            cluster.nodes[1].pause()
            // The sleep is what the drill is about.
            _ = poll(nil, 0, 30_000)
            cluster.nodes[1].resume()
            let woke = MonotonicTime.now
            #expect(
                Waiting.until(within: .seconds(60)) {
                    (cluster.nodes[1].health()?.partitions ?? 0) > 0
                }, "\(cluster.diagnosis)")
            print("it has partitions again after \((MonotonicTime.now - woke).inSeconds) s")
            try producer.stopPace()
            #expect(
                clients.waitForEvents(producer.count, within: .seconds(60)),
                "\(producer.count) published, \(clients.progress)\n\(cluster.diagnosis)")
            let records = clients.stop()
            Drills.report(records, of: producer.count)
            Verdict.onWholeRun(records, count: producer.count).demandClean(cluster)
        }

        /// A drill: a node joins another that has all the clients. Who is asked to move goes to the
        /// next of its targets, which is the node that came.
        @Test("clients move to a node that has joined", .enabled(if: drillClients != nil))
        func relevel() throws {
            let cluster = try TestCluster(
                nodes: 2, settings: ["cluster.relevel": "true", "cluster.relevel_rate": "500"])
            let (old, new) = (cluster.nodes[0], cluster.nodes[1])
            // What no lease has ever named is not missed when it is gone.
            let isKnown = Waiting.until(within: .seconds(40)) {
                let page = try? LoopbackHTTP.get("/cluster", port: old.port)
                return page?.text.contains("\"owner\":\"\(new.id)\"") ?? false
            }
            try #require(isKnown, "\(cluster.diagnosis)")
            new.terminate()
            try #require(new.waitForEnd(within: .seconds(30)) == .exited(0))
            let count = drillClients ?? 0
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: count, path: Cluster.detections, targets: cluster.ports, honoursRetry: true)
            try #require(clients.waitUntilStreaming(within: .seconds(60)), "\(cluster.diagnosis)")
            try producer.publish(48)
            try #require(clients.waitForEvents(48, within: .seconds(60)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: drillRate)
            #expect(old.metric("rivulet_clients_sent_away_total") == 0)
            new.start()
            let began = MonotonicTime.now
            let isLevel = Waiting.until(within: .seconds(60)) {
                let served = new.health()?.connections ?? 0
                return served >= count * 4 / 10 && clients.progress.streaming == count
            }
            #expect(isLevel, "\(cluster.diagnosis)")
            print("level after \((MonotonicTime.now - began).inSeconds) s")
            let moved = old.metric("rivulet_clients_sent_away_total", containing: "relevel")
            #expect((Double(count) * 0.4...Double(count)).contains(moved), "\(moved) moves")
            try producer.stopPace()
            #expect(
                clients.waitForEvents(producer.count, within: .seconds(60)),
                "\(producer.count) published, \(clients.progress)\n\(cluster.diagnosis)")
            let records = clients.stop()
            Drills.report(records, of: producer.count)
            Verdict.onWholeRun(records, count: producer.count).demandClean(cluster)
        }

        private static func report(_ records: [SubscriberRecord], of events: Int) {
            func longest(_ what: KeyPath<SubscriberRecord, Duration>) -> Double {
                records.map { $0[keyPath: what].inSeconds }.max() ?? 0
            }
            print(
                "\(events) events to \(records.count) clients over "
                    + "\(records.reduce(0) { $0 + $1.streams }) streams; longest silence "
                    + "\(longest(\.longestSilence)) s, longest time without a stream "
                    + "\(longest(\.longestOutage)) s, at most "
                    + "\(longest(\.longestDelay)) s over the retry that was told")
        }
    }
}

private var drillClients: Int? { number("CLUSTER_DRILL") }

private var drillRate: Int { number("CLUSTER_DRILL_RATE") ?? 25 }

private func number(_ variable: String) -> Int? {
    unsafe getenv(variable).flatMap { unsafe Int(String(cString: $0)) }
}
