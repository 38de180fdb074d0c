// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// One of the two servers that are compared.
struct FanoutSide {
    enum Name: String, Sendable, CaseIterable {
        case floor
        case node
    }

    let name: Name
    let port: UInt16
    let path: String
    let process: ServerProcess
    let begin: (Schedule) throws(BenchmarkError) -> Void
    /// Ends the schedule; how many of its events were not taken.
    let finish: () throws(BenchmarkError) -> Int
    /// How many system calls have written events; `nil` where the server does not count them.
    let writes: () -> Int?
}

/// Both servers on one processor, and on the other this client, the source of the node's events,
/// Redis and Kafka.
final class FanoutRig {
    let floor: FanoutSide
    let node: FanoutSide
    private let redis: RedisServer
    private let kafka: KafkaServer?
    private let load: StreamLoad

    private static let serverProcessor = 0
    private static let clientProcessor = 1
    private static let topic = "bench.events"
    private static let partitions = 24
    private static let prefix = "bench"

    init(_ plan: FanoutPlan) throws(BenchmarkError) {
        guard Processor.count >= 2 else {
            throw BenchmarkError(.unavailable, "server and client need a processor each")
        }
        // What is started from here on runs where this thread does.
        try Processor.pin(to: Self.clientProcessor)
        let redis = try RedisServer()
        self.redis = redis
        let kafka =
            plan.path == .kafka
            ? try KafkaServer(topic: Self.topic, partitions: Self.partitions) : nil
        self.kafka = kafka
        let source: any EventSource
        if let kafka {
            source = try KafkaSource(
                kafka: kafka, topic: Self.topic, partitions: Self.partitions,
                eventBytes: plan.eventBytes)
        } else {
            source = try HistorySource(
                redis: redis, prefix: Self.prefix, topic: Self.topic, eventBytes: plan.eventBytes)
        }
        load = try StreamLoad()
        try Processor.pin(to: Self.serverProcessor)
        let floor = try FloorServer(eventBytes: plan.eventBytes)
        // Port 1: nobody answers there, and the node goes on without Kafka.
        let node = try NodeServer(
            redis: redis, kafka: kafka?.bootstrapServers ?? ["127.0.0.1:1"], group: "bench",
            prefix: Self.prefix,
            settings: """
                channels:
                  - name: bench
                    topics: [\(Self.topic)]
                    event: message
                patterns: []

                """)
        try Processor.pin(to: Self.clientProcessor)
        self.floor = FanoutSide(
            name: .floor, port: floor.port, path: "/", process: floor.process,
            begin: { schedule throws(BenchmarkError) in try floor.begin(schedule) },
            finish: { () throws(BenchmarkError) in
                try floor.begin(.none)
                return 0
            }, writes: { nil })
        self.node = FanoutSide(
            name: .node, port: node.port, path: "/api/v1/sse/bench", process: node.process,
            begin: { schedule throws(BenchmarkError) in try source.begin(schedule) },
            finish: { source.finish() }, writes: { node.writes() })
        if plan.path == .kafka { try awaitPartitions() }
    }

    /// The group's first join takes the mock cluster three seconds.
    private func awaitPartitions() throws(BenchmarkError) {
        try open(node, 1)
        let deadline = MonotonicTime.now + .seconds(30)
        while load.tally.events == 0 {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "no event came from Kafka within 30 s")
            }
            try node.begin(
                Schedule(
                    start: .now, eventsPerSecond: 1000, eventsPerBatch: 1,
                    length: .milliseconds(24), batchesMin: Self.partitions))
            load.read(until: .now + .milliseconds(200), wanted: 1)
            _ = try node.finish()
        }
        load.drain(silence: .milliseconds(500), limit: .seconds(10))
        close()
    }

    // MARK: - Connections

    /// What connections without events cost.
    struct Idle: Sendable {
        let name: FanoutSide.Name
        let residentBytesPerConnection: Double
        let connectsPerSecond: Double
    }

    /// Opens `count` connections and closes them again.
    func measureIdle(_ side: FanoutSide, _ count: Int) throws(BenchmarkError) -> Idle {
        let before = ProcessMeter.residentBytes(of: side.process.id)
        let began = MonotonicTime.now
        try open(side, count)
        let seconds = (MonotonicTime.now - began).inSeconds
        load.read(until: .now + .milliseconds(500))
        let after = ProcessMeter.residentBytes(of: side.process.id)
        close()
        return Idle(
            name: side.name,
            residentBytesPerConnection: Double(after - before) / Double(count),
            connectsPerSecond: Double(count) / seconds)
    }

    func open(_ side: FanoutSide, _ count: Int) throws(BenchmarkError) {
        try load.open(count, port: side.port, path: side.path, within: .seconds(60))
    }

    /// Closes all, and gives the server time to see it.
    func close() {
        load.closeAll()
        _ = poll(nil, 0, 300)
    }

    // MARK: - Measuring

    /// Runs one schedule over the open connections, from which the first fifth is warm-up.
    func measure(
        _ side: FanoutSide, eventsPerSecond: Double, eventsPerBatch: Int, plan: FanoutPlan
    ) throws(BenchmarkError) -> FanoutWindow {
        let connections = load.openCount
        let writesBefore = side.writes()
        let schedule = Schedule(
            start: .now + .milliseconds(50), eventsPerSecond: eventsPerSecond,
            eventsPerBatch: eventsPerBatch, length: plan.window)
        let warmUp = schedule.batches / 5
        load.beginTally(from: schedule.due(warmUp), until: schedule.end)
        let meter = UsageMeter(processes: [side.process.id, getpid()])
        try side.begin(schedule)
        // What is later than twice the limit cannot be held any more.
        let isComplete = load.read(
            until: schedule.end + plan.p99Limit * 2, wanted: schedule.events * connections)
        let seconds = meter.processSeconds
        let busy = meter.busyShares
        let elapsed = meter.elapsed
        let tally = load.tally
        let refused = try side.finish()
        if !isComplete { load.drain(silence: .milliseconds(300), limit: .seconds(20)) }
        try side.process.checkAlive()
        let writes = side.writes().flatMap { after in writesBefore.map { after - $0 } }
        let measured = schedule.batches - warmUp
        return FanoutWindow(
            connections: connections, eventsPerSecond: schedule.eventsPerSecond,
            expected: measured * eventsPerBatch * connections, latency: tally.latency,
            measuredSeconds: schedule.seconds * Double(measured) / Double(schedule.batches),
            deliveries: tally.events,
            // The floor makes one for each batch and connection.
            writes: writes ?? tally.events / eventsPerBatch, serverSeconds: seconds[0],
            clientSeconds: seconds[1],
            elapsed: elapsed, serverProcessorBusy: busy[Self.serverProcessor],
            clientProcessorBusy: busy[Self.clientProcessor], refused: refused, gaps: tally.gaps,
            connectionsLost: tally.ended)
    }

    /// The window with the highest rate that the server holds, to ``FanoutPlan/searchStep``; `nil`
    /// where it holds none.
    func search(
        _ side: FanoutSide, from first: Double, eventsPerBatch: Int, plan: FanoutPlan
    ) throws(BenchmarkError) -> FanoutWindow? {
        var held: FanoutWindow?
        var missed: Double?
        var rate = first
        for _ in 0..<Self.windowsMax {
            var window: FanoutWindow?
            for _ in 0..<plan.attempts {
                let tried = try measure(
                    side, eventsPerSecond: rate, eventsPerBatch: eventsPerBatch, plan: plan)
                let isHeld = tried.isHeld(p99LimitMilliseconds: plan.p99Limit.inSeconds * 1000)
                if isHeld { window = tried }
                Self.say(side, tried, isHeld)
                if isHeld { break }
            }
            if let window { held = window } else { missed = rate }
            switch (held?.eventsPerSecond, missed) {
            case (let low?, let high?):
                if high / low <= plan.searchStep { return held }
                rate = (low * high).squareRoot()
            case (.some, nil): rate *= 2
            case (nil, _): rate /= 2
            }
            // Slower ones would take longer than their windows are meant to.
            guard rate >= plan.slowestRate(eventsPerBatch: eventsPerBatch) else { return held }
        }
        return held
    }

    private static let windowsMax = 16

    private static func say(_ side: FanoutSide, _ window: FanoutWindow, _ isHeld: Bool) {
        StandardError.say(
            "  \(side.name) \(Columns.number(window.eventsPerSecond)) events/s to "
                + "\(window.connections): \(isHeld ? "held" : "missed"), "
                + "\(window.received) of \(window.expected), p99 "
                + "\(Columns.number(window.latency.milliseconds(0.99))) ms, processors "
                + "\(Columns.number(window.serverProcessorBusy * 100)) % and "
                + "\(Columns.number(window.clientProcessorBusy * 100)) %"
                + (window.refused > 0 ? ", \(window.refused) refused by the source" : "")
                + (window.gaps > 0 ? ", \(window.gaps) gaps" : "")
                + (window.connectionsLost > 0 ? ", \(window.connectionsLost) ended" : ""))
    }
}
