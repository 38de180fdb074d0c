// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Observability
import PosixIO

/// Everything that fan-out has to show, in one run with a list at its end.
enum MustShowBenchmark {
    static let command = BenchmarkCommand(
        name: "mustshow",
        summary: "everything that fan-out has to show, with a list of what holds",
        details: """
            Runs fanout, firehose, forms, slow, allocations and idle one after the other with the
            settings that the list is about, within 25 minutes; --quick takes about five and says
            whether everything works, not how fast it is. What cannot be measured here is listed as
            such and the rest goes on. Give the processors to it alone: it pins the servers to one
            and all else to another.
            """,
        options: [
            BenchmarkOption("only", "LIST", "Parts, with commas (all)."),
            BenchmarkOption(flag: "without-nchan", "Leave nchan out where it is installed."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks mustshow --json must.json --svg must.svg "
            + "--markdown must.md",
        run: run)

    /// What of it can be asked for alone.
    enum Part: String, Sendable, CaseIterable {
        case fanout
        case firehose
        case forms
        case slow
        case allocations
        case idle
    }

    private static func run(_ options: GivenOptions) throws(BenchmarkError) {
        let wanted = try parts(options)
        let began = MonotonicTime.now
        var measured: [ReportPart] = []
        for part in wanted {
            let start = MonotonicTime.now
            do throws(BenchmarkError) {
                measured.append(try measure(part, options))
            } catch {
                StandardError.say("\(part): \(error.detail)")
                measured.append(notMeasured(part, error))
            }
            StandardError.say(
                "\(part) took \(Columns.number((MonotonicTime.now - start).inSeconds)) s")
        }
        try ReportPart.publish(measured, options)
        StandardError.say("all took \(Columns.number((MonotonicTime.now - began).inSeconds)) s")
        let missed = measured.flatMap(\.findings).filter { $0.holds != true }
        guard missed.isEmpty else {
            throw BenchmarkError(.failed, "\(missed.count) of the list do not hold")
        }
    }

    private static func parts(_ options: GivenOptions) throws(BenchmarkError) -> [Part] {
        guard let text = options.text("only") else { return Part.allCases }
        var parts: [Part] = []
        for name in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let part = Part(rawValue: String(name)) else {
                let accepted = Part.allCases.map(\.rawValue).joined(separator: ", ")
                throw BenchmarkError(.usage, "--only \"\(text)\"; accepted: \(accepted)")
            }
            parts.append(part)
        }
        return parts
    }

    private static func notMeasured(_ part: Part, _ error: BenchmarkError) -> ReportPart {
        ReportPart(
            title: "\(part)", text: "Not measured: \(error.detail)",
            findings: [Finding(line: "\(part)", figure: "not measured", holds: nil)],
            json: { $0.field("error", error.detail) })
    }

    private static func measure(_ part: Part, _ options: GivenOptions) throws(BenchmarkError)
        -> ReportPart
    {
        let isQuick = options.has("quick")
        let rounds = try options.integer("rounds", in: 1...100)
        switch part {
        case .fanout:
            return try fanout(fanoutPlan(isQuick, rounds, options))
        case .firehose:
            return try firehose(firehosePlan(isQuick, rounds, options))
        case .forms:
            var plan = isQuick ? FormsBenchmark.Plan.quick : FormsBenchmark.Plan()
            plan.rounds = rounds ?? plan.rounds
            return try FormsBenchmark.measure(plan)
        case .slow:
            var plan = isQuick ? SlowBenchmark.Plan.quick : SlowBenchmark.Plan()
            plan.rounds = rounds ?? plan.rounds
            return try SlowBenchmark.measure(plan)
        case .allocations:
            return try AllocationsBenchmark.measure(isQuick ? .quick : .init())
        case .idle:
            var plan = isQuick ? IdleBenchmark.Plan.quick : IdleBenchmark.Plan()
            plan.rounds = rounds ?? plan.rounds
            plan.hasNchan = !options.has("without-nchan")
            return try IdleBenchmark.measure(plan)
        }
    }

    // MARK: - Fan-out

    private static func fanoutPlan(
        _ isQuick: Bool, _ rounds: Int?, _ options: GivenOptions
    ) -> FanoutPlan {
        var plan = FanoutPlan()
        plan.connections = [1_000, 10_000]
        plan.modes = [.single]
        plan.window = .seconds(1)
        plan.moderateWindow = .seconds(isQuick ? 2 : 8)
        if isQuick {
            plan.searchStep = 1.35
            plan.attempts = 1
        }
        plan.rounds = rounds ?? (isQuick ? 1 : 3)
        plan.measuresIdle = false
        plan.hasNchan = !options.has("without-nchan")
        return plan
    }

    /// The least of the floor's deliveries/s, by the number of connections.
    private static let shares = [1_000: 0.95, 10_000: 0.90]
    private static let latencyRatioMax = 1.15

    private static func fanout(_ plan: FanoutPlan) throws(BenchmarkError) -> ReportPart {
        let report = try FanoutBenchmark.measure(plan)
        var findings: [Finding] = []
        for result in report.results {
            let count = result.connections
            let share = shares[count] ?? 0.9
            findings.append(
                .atLeast(
                    share, result.ratios(.node),
                    "deliveries/s, one event at a time, \(count) connections, of the floor's: "
                        + ">= \(Columns.number(share))"))
        }
        for result in report.results {
            let rate = Columns.number(plan.moderateRate(connections: result.connections))
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                findings.append(
                    .atMost(
                        latencyRatioMax, result.moderateLatencyRatios(.node, share),
                        "\(result.connections) x \(rate) ev/s: \(name) of the floor's: <= 1.15"))
            }
        }
        return ReportPart(
            title: "Fan-out, one event at a time", text: report.text, findings: findings,
            json: { json in
                json.array("results") { json in
                    for result in report.results { FanoutReport.append(result, to: &json) }
                }
            }, panels: report.panels)
    }

    private static func firehosePlan(
        _ isQuick: Bool, _ rounds: Int?, _ options: GivenOptions
    ) -> FanoutPlan {
        var plan = FanoutPlan()
        plan.connections = [1_000]
        plan.modes = [.firehose]
        plan.batch = 8
        plan.p99Limit = .milliseconds(50)
        plan.window = .seconds(isQuick ? 1 : 2)
        if isQuick {
            plan.searchStep = 1.35
            plan.attempts = 1
        }
        plan.rounds = rounds ?? (isQuick ? 1 : 3)
        plan.measuresIdle = false
        plan.hasNchan = !options.has("without-nchan")
        return plan
    }

    private static let firehoseShare = 0.8

    private static func firehose(_ plan: FanoutPlan) throws(BenchmarkError) -> ReportPart {
        let report = try FanoutBenchmark.measure(plan)
        let limit = plan.p99Limit.inSeconds * 1000
        let findings = report.results.flatMap { result in
            [
                Finding.atLeast(
                    firehoseShare, result.ratios(.node),
                    "firehose, \(result.connections) connections, of the floor's with eight "
                        + "events a send: >= 0.8"),
                .atMost(
                    limit, result.spread(.node) { $0.latency.milliseconds(0.99) },
                    "firehose: p99 in ms there: < \(Columns.number(limit))"),
            ]
        }
        return ReportPart(
            title: "Firehose", text: report.text, findings: findings,
            json: { json in
                json.array("results") { json in
                    for result in report.results { FanoutReport.append(result, to: &json) }
                }
            })
    }
}
