// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Bytes
import CAllocationCount
import Glibc
import PosixIO

/// How often a node calls the allocator for an event that it delivers.
enum AllocationsBenchmark {
    struct Plan: Sendable {
        var window: Duration = .seconds(4)
        var connections = [1, 1_000]
        var eventsPerSecond = 50.0

        static let quick = {
            var plan = Plan()
            plan.window = .seconds(1)
            return plan
        }()
    }

    static let command = BenchmarkCommand(
        name: "allocations",
        summary: "calls of malloc per delivered event, thread by thread",
        details: """
            Runs the node in a process of this program, whose malloc(3) and its kin count their
            calls by thread, and sends events to different numbers of connections. What a thread
            allocates for an event is the same however many there are; what it allocates for a
            delivery would grow with them. Needs a release build: others do not count.
            """,
        options: [
            BenchmarkOption("connections", "LIST", "Counts, with commas (1,1000)."),
            BenchmarkOption("rate", "N", "Events a second (50)."),
            BenchmarkOption("seconds", "N", "Length of one window (4)."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks allocations --connections 1,10,100,1000",
        run: { options throws(BenchmarkError) in
            var plan = options.has("quick") ? Plan.quick : Plan()
            plan.connections =
                try options.integers("connections", in: 1...19_000) ?? plan.connections
            if let rate = try options.integer("rate", in: 1...100_000) {
                plan.eventsPerSecond = Double(rate)
            }
            if let seconds = try options.integer("seconds", in: 1...600) {
                plan.window = .seconds(seconds)
            }
            try measure(plan).publish(options)
        })

    /// Calls of the serving loop per delivery that say "none": what it allocates for an event or a
    /// turn, divided by a thousand connections.
    static let perDeliveryMax = 0.05

    private struct Row {
        let connections: Int
        let events: Int
        let deliveries: Int
        /// By the name of the thread.
        let calls: [String: Int]

        var total: Int { calls.values.reduce(0, +) }
        var perDelivery: Double { Double(total) / Double(max(1, deliveries)) }
        func perEvent(_ thread: String) -> Double {
            Double(calls[thread] ?? 0) / Double(max(1, events))
        }
    }

    private static let servingThread = "serve-0"
    private static let tailThread = "tail"

    static func measure(_ plan: Plan) throws(BenchmarkError) -> ReportPart {
        guard allocation_counts_exist() == 1 else {
            throw BenchmarkError(
                .unavailable, "this build does not count allocations; build with -c release")
        }
        try DescriptorLimit.raise(for: plan.connections.max() ?? 1)
        let rig = try FanoutRig(FanoutRigSettings(countsAllocations: true))
        var rows: [Row] = []
        for connections in plan.connections {
            StandardError.say("allocations with \(connections) connections")
            try rig.open(rig.node, connections)
            // Once for what is allocated for good.
            _ = try window(rig, plan)
            let before = try counts(rig)
            let measured = try window(rig, plan)
            let after = try counts(rig)
            rig.close()
            let calls = after.merging(before) { $0 - $1 }
            rows.append(
                Row(
                    connections: connections, events: measured.deliveries / connections,
                    deliveries: measured.deliveries, calls: calls))
        }
        let measured = rows
        let many = measured.last { $0.connections >= 100 }
        let serving = many.map { $0.perEvent(servingThread) / Double($0.connections) }
        return ReportPart(
            title: "Allocations", text: text(measured),
            findings: many.map { row in
                [
                    .atMost(
                        perDeliveryMax, Spread(serving.map { [$0] } ?? []),
                        "calls of malloc per delivered event by the serving loop, "
                            + "\(row.connections) connections: none (<= \(perDeliveryMax))")
                ]
            } ?? [],
            json: { json in
                json.array("allocations") { json in
                    for row in measured { append(row, to: &json) }
                }
            })
    }

    private static func window(_ rig: FanoutRig, _ plan: Plan) throws(BenchmarkError)
        -> FanoutWindow
    {
        try rig.measure(
            rig.node, eventsPerSecond: plan.eventsPerSecond, eventsPerBatch: 1,
            window: plan.window, p99Limit: .seconds(1), countsWrites: false)
    }

    private static func text(_ rows: [Row]) -> String {
        Columns.table(
            [
                "connections", "calls per delivered event", "of the serving loop, per event",
                "of the tail, per event", "of all others, per event",
            ],
            rows.map { row in
                let others =
                    row.total - (row.calls[servingThread] ?? 0) - (row.calls[tailThread] ?? 0)
                return [
                    Columns.number(Double(row.connections)), Columns.number(row.perDelivery),
                    Columns.number(row.perEvent(servingThread)),
                    Columns.number(row.perEvent(tailThread)),
                    Columns.number(Double(others) / Double(max(1, row.events))),
                ]
            })
    }

    private static func append(_ row: Row, to json: inout JSONText) {
        json.object { json in
            json.field("connections", row.connections)
            json.field("events", row.events)
            json.field("deliveries", row.deliveries)
            json.field("calls_per_delivery", row.perDelivery)
            json.object("calls") { json in
                for (thread, calls) in row.calls.sorted(by: { $0.key < $1.key }) {
                    json.field(thread, calls)
                }
            }
        }
    }

    /// Asks the node for its counts. The thread that answers is left out.
    private static func counts(_ rig: FanoutRig) throws(BenchmarkError) -> [String: Int] {
        let directory = rig.node.server.directory
        let path = "\(directory.path)/allocations"
        _ = unsafe unlink(path)
        _ = kill(rig.node.process, SIGUSR1)
        let deadline = MonotonicTime.now + .seconds(10)
        var text = ""
        while !text.hasSuffix("\n\n") {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "the node does not say what it has allocated")
            }
            _ = poll(nil, 0, 10)
            text = directory.end(of: "allocations", bytes: 65_536)
        }
        let own = KernelFile.text("/proc/\(rig.node.process)/comm").split(separator: "\n").first
        var counts: [String: Int] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let calls = Int(words[1]), words[0] != own ?? "" else {
                continue
            }
            counts[String(words[0])] = calls
        }
        return counts
    }
}
