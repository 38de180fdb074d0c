// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO

/// What connections cost that have nothing to do, and how fast they are accepted.
enum IdleBenchmark {
    struct Plan: Sendable {
        var rounds = 3
        var connections = [10_000, 19_000]
        /// For the forms that cost more than a plain connection.
        var formConnections = 2_000
        var nodes = 10
        var total = 150_000
        var hasNchan = true

        static let quick = {
            var plan = Plan()
            plan.rounds = 1
            plan.connections = [2_000]
            plan.formConnections = 400
            plan.nodes = 2
            plan.total = 4_000
            return plan
        }()
    }

    static let command = BenchmarkCommand(
        name: "idle",
        summary: "memory of idle connections on one node and on ten, and accepts/s",
        details: """
            Opens idle streams and reads how the server's resident memory grew, and how long it
            took. Plain streams beside the floor and nchan, in turns, on servers started anew; then
            streams over TLS, HTTP/2 and under a content coding; then so many nodes with so many
            streams in all, which processes of this program hold, because one process has no more
            descriptors than its hard limit. The kernel's own memory, about 8 KB for both ends of a
            connection, is not in it.
            """,
        options: [
            BenchmarkOption("connections", "LIST", "Counts, with commas (10000,19000)."),
            BenchmarkOption("nodes", "N", "Nodes of one cluster (10); 0 leaves them out."),
            BenchmarkOption("total", "N", "Streams to all of them (150000)."),
            BenchmarkOption(flag: "without-nchan", "Leave nchan out where it is installed."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks idle --connections 10000 --nodes 0",
        run: { options throws(BenchmarkError) in
            var plan = options.has("quick") ? Plan.quick : Plan()
            plan.rounds = try options.integer("rounds", in: 1...100) ?? plan.rounds
            plan.connections =
                try options.integers("connections", in: 1...1_000_000) ?? plan.connections
            plan.nodes = try options.integer("nodes", in: 0...100) ?? plan.nodes
            plan.total = try options.integer("total", in: 1...10_000_000) ?? plan.total
            plan.hasNchan = !options.has("without-nchan")
            try measure(plan).publish(options)
        })

    /// RSS that a plain connection may take.
    static let bytesMax = 1024.0

    /// What has been found so far; a part that fails leaves the others as they are.
    private struct Found {
        var runs: [[FanoutRig.Idle]] = []
        var fleet: Fleet?
        var findings: [Finding] = []
        var troubles: [String] = []

        mutating func attempt(
            _ line: String, _ body: (inout Found) throws(BenchmarkError) -> Void
        ) {
            do throws(BenchmarkError) {
                try body(&self)
            } catch {
                StandardError.say("\(line): \(error.detail)")
                troubles.append("\(line): not measured: \(error.detail)")
                findings.append(Finding(line: line, figure: "not measured", holds: nil))
            }
        }
    }

    static func measure(_ plan: Plan) throws(BenchmarkError) -> ReportPart {
        try DescriptorLimit.raise(for: plan.connections.max() ?? 1)
        var found = Found()
        for connections in plan.connections {
            let line = "RSS bytes per idle connection at \(connections): <= 1,024"
            found.attempt(line) { found throws(BenchmarkError) in
                let runs = try plainRounds(connections, plan)
                found.runs += runs
                let node = runs.filter { $0[0].name == .node }.flatMap { $0 }
                found.findings.append(
                    .atMost(bytesMax, Spread(node.map(\.bytesPerConnection)), line))
                found.findings.append(.atLeast(0.9, accepts(runs), acceptsLine(connections)))
            }
        }
        if plan.nodes > 0 {
            let line =
                "RSS bytes per idle connection, \(plan.nodes) nodes with \(plan.total) in all: "
                + "<= 1,024"
            found.attempt(line) { found throws(BenchmarkError) in
                StandardError.say("\(plan.nodes) nodes with \(plan.total) streams")
                let fleet = try Fleet.measure(nodes: plan.nodes, total: plan.total)
                found.fleet = fleet
                found.findings.append(.atMost(bytesMax, fleet.bytesPerConnection, line))
            }
        }
        found.attempt("forms") { found throws(BenchmarkError) in
            found.runs += try formRounds(plan)
        }
        let measured = found
        let text =
            [table(measured.runs)] + (measured.fleet.map { [$0.text] } ?? []) + measured.troubles
        return ReportPart(
            title: "Idle connections", text: text.joined(separator: "\n\n"),
            findings: measured.findings,
            json: { json in
                json.array("idle") { json in
                    for run in measured.runs.flatMap({ $0 }) { run.append(to: &json) }
                }
                if let fleet = measured.fleet { json.object("fleet") { fleet.append(to: &$0) } }
            })
    }

    private static func acceptsLine(_ connections: Int) -> String {
        "accepts/s at \(connections), of the floor's (as fast as it, to a tenth)"
    }

    /// The node's accepts a second by the floor's of the same round.
    private static func accepts(_ runs: [[FanoutRig.Idle]]) -> Spread {
        let node = runs.first { $0[0].name == .node } ?? []
        let floor = runs.first { $0[0].name == .floor } ?? []
        return Spread(zip(node, floor).map { $0.connectsPerSecond / $1.connectsPerSecond })
    }

    /// By server, all rounds of it. Servers are started anew for each round: memory that was used
    /// once is there for the next connections.
    private static func plainRounds(
        _ connections: Int, _ plan: Plan
    ) throws(BenchmarkError) -> [[FanoutRig.Idle]] {
        var byName: [FanoutSide.Name: [FanoutRig.Idle]] = [:]
        for round in 0..<plan.rounds {
            StandardError.say("\(connections) idle connections, round \(round + 1)")
            let rig = try FanoutRig(FanoutRigSettings(hasNchan: plan.hasNchan))
            for side in rig.sides(round: round) {
                do throws(BenchmarkError) {
                    byName[side.name, default: []].append(try rig.measureIdle(side, connections))
                } catch {
                    // A guest in the table: what it cannot hold is no reason to measure nothing.
                    guard side.name == .nchan else { throw error }
                    StandardError.say("nchan: \(error.detail)")
                }
            }
        }
        return FanoutSide.Name.allCases.compactMap { byName[$0] }
    }

    private static func formRounds(_ plan: Plan) throws(BenchmarkError) -> [[FanoutRig.Idle]] {
        var found: [[FanoutRig.Idle]] = []
        for form in ClientForm.allCases where form != .plain {
            StandardError.say("\(plan.formConnections) idle streams, \(form)")
            var runs: [FanoutRig.Idle] = []
            for _ in 0..<plan.rounds {
                let rig = try FanoutRig(FanoutRigSettings(hasTLS: form == .tls))
                runs.append(try rig.measureIdle(rig.node, plan.formConnections, form: form))
            }
            found.append(runs)
        }
        return found
    }

    private static func table(_ found: [[FanoutRig.Idle]]) -> String {
        Columns.table(
            [
                "server", "form", "streams", "connections", "RSS bytes/connection",
                "RSS bytes/stream", "accepts/s",
            ],
            found.map { runs in
                [
                    "\(runs[0].name)", runs[0].form.rawValue,
                    Columns.number(Double(runs[0].streams)),
                    Columns.number(Double(runs[0].connections)),
                    Columns.spread(Spread(runs.map(\.bytesPerConnection))),
                    Columns.spread(Spread(runs.map(\.bytesPerStream))),
                    Columns.spread(Spread(runs.map(\.connectsPerSecond))),
                ]
            })
    }
}
