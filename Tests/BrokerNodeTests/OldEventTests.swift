// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import EventStreamWire
import KafkaClient
import NodeConfiguration
import PosixIO
import Testing

extension BrokerNodeTests {
    private func ingested(_ port: UInt16) -> Int {
        let text = (try? get("/healthz", port).text) ?? ""
        let field = text.split(separator: ",").first { $0.contains("\"events_ingested\":") }
        return field.flatMap { Int($0.split(separator: ":").last ?? "") } ?? 0
    }

    @Test("a node that never saw old events serves them from Kafka while new ones are produced")
    func oldEvents() throws {
        let bench = try NodeBench()
        let producer = try EventProducer(
            bootstrapServers: bench.kafka.bootstrapServers, partitions: 2)
        var port = try bench.start {
            $0.history.windowEvents = 200
            $0.telemetry.enabled = false
        }
        for _ in 0..<10 { try producer.publish(300) }
        let isIngested = Waiting.until(within: .seconds(40)) { ingested(port) >= 3000 }
        #expect(isIngested)
        bench.stop()
        port = try bench.start {
            $0.history.windowEvents = 200
            $0.limits.hotWindowBytes = 1 << 20
            $0.limits.replayPageBytes = 16 << 10
            $0.telemetry.enabled = false
        }
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        producer.startPace(perSecond: 300)
        let whole = SubscriberSet(
            count: 3, path: "/api/v1/sse/detections", targets: [port], lastEventID: .zero)
        #expect(whole.waitForEvents(3000, within: .seconds(40)))
        try producer.stopPace()
        let count = producer.count
        #expect(whole.waitForEvents(count, within: .seconds(40)))
        let records = whole.stop()
        let verdict = Verdict.onWholeRun(records, count: count)
        #expect(verdict.isClean, "\(verdict)")
        // Resumed anywhere, over a filter too.
        let receipts = records[0].receipts
        for place in stride(from: 0, to: count - 1, by: count / 5) {
            let resumed = SubscriberSet(
                count: 2, path: "/api/v1/sse/detections", targets: [port],
                lastEventID: receipts[place].id)
            #expect(resumed.waitForEvents(count - place - 1, within: .seconds(40)))
            let verdict = Verdict.onResumption(
                resumed.stop(), of: receipts, after: receipts[place].id)
            #expect(verdict.isClean, "\(verdict)")
        }
        let filtered = SubscriberSet(
            count: 1, path: "/api/v1/sse/detections?camera_ids=cam-5", targets: [port],
            lastEventID: .zero)
        let wanted = receipts.filter { $0.number % 97 == 5 }
        #expect(filtered.waitForEvents(wanted.count, within: .seconds(40)))
        #expect(filtered.stop()[0].receipts == wanted)
        let metrics = try get("/metrics", port).text
        #expect(!metrics.contains("rivulet_replay_pages_total{from=\"kafka\"} 0\n"))
        #expect(metrics.contains("rivulet_gaps_total{reason=\"trimmed\"} 0\n"))
    }
}
