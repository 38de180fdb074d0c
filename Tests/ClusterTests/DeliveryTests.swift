// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import ClusterHarness
import Testing

extension Cluster {
    @Suite("delivers", .serialized)
    struct Delivery {
        private static let events = 30_000

        @Test("each event once to a client of each node, in one order, and again from a cursor")
        func everywhereTheSame() throws {
            let cluster = try TestCluster(nodes: 3)
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let live = SubscriberSet(count: 3, path: Cluster.detections, targets: cluster.ports)
            try #require(live.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")

            try producer.publish(Self.events)
            let arrived = live.waitForEvents(Self.events, within: .seconds(60))
            #expect(arrived, "\(live.progress)")
            let records = live.stop()
            Verdict.onWholeRun(records, count: Self.events).demandClean(cluster)

            let whole = records[0].receipts
            try #require(whole.count == Self.events)
            let cursor = whole[Self.events / 2].id
            let resumed = SubscriberSet(
                count: 3, path: Cluster.detections, targets: cluster.ports, lastEventID: cursor)
            let rest = Self.events - Self.events / 2 - 1
            #expect(resumed.waitForEvents(rest, within: .seconds(30)), "\(resumed.progress)")
            Verdict.onResumption(resumed.stop(), of: whole, after: cursor).demandClean(cluster)
        }
    }
}
