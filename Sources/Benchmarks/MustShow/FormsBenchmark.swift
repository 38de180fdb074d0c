// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Observability

/// What streams cost over TLS, HTTP/2 and under a content coding, beside plain ones and the floor.
enum FormsBenchmark {
    struct Plan: Sendable {
        var rounds = 3
        var window: Duration = .seconds(4)
        var streams = 1_000
        var eventsPerSecond = 20.0

        static let quick = {
            var plan = Plan()
            plan.rounds = 1
            plan.window = .seconds(1)
            plan.streams = 400
            return plan
        }()
    }

    static let command = BenchmarkCommand(
        name: "forms",
        summary: "latency and CPU over TLS, HTTP/2, gzip and zstd beside plain streams",
        details: """
            The same schedule to as many streams in each form, in turns: plain HTTP/1.1, gzip, zstd,
            TLS, and HTTP/2 with 200 streams on a connection; and plain from the floor in C. The
            client decodes what it gets and counts events, so a delivery is one in every form.
            """,
        options: [
            BenchmarkOption("connections", "N", "Streams (1000)."),
            BenchmarkOption("rate", "N", "Events a second (20)."),
            BenchmarkOption("seconds", "N", "Length of one window (4)."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks forms --rounds 5",
        run: { options throws(BenchmarkError) in
            var plan = options.has("quick") ? Plan.quick : Plan()
            plan.rounds = try options.integer("rounds", in: 1...100) ?? plan.rounds
            plan.streams = try options.integer("connections", in: 1...19_000) ?? plan.streams
            if let rate = try options.integer("rate", in: 1...100_000) {
                plan.eventsPerSecond = Double(rate)
            }
            if let seconds = try options.integer("seconds", in: 1...600) {
                plan.window = .seconds(seconds)
            }
            try measure(plan).publish(options)
        })

    /// What a compressed delivery may take of the processor by what a plain one takes.
    static let codedCostMax = 1.2

    /// All windows of one form from one server.
    private struct Row {
        let side: FanoutSide.Name
        let form: ClientForm
        var windows: [FanoutWindow] = []

        var latency: LatencyHistogram {
            var all = LatencyHistogram()
            for window in windows { all.add(window.latency) }
            return all
        }

        func cost(of plain: Row) -> Spread {
            Spread(
                zip(windows, plain.windows).map {
                    $0.serverMicrosecondsPerDelivery / $1.serverMicrosecondsPerDelivery
                })
        }
    }

    static func measure(_ plan: Plan) throws(BenchmarkError) -> ReportPart {
        let rig = try FanoutRig(FanoutRigSettings(hasTLS: true))
        var rows =
            [Row(side: .floor, form: .plain)]
            + ClientForm.allCases.map { Row(side: .node, form: $0) }
        for round in 0..<plan.rounds {
            StandardError.say("\(plan.streams) streams in each form, round \(round + 1)")
            for turn in rows.indices {
                let index = (turn + round) % rows.count
                let side = rows[index].side == .floor ? rig.floor : rig.node
                try rig.open(side, plan.streams, form: rows[index].form)
                rows[index].windows.append(
                    try rig.measure(
                        side, eventsPerSecond: plan.eventsPerSecond, eventsPerBatch: 1,
                        window: plan.window, p99Limit: .seconds(1)))
                rig.close()
            }
        }
        let measured = rows
        let plain = measured[1]
        return ReportPart(
            title: "Forms", text: text(measured, plain, plan),
            findings: [ClientForm.gzip, .zstd].compactMap { form in
                measured.first { $0.form == form }.map { row in
                    Finding.atMost(
                        codedCostMax, row.cost(of: plain),
                        "\(form): CPU per delivery with \(plan.streams) connections, of plain's: "
                            + "<= 1.2")
                }
            },
            json: { json in
                json.array("forms") { json in
                    for row in measured {
                        json.object { json in
                            json.field("server", row.side.rawValue)
                            json.field("form", row.form.rawValue)
                            json.array("windows") { json in
                                for window in row.windows { FanoutReport.append(window, to: &json) }
                            }
                        }
                    }
                }
            })
    }

    private static func text(_ rows: [Row], _ plain: Row, _ plan: Plan) -> String {
        let table = Columns.table(
            [
                "server, form", "p50 ms", "p99 ms", "p999 ms", "us CPU/delivery", "of plain's",
                "bytes/delivery", "deliveries/write", "not in time",
            ],
            rows.map { row in
                let latency = row.latency
                return ["\(row.side), \(row.form)"]
                    + [0.5, 0.99, 0.999].map { Columns.number(latency.milliseconds($0)) }
                    + [
                        Columns.spread(Spread(row.windows.map(\.serverMicrosecondsPerDelivery))),
                        Columns.spread(row.cost(of: plain)),
                        Columns.number(Spread(row.windows.map(\.bytesPerDelivery)).median),
                        Columns.number(Spread(row.windows.map(\.deliveriesPerWrite)).median),
                        "\(row.windows.reduce(0) { $0 + $1.expected - $1.received })",
                    ]
            })
        return "\(plan.streams) streams, \(Columns.number(plan.eventsPerSecond)) events/s of 300 "
            + "bytes, \(plan.rounds) round(s); latency of all of them\n\n" + table
    }
}
