// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Observability
import PosixIO

/// What one client that never reads does to all the others, and what becomes of it.
enum SlowBenchmark {
    struct Plan: Sendable {
        var rounds = 3
        var window: Duration = .seconds(14)
        var connections = 1_000
        /// Together some megabytes in a window: on loopback that much fits into the sockets before
        /// anybody lags.
        var eventsPerSecond = 40.0
        var eventBytes = 8_000
        /// The bound of its channel's rule.
        var lagEvents = 100

        static let quick = {
            var plan = Plan()
            plan.rounds = 1
            plan.window = .seconds(8)
            plan.connections = 100
            plan.eventsPerSecond = 100
            return plan
        }()
    }

    static let command = BenchmarkCommand(
        name: "slow",
        summary: "one client that never reads among a thousand",
        details: """
            Windows with and without one more client that asks for the stream and reads nothing, in
            turns. Its channel's rule is to close who falls too far behind. Shown are the others'
            latency, the node's memory, what /metrics says meanwhile, and whether the client comes
            back with its last ID and has every event once.
            """,
        options: [
            BenchmarkOption("connections", "N", "Those who read (1000)."),
            BenchmarkOption("rate", "N", "Events a second (40)."),
            BenchmarkOption("seconds", "N", "Length of one window (14)."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks slow --rounds 5",
        run: { options throws(BenchmarkError) in
            var plan = options.has("quick") ? Plan.quick : Plan()
            plan.rounds = try options.integer("rounds", in: 1...100) ?? plan.rounds
            plan.connections =
                try options.integer("connections", in: 1...19_000) ?? plan.connections
            if let rate = try options.integer("rate", in: 1...100_000) {
                plan.eventsPerSecond = Double(rate)
            }
            if let seconds = try options.integer("seconds", in: 1...600) {
                plan.window = .seconds(seconds)
            }
            try measure(plan).publish(options)
        })

    /// The others' p99 beside a client that stalls, by theirs without it. Two windows of the same
    /// thing differ by as much.
    static let latencyRatioMax = 1.15
    /// What the node's memory may grow by: the client's own socket is the kernel's, and what it has
    /// not read is shared with all others.
    static let growthBytesMax = 1 << 20

    private struct Round {
        let calm: FanoutWindow
        let stalled: FanoutWindow
        let calmBytes: Int
        let stalledBytes: Int
        let seen: NodeWatch.Seen
        let wasClosed: Bool
        let readBeforeClose: Int
        /// Events that were missing, came twice or were told as a gap, of all it has had.
        let faults: Int
        let had: Int
    }

    static func measure(_ plan: Plan) throws(BenchmarkError) -> ReportPart {
        let rig = try FanoutRig(
            FanoutRigSettings(
                eventBytes: plan.eventBytes,
                channel: ["slow: {policy: close, events: \(plan.lagEvents)}"],
                // Full after the first window, so that what grows later is not the window.
                nodeLines: ["limits:", "  hot_window_bytes: 4MiB"]))
        try rig.open(rig.node, plan.connections)
        // Once for memory that is taken for good: the window fills.
        _ = try window(rig, plan)
        var rounds: [Round] = []
        for round in 0..<plan.rounds {
            StandardError.say("one that never reads, round \(round + 1)")
            rounds.append(try measureRound(rig, plan))
        }
        let measured = rounds
        return ReportPart(
            title: "A client that never reads", text: text(measured, plan),
            findings: findings(measured, plan),
            json: { json in
                json.array("rounds") { json in for round in measured { append(round, to: &json) } }
            })
    }

    private static func window(_ rig: FanoutRig, _ plan: Plan) throws(BenchmarkError)
        -> FanoutWindow
    {
        try rig.measure(
            rig.node, eventsPerSecond: plan.eventsPerSecond, eventsPerBatch: 1,
            window: plan.window, p99Limit: .seconds(1))
    }

    private static func measureRound(_ rig: FanoutRig, _ plan: Plan) throws(BenchmarkError) -> Round
    {
        let closedBefore = rig.nodeServer.metric("rivulet_lag_closed_total") ?? 0
        var watch = NodeWatch(rig.nodeServer)
        let calm = try window(rig, plan)
        let calmSeen = watch.end()
        let client = try StalledClient(port: rig.node.port, path: rig.node.path)
        watch = NodeWatch(rig.nodeServer)
        let stalled = try window(rig, plan)
        let seen = watch.end()
        let wasClosed = client.read(within: .seconds(10)) { _ in false }
        let before = client.messages
        guard let last = before.last?.lastEventID, let tip = tip(rig) else {
            throw BenchmarkError(.failed, "the client that stalls got no event at all")
        }
        let again = try StalledClient(port: rig.node.port, path: rig.node.path, after: last)
        _ = again.read(within: .seconds(20)) { sequence($0.last) == tip }
        let all = before + again.messages
        return Round(
            calm: calm, stalled: stalled, calmBytes: calmSeen.residentBytesMax,
            stalledBytes: seen.residentBytesMax, seen: seen,
            wasClosed: wasClosed && seen.lagClosed > closedBefore,
            readBeforeClose: before.count, faults: faults(all, tip: tip), had: all.count)
    }

    private static func tip(_ rig: FanoutRig) -> UInt64? {
        rig.nodeServer.metric("rivulet_tail_last_sequence").map { UInt64($0) }
    }

    private static func sequence(_ message: EventStreamMessage?) -> UInt64? {
        guard let message, let id = try? EventID.parse(message.lastEventID) else { return nil }
        return id.sequence
    }

    /// Every event is of one topic, so their sequence numbers follow without a hole up to `tip`.
    private static func faults(_ messages: [EventStreamMessage], tip: UInt64) -> Int {
        var faults = 0
        var previous: UInt64?
        for message in messages {
            guard message.event != "gap", let sequence = sequence(message) else {
                faults += 1
                continue
            }
            if let previous, sequence != previous + 1 { faults += 1 }
            previous = sequence
        }
        return previous == tip ? faults : faults + 1
    }

    private static func findings(_ rounds: [Round], _ plan: Plan) -> [Finding] {
        let lags = Spread(rounds.map(\.seen.lagEventsMax))
        let closed = rounds.filter(\.wasClosed).count
        let faults = rounds.reduce(0) { $0 + $1.faults }
        let had = rounds.reduce(0) { $0 + $1.had }
        return [
            .atMost(
                latencyRatioMax,
                Spread(
                    rounds.map {
                        $0.stalled.latency.milliseconds(0.99) / $0.calm.latency.milliseconds(0.99)
                    }),
                "one of \(plan.connections) never reads: the others' p99, of that without it: "
                    + "unchanged (<= 1.15)"),
            .atMost(
                Double(growthBytesMax),
                Spread(rounds.map { Double(max(0, $0.stalledBytes - $0.calmBytes)) }),
                "… growth of the node's memory in bytes: flat (<= 1 MiB)"),
            Finding(
                line: "… its lag visible in /metrics", figure: "\(Columns.spread(lags)) events",
                holds: lags.minimum > 0),
            Finding(
                line: "… closed by its channel's rule", figure: "\(closed) of \(rounds.count)",
                holds: closed == rounds.count),
            Finding(
                line: "… resumes with its last ID without loss",
                figure: "\(faults) faults in \(had) events", holds: faults == 0 && had > 0),
        ]
    }

    private static func text(_ rounds: [Round], _ plan: Plan) -> String {
        let table = Columns.table(
            [
                "round", "p99 ms without", "p99 ms with", "RSS MiB without", "RSS MiB with",
                "lag seen, events", "closed", "events it had before", "events in all", "faults",
            ],
            rounds.enumerated().map { number, round in
                [
                    "\(number + 1)", Columns.number(round.calm.latency.milliseconds(0.99)),
                    Columns.number(round.stalled.latency.milliseconds(0.99)),
                    Columns.number(Double(round.calmBytes) / 1_048_576),
                    Columns.number(Double(round.stalledBytes) / 1_048_576),
                    Columns.number(round.seen.lagEventsMax), round.wasClosed ? "yes" : "no",
                    "\(round.readBeforeClose)", "\(round.had)", "\(round.faults)",
                ]
            })
        return "\(plan.connections) that read, \(Columns.number(plan.eventsPerSecond)) events/s of "
            + "\(plan.eventBytes) bytes; the rule closes who is \(plan.lagEvents) events behind\n\n"
            + table
    }

    private static func append(_ round: Round, to json: inout JSONText) {
        json.object { json in
            json.array("windows") { json in
                FanoutReport.append(round.calm, to: &json)
                FanoutReport.append(round.stalled, to: &json)
            }
            json.field("rss_bytes_without", round.calmBytes)
            json.field("rss_bytes_with", round.stalledBytes)
            json.field("lag_events_seen", round.seen.lagEventsMax)
            json.field("was_closed", round.wasClosed)
            json.field("events", round.had)
            json.field("faults", round.faults)
        }
    }
}
