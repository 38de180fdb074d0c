// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import ClusterHarness
import EventStreamWire
import Glibc
import Observability
import PosixIO

/// Old events from a node that was started after they were written: nearly all of them have to
/// come back from Kafka.
enum ReplayBenchmark {
    struct Plan: Sendable {
        var events = 1_000_000
        /// A partition of the mock cluster keeps 5 MiB.
        var partitions = 96
        var windowEvents = 10_000
        var live = 100
        var liveRate = 200.0
        var window: Duration = .seconds(10)
        var crowd = 500
        var limit: Duration = .seconds(600)

        static let quick = {
            var plan = Plan()
            plan.events = 100_000
            plan.partitions = 12
            plan.crowd = 50
            plan.window = .seconds(4)
            return plan
        }()
    }

    static let command = BenchmarkCommand(
        name: "replay",
        summary: "old events, read back from Kafka by a node that never saw them",
        details: """
            One node takes all events from Kafka into a history whose Redis window is small, and
            ends. Another one starts. Shown are how fast it replays all of them to one client, what
            that does to the latency of others that are live, and what it takes to serve a crowd of
            clients with as many different old IDs at once; and whether each got every event once
            and in order.
            """,
        options: [
            BenchmarkOption("events", "N", "Events in history (1000000)."),
            BenchmarkOption("partitions", "N", "Of their topic; the mock keeps 5 MiB each (96)."),
            BenchmarkOption("crowd", "N", "Clients that come back at once (500)."),
            BenchmarkOption("live", "N", "Clients that are live meanwhile (100)."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks replay",
        run: { options throws(BenchmarkError) in
            var plan = options.has("quick") ? Plan.quick : Plan()
            plan.events = try options.integer("events", in: 20_000...100_000_000) ?? plan.events
            plan.partitions = try options.integer("partitions", in: 1...1000) ?? plan.partitions
            plan.crowd = try options.integer("crowd", in: 1...10_000) ?? plan.crowd
            plan.live = try options.integer("live", in: 1...10_000) ?? plan.live
            try measure(plan).publish(options)
        })

    private static let oldTopic = "bench.old"
    private static let liveTopic = "bench.live"
    private static let oldPath = "/api/v1/sse/old"

    private struct Replay: Sendable {
        var seconds = 0.0
        var events = 0
        var faults = 0
        var isComplete = false
        var ids: [EventID] = []
        var rate: Double { seconds > 0 ? Double(events) / seconds : 0 }
    }

    static func measure(_ plan: Plan) throws(BenchmarkError) -> ReportPart {
        let kafka = try KafkaServer(topic: oldTopic, partitions: plan.partitions)
        let redis = try RedisServer()
        try write(plan, kafka, redis)
        let node = try node(plan, kafka, redis)
        StandardError.say("one client from the very beginning")
        let alone = try replay(plan, node)
        let idle = ProcessMeter.residentBytes(of: node.process.id)
        StandardError.say("\(plan.live) live clients, without and with a replay")
        let (calm, busy, beside) = try live(plan, kafka, node)
        StandardError.say("\(plan.crowd) clients with old IDs at once")
        let watch = NodeWatch(node)
        let crowd = try crowd(plan, node, alone.ids)
        let seen = watch.end()
        let pages = node.metric("rivulet_replay_pages_total") ?? 0
        let kafkaBytes = node.metric("rivulet_replay_kafka_bytes_total") ?? 0
        let text = Columns.table(
            ["what", "events", "seconds", "events/s", "faults", "complete"],
            [("one client", alone), ("one beside \(plan.live) live", beside), ("crowd", crowd)]
                .map { name, run in
                    [
                        name, "\(run.events)", Columns.number(run.seconds),
                        Columns.number(run.rate), "\(run.faults)", run.isComplete ? "yes" : "NO",
                    ]
                })
        let rise = busy.milliseconds(0.99) / calm.milliseconds(0.99)
        let exact = [alone, beside, crowd].allSatisfy { $0.faults == 0 && $0.isComplete }
        return ReportPart(
            title: "Replay of \(plan.events) events, \(plan.windowEvents) of them in Redis",
            text: text
                + "\nlive p99 ms: \(Columns.number(calm.milliseconds(0.99))) without, "
                + "\(Columns.number(busy.milliseconds(0.99))) with a replay; resident MiB: "
                + "\(idle >> 20) before the crowd, \(seen.residentBytesMax >> 20) at most; "
                + "\(Int(pages)) pages, \(Int(kafkaBytes) >> 20) MiB of records read back",
            findings: [
                Finding(
                    line: "every client gets everything exactly once and in order",
                    figure: "\(alone.faults + beside.faults + crowd.faults) faults", holds: exact),
                .atLeast(100_000, Spread([alone.rate]), "events/s to one client (>= 100,000)"),
                .atMost(2, Spread([rise]), "live p99 with a replay, of that without (<= 2)"),
            ],
            json: { json in
                json.field("events_per_second", alone.rate)
                json.field("events_per_second_beside_live", beside.rate)
                json.field("crowd_seconds", crowd.seconds)
                json.field("faults", alone.faults + beside.faults + crowd.faults)
                json.field("live_p99_ms", calm.milliseconds(0.99))
                json.field("live_p99_ms_with_replay", busy.milliseconds(0.99))
                json.field("rss_bytes_max", seen.residentBytesMax)
            })
    }

    private static func node(_ plan: Plan, _ kafka: KafkaServer, _ redis: RedisServer)
        throws(BenchmarkError) -> NodeServer
    {
        try NodeServer(
            redis: redis, kafka: kafka.bootstrapServers, group: "bench", prefix: "bench",
            settings: """
                history:
                  window_events: \(plan.windowEvents)
                limits:
                  hot_window_bytes: 1MiB
                channels:
                  - name: old
                    topics: [\(oldTopic)]
                    event: message
                  - name: live
                    topics: [\(liveTopic)]
                    event: message
                patterns: []

                """)
    }

    /// Fills Kafka, and has a node of its own take all of it into history.
    private static func write(_ plan: Plan, _ kafka: KafkaServer, _ redis: RedisServer)
        throws(BenchmarkError)
    {
        StandardError.say("writing \(plan.events) events")
        do throws(ClusterHarnessError) {
            let producer = try EventProducer(
                bootstrapServers: kafka.bootstrapServers, topic: oldTopic,
                partitions: plan.partitions)
            try producer.publish(plan.events)
        } catch { throw BenchmarkError(.failed, "the topic could not be filled: \(error)") }
        let node = try node(plan, kafka, redis)
        let deadline = MonotonicTime.now + plan.limit
        while (node.progress()?.ingested ?? 0) < plan.events {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(
                    .failed, "the node took \(node.progress()?.ingested ?? 0) of the events")
            }
            _ = poll(nil, 0, 100)
        }
    }

    private static func replay(_ plan: Plan, _ node: NodeServer) throws(BenchmarkError) -> Replay {
        let every = UInt64(max(1, plan.events / (plan.crowd + 1)))
        let readers = ReplayReaders(last: UInt64(plan.events), keepingEveryID: every)
        let began = MonotonicTime.now
        try readers.open(port: node.port, path: oldPath, after: .zero)
        let isComplete = try readers.read(within: plan.limit)
        return Replay(
            seconds: (MonotonicTime.now - began).inSeconds, events: readers.events,
            faults: readers.faults, isComplete: isComplete && readers.events == plan.events,
            ids: readers.ids)
    }

    private static func crowd(_ plan: Plan, _ node: NodeServer, _ ids: [EventID])
        throws(BenchmarkError) -> Replay
    {
        let readers = ReplayReaders(last: UInt64(plan.events))
        let began = MonotonicTime.now
        var wanted = 0
        for id in ids.prefix(plan.crowd) {
            try readers.open(port: node.port, path: oldPath, after: id)
            wanted += plan.events - Int(id.sequence)
        }
        let isComplete = try readers.read(within: plan.limit)
        return Replay(
            seconds: (MonotonicTime.now - began).inSeconds, events: readers.events,
            faults: readers.faults, isComplete: isComplete && readers.events == wanted)
    }

    /// The latency of live clients in a window without a replay and in one with.
    private static func live(_ plan: Plan, _ kafka: KafkaServer, _ node: NodeServer)
        throws(BenchmarkError) -> (calm: LatencyHistogram, busy: LatencyHistogram, Replay)
    {
        let source = try KafkaSource(
            kafka: kafka, topic: liveTopic, partitions: 1, eventBytes: 300)
        let load = try StreamLoad()
        try load.open(
            plan.live, from: .init(port: node.port, path: "/api/v1/sse/live"),
            within: .seconds(30))
        // Once for the topic to come to be, and for its partition to be given out.
        _ = try window(.seconds(5), plan, source, load, isMeasured: false)
        let calm = try window(plan.window, plan, source, load, isMeasured: true)
        let result = Lock<Result<Replay, BenchmarkError>?>(nil)
        let thread = NamedThread("replay") {
            let outcome: Result<Replay, BenchmarkError>
            do throws(BenchmarkError) {
                outcome = .success(try replay(plan, node))
            } catch { outcome = .failure(error) }
            result.withLock { $0 = outcome }
        }
        let busy = try window(plan.window, plan, source, load, isMeasured: true)
        thread.join()
        guard let outcome = result.withLock({ $0 }) else {
            throw BenchmarkError(.failed, "the replay gave no result")
        }
        return (calm, busy, try outcome.get())
    }

    private static func window(
        _ length: Duration, _ plan: Plan, _ source: KafkaSource, _ load: StreamLoad,
        isMeasured: Bool
    ) throws(BenchmarkError) -> LatencyHistogram {
        let schedule = Schedule(
            start: .now + .milliseconds(50), eventsPerSecond: plan.liveRate, eventsPerBatch: 1,
            length: length)
        load.beginTally(from: schedule.start, until: schedule.end)
        source.begin(schedule)
        let wanted = schedule.events * plan.live
        let isWhole = load.read(until: schedule.end + .seconds(20), wanted: wanted)
        let failed = source.finish()
        guard !isMeasured || (isWhole && failed == 0) else {
            throw BenchmarkError(
                .failed, "\(load.tally.events) of \(wanted) live events came, \(failed) failed")
        }
        return load.tally.latency
    }
}
