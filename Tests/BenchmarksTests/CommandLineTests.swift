// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Benchmarks

@Suite("Benchmarks' command line")
struct CommandLineTests {
    private static func fanout(_ arguments: String...) throws -> FanoutPlan {
        try FanoutPlan(GivenOptions(arguments, of: FanoutBenchmark.command))
    }

    @Test("values come after a space or an equals sign")
    func values() throws {
        let plan = try Self.fanout("--connections", "1,50", "--mode=single", "--seconds=2")
        #expect(plan.connections == [1, 50])
        #expect(plan.modes == [.single])
        #expect(plan.window == .seconds(2))
        #expect(plan.rounds == 3)
    }

    @Test("--quick makes it short, and what is given beside it wins")
    func quick() throws {
        let plan = try Self.fanout("--rounds", "2", "--quick")
        #expect(plan.window == .seconds(1))
        #expect(plan.rounds == 2)
    }

    @Test(
        "what is not accepted is refused with its name",
        arguments: [
            ["--conections", "1"], ["--connections", "1,,2"], ["--connections", "-5"],
            ["--connections"], ["--mode", "both"], ["--quick=1"], ["--rounds", "0"], ["extra"],
            ["--event-bytes", "79"], ["--rate", "1e9"],
        ])
    func refusals(arguments: [String]) {
        let error = #expect(throws: BenchmarkError.self) {
            try FanoutPlan(GivenOptions(arguments, of: FanoutBenchmark.command))
        }
        #expect(error?.code == .usage)
        let name = arguments[0].split(separator: "=")[0]
        #expect(error?.detail.contains(name) == true)
    }

    @Test("the help of each benchmark names each option", arguments: BenchmarkProgram.commands)
    func help(command: BenchmarkCommand) {
        for option in command.options { #expect(command.help.contains("--\(option.name)")) }
        for line in command.help.split(separator: "\n") {
            #expect(line.count <= 100, "\(line)")
        }
    }

    @Test("numbers have three digits that count")
    func numbers() {
        #expect(Columns.number(1_234_567) == "1 230 000")
        #expect(Columns.number(0.98765) == "0.988")
        #expect(Columns.number(12.345) == "12.3")
        #expect(Columns.number(999.6) == "1 000")
        #expect(Columns.number(0) == "0")
        #expect(Columns.number(.nan) == "-")
        #expect(Columns.number(-4.5) == "-4.50")
    }

    @Test("a plot draws each point, and no name can break out of it")
    func plot() {
        let plot = Plot(
            title: "<b>&",
            panels: [
                .init(
                    title: "p", xTitle: "x",
                    lines: [.init(name: "a", points: [(1, 10), (1_000, 500), (5, .nan)])])
            ])
        #expect(plot.svg.split(separator: "<circle").count == 3)
        #expect(plot.svg.contains("&lt;b&gt;&amp;"))
        #expect(!plot.svg.contains("nan"))
    }
}
