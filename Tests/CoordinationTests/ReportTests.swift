// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Coordination
import KafkaClient
import Testing

@Suite("A node's report")
struct ReportTests {
    private func partitions(_ topic: String, _ numbers: [Int32]) -> [TopicPartition] {
        numbers.map { TopicPartition(topic, $0) }
    }

    @Test("reads back as it was written")
    func roundTrip() {
        var report = NodeReport(
            state: .draining, address: "10.0.0.1:8080", version: "0.1.0",
            started: 1_763_683_200_123,
            connections: 12, connectionsMax: 400, lag: 7, ingestRate: 12.5, deliveryRate: 3000,
            partitions: partitions("a.b", [0, 1, 2, 3, 7, 9, 10]) + partitions("c", [4]),
            orphans: partitions("a.b", [20]))
        report.drain = DrainProgress(
            phase: .sendingAway, left: 12, sentAway: 388, until: 1_763_683_210_123,
            others: "none", isHeldBack: false)
        #expect(NodeReport(text: report.text) == report)
        #expect(report.text.contains("reads a.b 0-3,7,9-10"))
    }

    @Test("passes over what it does not know, and takes nothing that could hurt it")
    func strangeText() {
        let text = """
            state asleep
            address \u{1F30A}:1
            weather fine
            connections -5
            lag 99999999999999999999
            ingest_rate nan
            reads t 0-4294967295,5,3-1,-1,x
            reads t
            reads u 0-99999999
            orphans
            """
        let report = NodeReport(text: text)
        #expect(report.state == .joining)
        #expect(report.connections == 0)
        #expect(report.lag == 0)
        #expect(report.ingestRate == 0)
        #expect(report.partitions == partitions("t", [5]))
        #expect(report.orphans.isEmpty)
        #expect(NodeReport(text: "") == NodeReport(text: "\n\n \n"))
    }

    @Test("keeps an address to its line")
    func lineEnds() {
        let report = NodeReport(
            state: .up, address: "a\nlag 9", version: "1", started: 0, connections: 1)
        #expect(NodeReport(text: report.text).lag == 0)
    }
}
