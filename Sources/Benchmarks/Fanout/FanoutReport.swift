// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Observability
import PosixIO

/// All windows that count, of one number of connections in one mode.
struct FanoutResult: Sendable {
    let connections: Int
    let mode: FanoutMode
    /// By round: the highest rate held, or the fixed one.
    var best: [FanoutSide.Name: [FanoutWindow]] = [:]
    /// By round, at a moderate load; in ``FanoutMode/single`` only.
    var moderate: [FanoutSide.Name: [FanoutWindow]] = [:]

    func spread(_ side: FanoutSide.Name, _ value: (FanoutWindow) -> Double) -> Spread {
        Spread((best[side] ?? []).map(value))
    }

    /// A side's deliveries a second by the floor's of the same round.
    func ratios(_ side: FanoutSide.Name) -> Spread {
        Spread(
            zip(best[side] ?? [], best[.floor] ?? []).map {
                $0.deliveriesPerSecond / $1.deliveriesPerSecond
            })
    }

    /// A side's latency at the moderate load by the floor's of the same round.
    func moderateLatencyRatios(_ side: FanoutSide.Name, _ share: Double) -> Spread {
        Spread(
            zip(moderate[side] ?? [], moderate[.floor] ?? []).map {
                $0.latency.milliseconds(share) / $1.latency.milliseconds(share)
            })
    }

    /// The sides that took part, in the order in which they are shown.
    var sides: [FanoutSide.Name] {
        FanoutSide.Name.allCases.filter { best[$0] != nil || moderate[$0] != nil }
    }

    /// What a delivery takes of the server's processor at the moderate load, in microseconds.
    func moderateCost(_ side: FanoutSide.Name) -> Spread {
        Spread((moderate[side] ?? []).map(\.serverMicrosecondsPerDelivery))
    }

    /// The same by the floor's of the same round.
    func moderateCostRatios(_ side: FanoutSide.Name) -> Spread {
        Spread(
            zip(moderate[side] ?? [], moderate[.floor] ?? []).map {
                $0.serverMicrosecondsPerDelivery / $1.serverMicrosecondsPerDelivery
            })
    }

    /// The latencies of all rounds at the moderate load.
    func moderateLatency(_ side: FanoutSide.Name) -> LatencyHistogram {
        var all = LatencyHistogram()
        for window in moderate[side] ?? [] { all.add(window.latency) }
        return all
    }
}

/// The figures of the fan-out benchmark, for people, programs and the eye.
struct FanoutReport {
    let plan: FanoutPlan
    let results: [FanoutResult]
    let idle: [FanoutRig.Idle]

    // MARK: - For people

    var text: String {
        var parts = [
            OutputFiles.machine,
            "events of \(plan.eventBytes) bytes, \(plan.path.explanation)",
            "median (minimum–maximum) of \(plan.rounds) round(s), windows of "
                + "\(Columns.number(plan.window.inSeconds)) s; a ratio is of one round",
            "",
            plan.fixedRate == nil ? "Highest rate held" : "At the rate given",
            throughputTable,
        ]
        if results.contains(where: { !$0.moderate.isEmpty }) {
            parts += ["", "Latency at a moderate load, from due to read, all rounds", latencyTable]
        }
        if !idle.isEmpty { parts += ["", "Idle connections", idleTable] }
        parts += ["", disturbance]
        return parts.joined(separator: "\n")
    }

    var throughputTable: String {
        var rows: [[String]] = []
        for result in results {
            let mode = result.mode == .single ? "one at a time" : "\(plan.batch) at a time"
            for side in result.sides {
                func spread(_ value: (FanoutWindow) -> Double) -> String {
                    Columns.spread(result.spread(side, value))
                }
                rows.append(
                    [
                        Columns.number(Double(result.connections)), mode, "\(side)",
                        Columns.spread(result.ratios(side)), spread(\.deliveriesPerSecond),
                        spread { $0.latency.milliseconds(0.99) },
                        spread(\.serverMicrosecondsPerDelivery),
                        side == .nchan ? "-" : spread(\.deliveriesPerWrite),
                    ])
            }
        }
        return Columns.table(
            [
                "connections", "events come", "server", "of the floor's", "deliveries/s",
                "p99 ms", "us CPU/delivery", "events/write",
            ], rows)
    }

    var latencyTable: String {
        var rows: [[String]] = []
        for result in results where !result.moderate.isEmpty {
            let rate = plan.moderateRate(connections: result.connections)
            for side in result.sides {
                let latency = result.moderateLatency(side)
                rows.append(
                    ["\(result.connections) x \(Columns.number(rate))/s", "\(side)"]
                        + [0.5, 0.99, 0.999].map { Columns.number(latency.milliseconds($0)) }
                        + [
                            Columns.number(latency.maximumMilliseconds),
                            Columns.spread(result.moderateLatencyRatios(side, 0.5)),
                            Columns.spread(result.moderateLatencyRatios(side, 0.99)),
                            Columns.spread(result.moderateCost(side)),
                            Columns.spread(result.moderateCostRatios(side)),
                        ])
            }
        }
        return Columns.table(
            [
                "load", "server", "p50 ms", "p99 ms", "p999 ms", "max ms", "p50 of the floor's",
                "p99 of the floor's", "us CPU/delivery", "of the floor's",
            ], rows)
    }

    private var idleTable: String {
        Columns.table(
            ["connections", "server", "RSS bytes each", "connects/s"],
            idle.map {
                [
                    Columns.number(Double($0.connections)), "\($0.name)",
                    Columns.number($0.bytesPerConnection), Columns.number($0.connectsPerSecond),
                ]
            })
    }

    /// How far the figures can be trusted.
    var disturbance: String {
        let windows = results.flatMap { result in
            (Array(result.best.values) + Array(result.moderate.values)).flatMap { $0 }
        }
        let foreign = Spread(windows.map { $0.foreignShare * 100 })
        let client = Spread(windows.map { $0.clientProcessorBusy * 100 })
        return "of the server's processor others took \(Columns.spread(foreign)) % of the time; "
            + "the client's was \(Columns.spread(client)) % busy"
    }

    // MARK: - For programs

    var json: JSONText {
        var json = JSONText(reserving: 16_384)
        json.object { text in
            OutputFiles.begin(&text, benchmark: "fanout")
            text.field("path", plan.path.rawValue)
            text.field("event_bytes", plan.eventBytes)
            text.field("batch", plan.batch)
            text.field("window_s", plan.window.inSeconds)
            text.field("p99_limit_ms", plan.p99Limit.inSeconds * 1000)
            text.array("results") { text in
                for result in results { Self.append(result, to: &text) }
            }
            text.array("idle") { text in
                for side in idle { side.append(to: &text) }
            }
        }
        return json
    }

    static func append(_ result: FanoutResult, to text: inout JSONText) {
        text.object { text in
            text.field("connections", result.connections)
            text.field("mode", result.mode.rawValue)
            text.field("ratio_median", result.ratios(.node).median)
            for side in FanoutSide.Name.allCases {
                text.array("\(side)_best") { text in
                    for window in result.best[side] ?? [] { append(window, to: &text) }
                }
                text.array("\(side)_moderate") { text in
                    for window in result.moderate[side] ?? [] { append(window, to: &text) }
                }
            }
        }
    }

    static func append(_ window: FanoutWindow, to text: inout JSONText) {
        text.object { text in
            text.field("events_per_s", window.eventsPerSecond)
            text.field("deliveries_per_s", window.deliveriesPerSecond)
            text.field("expected", window.expected)
            text.field("received", window.received)
            text.field("p50_ms", window.latency.milliseconds(0.5))
            text.field("p99_ms", window.latency.milliseconds(0.99))
            text.field("p999_ms", window.latency.milliseconds(0.999))
            text.field("max_ms", window.latency.maximumMilliseconds)
            text.field("deliveries_per_write", window.deliveriesPerWrite)
            text.field("server_us_per_delivery", window.serverMicrosecondsPerDelivery)
            text.field("server_cpu_s", window.serverSeconds)
            text.field("client_cpu_s", window.clientSeconds)
            text.field("server_processor_busy", window.serverProcessorBusy)
            text.field("client_processor_busy", window.clientProcessorBusy)
            text.field("foreign_share", window.foreignShare)
        }
    }

    // MARK: - For the eye

    var plot: Plot {
        return Plot(
            title: "Fan-out of a node beside the floor in C", panels: panels)
    }

    var panels: [Plot.Panel] {
        func lines(_ value: (FanoutResult, FanoutSide.Name) -> Double) -> [Plot.Line] {
            plan.modes.flatMap { mode in
                (results.first?.sides ?? []).map { side in
                    Plot.Line(
                        name: "\(side), \(mode)",
                        points: results.filter { $0.mode == mode }.map {
                            (x: Double($0.connections), y: value($0, side))
                        })
                }
            }
        }
        return [
            Plot.Panel(
                title: "deliveries/s held", xTitle: "connections",
                lines: lines { $0.spread($1) { $0.deliveriesPerSecond }.median }),
            Plot.Panel(
                title: "p99 there, ms", xTitle: "connections",
                lines: lines { $0.spread($1) { $0.latency.milliseconds(0.99) }.median }),
        ]
    }
}
