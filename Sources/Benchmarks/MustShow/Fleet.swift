// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO

/// Several nodes of one cluster on this machine with idle streams, more than one process may hold.
struct Fleet: Sendable {
    let nodes: Int
    let streams: Int
    /// Growth of each node's memory by the streams that it holds.
    let bytesPerConnection: Spread
    let seconds: Double

    /// Streams of one process that holds them: below the descriptor limit, and few enough for one
    /// loopback address to have ports for.
    private static let streamsPerHolder = 15_000

    static func measure(nodes count: Int, total: Int) throws(BenchmarkError) -> Fleet {
        let redis = try RedisServer()
        var nodes: [NodeServer] = []
        for index in 0..<count {
            // A benchmark before this one may have kept this thread on one processor.
            try Processor.pin(to: index % Processor.count)
            nodes.append(
                try NodeServer(
                    redis: redis, kafka: ["127.0.0.1:1"], group: "bench", prefix: "bench",
                    id: "bench-\(index)",
                    settings: """
                        channels:
                          - name: bench
                            topics: [bench.events]
                            event: message
                        patterns: []

                        """))
        }
        let before = nodes.map { ProcessMeter.residentBytes(of: $0.process.id) }
        let each = (total + count - 1) / count
        var holders: [StreamHolder] = []
        let began = MonotonicTime.now
        for node in nodes {
            var left = each
            while left > 0 {
                let share = min(left, streamsPerHolder)
                try Processor.pin(to: holders.count % Processor.count)
                // Addresses from 127.0.0.2 on, one a holder.
                holders.append(
                    try StreamHolder(
                        share, port: node.port, path: FanoutRig.streamPath,
                        source: 0x7f00_0002 + UInt32(holders.count)))
                left -= share
            }
        }
        let seconds = (MonotonicTime.now - began).inSeconds
        for holder in holders { try holder.checkAlive() }
        for node in nodes { try node.process.checkAlive() }
        var bytes: [Double] = []
        for (index, node) in nodes.enumerated() {
            let after = ProcessMeter.residentBytes(of: node.process.id)
            bytes.append(Double(after - before[index]) / Double(each))
        }
        let held = nodes.reduce(0.0) { $0 + ($1.metric("rivulet_subscribers") ?? 0) }
        guard Int(held) == each * count else {
            throw BenchmarkError(.failed, "the nodes hold \(Int(held)) of \(each * count) streams")
        }
        return Fleet(
            nodes: count, streams: each * count, bytesPerConnection: Spread(bytes),
            seconds: seconds)
    }

    var text: String {
        "\(nodes) nodes held \(Columns.number(Double(streams))) streams together, opened in "
            + "\(Columns.number(seconds)) s; RSS bytes per connection, node by node: "
            + "\(Columns.spread(bytesPerConnection))."
    }

    func append(to json: inout JSONText) {
        json.field("nodes", nodes)
        json.field("streams", streams)
        json.field("seconds", seconds)
        json.array("rss_bytes_per_connection", bytesPerConnection.values)
    }
}
