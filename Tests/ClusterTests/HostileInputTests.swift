// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import HTTP1Wire
import PosixIO
import Testing

extension Cluster {
    @Suite("shrugs off", .serialized)
    struct HostileInput {
        @Test("bad requests and bad events: each is answered or counted, and the node lives")
        func badInput() throws {
            let cluster = try TestCluster(
                nodes: 1, settings: ["server.header_timeout": "1s", "limits.event_bytes": "1MiB"])
            let node = cluster.nodes[0]
            try refusesParameters(node)
            try refusesBytes(node)
            try setsBadEventsAside(cluster, node)
            #expect(!node.hasEnded, "\(cluster.diagnosis)")
            node.terminate()
            #expect(node.waitForEnd(within: .seconds(15)) == .exited(0), "\(cluster.diagnosis)")
        }

        private func refusesParameters(_ node: NodeProcess) throws {
            var malformed = HTTPHeaders()
            malformed.append("Last-Event-ID", "yesterday")
            let cases: [(target: String, headers: HTTPHeaders, status: Int, names: String)] = [
                ("/api/v1/sse/nowhere", HTTPHeaders(), 404, "nowhere"),
                (Cluster.detections, malformed, 400, "yesterday"),
                ("\(Cluster.detections)?colour=red", HTTPHeaders(), 400, "colour"),
                ("\(Cluster.detections)?min_confidence=high", HTTPHeaders(), 400, "high"),
            ]
            for (target, headers, status, name) in cases {
                let answer = try LoopbackHTTP.get(target, port: node.port, headers: headers)
                #expect(answer.status == status, "\(target): \(answer.text)")
                #expect(answer.text.contains(name), "\(target): \(answer.text)")
                let type = answer.headers.first("Content-Type")
                #expect(
                    type?.hasPrefix("application/problem+json") == true, "\(target): \(type ?? "-")"
                )
            }
        }

        private func refusesBytes(_ node: NodeProcess) throws {
            let counter = "rivulet_http_bad_requests_total"
            let large = "GET / HTTP/1.1\r\nHost: x\r\nX-Large: "
            let tooLarge = try LoopbackHTTP.exchange(
                Array(large.utf8) + Array(repeating: UInt8(ascii: "a"), count: 1 << 20),
                port: node.port, within: .seconds(5))
            #expect(tooLarge.text.hasPrefix("HTTP/1.1 431 "), "\(tooLarge.text.prefix(200))")
            #expect(tooLarge.end != .stillOpen)

            let garbage = try LoopbackHTTP.exchange(
                (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ 1) } + Array("\r\n".utf8),
                port: node.port, within: .seconds(5))
            #expect(garbage.text.hasPrefix("HTTP/1.1 400 "), "\(garbage.text.prefix(200))")
            #expect(garbage.end != .stillOpen)
            #expect(node.metric(counter) >= 2)

            let half = try LoopbackHTTP.exchange(
                Array("GET /healthz HTTP/1.1\r\nHo".utf8), port: node.port, within: .seconds(10))
            #expect(half.end == .closed, "half a request is given up: \(half.text.prefix(200))")
            #expect(node.metric(counter, containing: "headerTimeout") == 1)
        }

        /// Events that cannot be served go to the dead-letter topic; what is behind them comes.
        private func setsBadEventsAside(_ cluster: TestCluster, _ node: NodeProcess) throws {
            let client = SubscriberSet(count: 1, path: Cluster.detections, targets: [node.port])
            try #require(client.waitUntilStreaming(within: .seconds(10)), "\(node.logEnd)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            // Below the 5 MiB that the embedded broker keeps of a partition.
            let filler = String(repeating: "x", count: 5_000_000)
            try producer.publish(raw: Array("{\"filler\":\"\(filler)\"}".utf8), partition: 3)
            try producer.publish(raw: Array("{\"n\":".utf8), partition: 3)
            try producer.publish(240)
            #expect(
                client.waitForEvents(240, within: .seconds(30)),
                "what follows a bad event arrives: \(client.progress)\n\(node.logEnd)")
            let verdict = Verdict.onWholeRun(client.stop(), count: 240)
            #expect(verdict.isClean, "\(verdict)\n\(node.logEnd)")
            #expect(node.metric("rivulet_ingest_dead_letters_total") == 2)
        }
    }
}
