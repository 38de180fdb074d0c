// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// Deliveries a second and latency of a node beside the floor's, in turns.
enum FanoutBenchmark {
    static let command = BenchmarkCommand(
        name: "fanout",
        summary: "deliveries/s, latency, memory and CPU beside a server in C, and nchan",
        details: """
            One event stream to 1, 1,000 and 10,000 connections, without filters, compression or
            TLS. Server on processor 0; on processor 1 the client, and for the node the source of
            events, Redis and Kafka. The floor is one epoll loop in C with one send() for each event
            (or batch) and connection; it makes its own events when they are due, so its latency
            has no way through Redis in it.

            The schedule is an open loop and latency counts from when an event was due. "Held" is
            the highest rate at which 99 % arrive, none twice, no connection is lost, and p99 is
            within the limit. The servers take turns; nchan in memory (Debian's nginx and
            libnginx-mod-nchan) is one of them where it is installed.
            """,
        options: [
            BenchmarkOption("connections", "LIST", "Counts, with commas (1,1000,10000)."),
            BenchmarkOption("mode", "MODE", "single or firehose (both)."),
            BenchmarkOption("path", "PATH", "The node's events: history or kafka (history)."),
            BenchmarkOption("seconds", "N", "Length of one window (3)."),
            BenchmarkOption("rate", "N", "Deliveries a second, instead of a search."),
            BenchmarkOption("batch", "N", "Events at once in firehose mode (16)."),
            BenchmarkOption("event-bytes", "N", "Size of an event's JSON (300)."),
            BenchmarkOption("p99-limit", "MS", "What \"held\" allows (250)."),
            BenchmarkOption(flag: "without-nchan", "Leave nchan out where it is installed."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks fanout --connections 1000 --mode single --rounds 5",
        run: run)

    private static func run(_ options: GivenOptions) throws(BenchmarkError) {
        let plan = try FanoutPlan(options)
        let report = try measure(plan)
        print(report.text)
        try OutputFiles.write(options, json: report.json, plot: report.plot, text: report.text)
    }

    static func measure(_ plan: FanoutPlan) throws(BenchmarkError) -> FanoutReport {
        try DescriptorLimit.raise(for: plan.connections.max() ?? 1)
        var results: [FanoutResult] = []
        var idle: [FanoutRig.Idle] = []
        for connections in plan.connections {
            let rig = try FanoutRig(
                FanoutRigSettings(
                    path: plan.path, eventBytes: plan.eventBytes, hasNchan: plan.hasNchan))
            if connections >= idleConnectionsMin, plan.measuresIdle {
                for side in rig.sides(round: 0) {
                    idle.append(try rig.measureIdle(side, connections))
                }
            }
            for mode in plan.modes {
                results.append(try measure(rig, mode, connections, plan))
            }
        }
        return FanoutReport(plan: plan, results: results, idle: idle)
    }

    /// Fewer say nothing about memory: pages are 4 KiB.
    private static let idleConnectionsMin = 1_000

    private static func measure(
        _ rig: FanoutRig, _ mode: FanoutMode, _ connections: Int, _ plan: FanoutPlan
    ) throws(BenchmarkError) -> FanoutResult {
        var result = FanoutResult(connections: connections, mode: mode)
        for round in 0..<plan.rounds {
            StandardError.say("\(connections) connections, \(mode), round \(round + 1)")
            for side in rig.sides(round: round) {
                try rig.open(side, connections)
                if mode == .single {
                    result.moderate[side.name, default: []].append(
                        try rig.measure(
                            side, eventsPerSecond: plan.moderateRate(connections: connections),
                            eventsPerBatch: 1, window: plan.moderateWindow ?? plan.window,
                            p99Limit: plan.p99Limit))
                }
                if let found = try best(rig, side, result, plan) {
                    result.best[side.name, default: []].append(found)
                }
                rig.close()
            }
        }
        return result
    }

    /// At the rate that is given, or at the highest that is held.
    private static func best(
        _ rig: FanoutRig, _ side: FanoutSide, _ result: FanoutResult, _ plan: FanoutPlan
    ) throws(BenchmarkError) -> FanoutWindow? {
        let perBatch = plan.eventsPerBatch(result.mode)
        if let fixed = plan.fixedRate {
            return try rig.measure(
                side, eventsPerSecond: fixed / Double(result.connections),
                eventsPerBatch: perBatch, window: plan.window, p99Limit: plan.p99Limit)
        }
        let before = result.best[side.name]?.last?.eventsPerSecond
        return try rig.search(
            side,
            from: before.map { $0 * 0.8 }
                ?? plan.firstRate(result.mode, connections: result.connections),
            eventsPerBatch: perBatch, plan: plan)
    }
}
