// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import HistorySimulation
import Testing

@Suite("The simulation", .timeLimit(.minutes(5)))
struct SimulationTests {
    private static let environment = ProcessInfo.processInfo.environment

    /// Goal: no order of steps and faults makes history lie. Method: thousands of seeds, each a
    /// cluster of its own. `SIMULATION_SEED` runs one of them again and prints what
    /// happened in it, `SIMULATION_SEEDS` says how many to run.
    @Test("every seed keeps the rules")
    func seeds() {
        if let seed = Self.environment["SIMULATION_SEED"].flatMap({ UInt64($0) }) {
            var simulation = Simulation(seed: seed)
            simulation.tracesClients = true
            let offence = simulation.run()
            print(simulation.trace.joined(separator: "\n"))
            #expect(offence == nil, "seed \(seed)")
            return
        }
        let count = Self.environment["SIMULATION_SEEDS"].flatMap { UInt64($0) } ?? 1000
        var broken = 0
        for seed in 1...count {
            var simulation = Simulation(seed: seed)
            guard let offence = simulation.run() else { continue }
            Issue.record("SIMULATION_SEED=\(seed): \(offence)")
            broken += 1
            if broken == 5 { break }
        }
    }

    @Test("what is broken on purpose is found", arguments: Simulation.Canary.allCases)
    func canaries(_ canary: Simulation.Canary) {
        let found = (1...200).contains { seed in
            var simulation = Simulation(seed: UInt64(seed), canary: canary)
            return simulation.run() != nil
        }
        #expect(found, "\(canary)")
    }
}
