// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// How a node took a whole topic from Kafka to a subscriber.
struct IngestedTopic: Sendable {
    let records: Int
    /// From the moment before the node's first event until all were there.
    let historySeconds: Double
    let tailSeconds: Double
    let subscriberSeconds: Double
    /// From the same moment until the subscriber had the last one.
    let nodeCPUSeconds: Double
    let redisCPUSeconds: Double
    let kafkaCPUSeconds: Double

    func perSecond(_ seconds: Double) -> Double { Double(records) / seconds }
    func microsecondsPerRecord(_ seconds: Double) -> Double { seconds * 1e6 / Double(records) }
}

/// Runs a node that knows nothing yet against a topic that is full.
enum NodeIngest {
    private static let limit: Duration = .seconds(180)

    /// - Parameter turn: Makes group and key prefix ones of this turn alone.
    static func run(
        redis: RedisServer, kafka: KafkaServer, records: Int, turn: Int
    ) throws(BenchmarkError) -> IngestedTopic {
        try redis.empty()
        let node = try NodeServer(
            redis: redis, kafka: kafka.bootstrapServers, group: "bench-\(turn)",
            prefix: "bench\(turn)")
        let load = try StreamLoad()
        try load.open(
            1, from: .init(port: node.port, path: "/api/v1/sse/detections"), within: .seconds(10))
        let start = try awaitFirst(node, load, redis, kafka)
        var historyAt: MonotonicTime?
        var tailAt: MonotonicTime?
        let deadline = start.time + limit
        while historyAt == nil || tailAt == nil || load.tally.events < records {
            load.read(until: .now + .milliseconds(10))
            let progress = node.progress()
            let now = MonotonicTime.now
            if let progress, progress.ingested >= records, historyAt == nil { historyAt = now }
            if let progress, progress.tailed >= records, tailAt == nil { tailAt = now }
            guard now < deadline, load.openCount == 1 else {
                throw BenchmarkError(
                    .failed,
                    "of \(records) events the node ingested \(progress?.ingested ?? 0), tailed "
                        + "\(progress?.tailed ?? 0), and the subscriber has \(load.tally.events)")
            }
        }
        guard load.tally.events == records, load.tally.gaps == 0,
            let historyAt, let tailAt, let last = load.tally.lastEvent
        else {
            throw BenchmarkError(
                .failed,
                "the subscriber got \(load.tally.events) events of \(records), "
                    + "\(load.tally.gaps) gaps")
        }
        return IngestedTopic(
            records: records, historySeconds: (historyAt - start.time).inSeconds,
            tailSeconds: (tailAt - start.time).inSeconds,
            subscriberSeconds: (last - start.time).inSeconds,
            nodeCPUSeconds: ProcessMeter.seconds(of: node.process.id) - start.nodeSeconds,
            redisCPUSeconds: try redis.seconds() - start.redisSeconds,
            kafkaCPUSeconds: ProcessMeter.seconds(of: kafka.process.id) - start.kafkaSeconds)
    }

    private struct Start {
        var time: MonotonicTime
        var nodeSeconds: Double
        var redisSeconds: Double
        var kafkaSeconds: Double
    }

    /// Waits for the node's first event, and says how all stood just before it: the group's first
    /// join takes the mock cluster three seconds, which are nobody's work.
    private static func awaitFirst(
        _ node: NodeServer, _ load: StreamLoad, _ redis: RedisServer, _ kafka: KafkaServer
    ) throws(BenchmarkError) -> Start {
        func stand() throws(BenchmarkError) -> Start {
            Start(
                time: .now, nodeSeconds: ProcessMeter.seconds(of: node.process.id),
                redisSeconds: try redis.seconds(),
                kafkaSeconds: ProcessMeter.seconds(of: kafka.process.id))
        }
        let deadline = MonotonicTime.now + .seconds(30)
        var before = try stand()
        while (node.progress()?.ingested ?? 0) == 0 {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "the node ingested nothing within 30 s")
            }
            before = try stand()
            load.read(until: .now + .milliseconds(5))
        }
        return before
    }
}
