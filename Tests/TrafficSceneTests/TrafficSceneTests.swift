// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing
import TrafficScene

@Suite("Traffic scene")
struct TrafficSceneTests {
    private static let start: UInt64 = 1_763_683_200_000

    /// Runs a scene tick by tick; `observe` sees it after each one.
    private func run(
        seed: UInt64 = 7,
        seconds: Int,
        _ observe: (TrafficScene, [SceneEvent]) throws -> Void
    ) rethrows {
        var scene = TrafficScene(seed: seed)
        for tick in 1...seconds * 10 {
            let events = scene.step(by: TrafficScene.tick, at: Self.start + UInt64(tick) * 100)
            try observe(scene, events)
        }
    }

    private func allEvents(seed: UInt64, seconds: Int) -> [SceneEvent] {
        var all: [SceneEvent] = []
        run(seed: seed, seconds: seconds) { all += $1 }
        return all
    }

    @Test("the same seed gives the same events, another seed others")
    func deterministic() {
        let first = allEvents(seed: 1, seconds: 60)
        #expect(first == allEvents(seed: 1, seconds: 60))
        #expect(first != allEvents(seed: 2, seconds: 60))
    }

    @Test("steps of any length give the same events at the same times")
    func stepLength() {
        let ticks = allEvents(seed: 3, seconds: 30)
        var scene = TrafficScene(seed: 3)
        var others: [SceneEvent] = []
        var time = 0
        while time < 30_000 {
            let step = min([7, 33, 250, 1_999][others.count % 4], 30_000 - time)
            time += step
            others += scene.step(by: .milliseconds(step), at: Self.start + UInt64(time))
        }
        #expect(others == ticks)
    }

    @Test("a step that is negative does nothing, and one that is too long is cut")
    func oddSteps() {
        var scene = TrafficScene(seed: 4)
        #expect(scene.step(by: .seconds(-5), at: Self.start).isEmpty)
        #expect(scene.step(by: .zero, at: Self.start).isEmpty)
        let long = scene.step(by: .seconds(1_000_000_000), at: Self.start)
        var other = TrafficScene(seed: 4)
        #expect(long == other.step(by: TrafficScene.longestStep, at: Self.start))
        #expect(!scene.step(by: .seconds(1), at: 0).isEmpty)
    }

    @Test("a vehicle moves by its speed, keeps its class, and never drives into another")
    func continuity() throws {
        var known: [UInt64: Vehicle] = [:]
        var seenClasses: Set<VehicleClass> = []
        run(seconds: 300) { scene, _ in
            var present: [UInt64: Vehicle] = [:]
            for lane in scene.junctions.flatMap(\.approaches).flatMap(\.lanes) {
                for (ahead, behind) in zip(lane.vehicles, lane.vehicles.dropFirst()) {
                    #expect(ahead.position > behind.position + 1.5)
                }
                for vehicle in lane.vehicles {
                    #expect(vehicle.speed >= 0 && vehicle.speed < 30)
                    #expect(vehicle.position <= Junction.Road.length)
                    if let before = known[vehicle.track] {
                        #expect(before.kind == vehicle.kind)
                        let moved = vehicle.position - before.position
                        #expect(abs(moved - vehicle.speed * 0.1) < 1e-9)
                    } else {
                        #expect(vehicle.position == 0)
                    }
                    #expect(present.updateValue(vehicle, forKey: vehicle.track) == nil)
                    seenClasses.insert(vehicle.kind)
                }
            }
            for (track, gone) in known where present[track] == nil {
                #expect(gone.position + gone.speed * 0.1 > Junction.Road.length - 1)
            }
            known = present
        }
        #expect(seenClasses == Set(VehicleClass.allCases))
    }

    @Test("no one crosses the line on red who was not on the way when it was yellow")
    func redLight() {
        var before: TrafficScene?
        var crossings = 0
        var redTicks: [String: Int] = [:]
        run(seconds: 300) { scene, _ in
            defer { before = scene }
            guard let before else { return }
            for (zone, junction) in scene.junctions.enumerated() {
                #expect(junction.approaches.count { $0.signal != .red } <= 1)
                for (index, approach) in junction.approaches.enumerated() {
                    let earlier = before.junctions[zone].approaches[index]
                    let behind = Set(
                        earlier.vehicles.filter { $0.position < Junction.Road.stopLine }
                            .map(\.track)
                    )
                    let crossed = approach.vehicles.filter {
                        behind.contains($0.track) && $0.position >= Junction.Road.stopLine
                    }
                    crossings += crossed.count
                    let name = "\(junction.zoneID)/\(index)"
                    guard approach.signal == .red else {
                        redTicks[name] = 0
                        continue
                    }
                    redTicks[name, default: 0] += 1
                    // Who could not stop for yellow is through within seconds, and not creeping.
                    #expect(crossed.isEmpty || redTicks[name, default: 0] <= 20)
                    #expect(crossed.allSatisfy { $0.speed > 1 })
                }
            }
        }
        #expect(crossings > 200)
    }

    @Test("queues form and dissolve, and vehicles of every lane get through")
    func flow() {
        var longest = 0
        var tracks: Set<UInt64> = []
        var present = 0
        run(seconds: 300) { scene, _ in
            let vehicles = scene.junctions.flatMap(\.vehicles)
            tracks.formUnion(vehicles.map(\.track))
            present = vehicles.count
            longest = max(longest, vehicles.count { $0.speed < 1 })
        }
        #expect(longest > 5)
        #expect(tracks.count > 200)
        #expect(present < 200)
    }
}
