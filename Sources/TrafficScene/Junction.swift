// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a traffic light shows.
package enum SignalColour: String, Sendable { case green, yellow, red }

/// One lane of an approach. Vehicles do not change lanes.
package struct Lane: Sendable {
    /// The one that has driven farthest comes first.
    package internal(set) var vehicles: [Vehicle] = []
    let arrivalsPerSecond: Double
    /// Bicycles and most buses keep to the kerb.
    let isAtKerb: Bool
}

/// A road into a junction, watched by one camera.
package struct Approach: Sendable {
    package internal(set) var lanes: [Lane]
    package internal(set) var signal: SignalColour

    /// Every vehicle on the road.
    package var vehicles: [Vehicle] { lanes.flatMap(\.vehicles) }
}

/// Two one-way roads that cross behind a traffic light: one zone of the feed.
package struct Junction: Sendable {
    package let zoneID: String
    /// In km/h.
    package let speedLimit: Double
    package internal(set) var approaches: [Approach]
    private let cycleOffset: Int

    /// The geometry of every approach in metres.
    package enum Road {
        package static let stopLine = 180.0
        package static let length = 240.0
    }

    /// The light's cycle in milliseconds; each approach has half of it, the other half is red.
    private enum Cycle {
        static let green = 22_000
        static let yellow = 3_000
        static let allRed = 2_000
        static let half = green + yellow + allRed
    }

    private static let vehiclesPerLane = 64
    private static let speedLimits: [Double] = [50, 50, 60, 50]

    init(number: Int, random: inout SceneRandom) {
        zoneID = "zone\(number)"
        speedLimit = Self.speedLimits[(number - 1) % Self.speedLimits.count]
        cycleOffset = random.index(below: 2 * Cycle.half)
        approaches = (0..<2).map { _ in
            let lanes = (0..<2).map { lane in
                Lane(arrivalsPerSecond: random.between(0.07..<0.15), isAtKerb: lane == 1)
            }
            return Approach(lanes: lanes, signal: .red)
        }
    }

    /// Every vehicle of the zone.
    package var vehicles: [Vehicle] { approaches.flatMap(\.vehicles) }

    mutating func advance(
        to elapsed: Int,
        seconds: Double,
        random: inout SceneRandom,
        nextTrack: inout UInt64
    ) {
        for index in approaches.indices {
            changeSignal(of: index, at: elapsed)
            for lane in approaches[index].lanes.indices {
                drive(lane, of: index, seconds: seconds)
                let rate = approaches[index].lanes[lane].arrivalsPerSecond
                if random.happens(rate * seconds) {
                    enter(lane, of: index, random: &random, nextTrack: &nextTrack)
                }
            }
        }
    }

    private mutating func changeSignal(of index: Int, at elapsed: Int) {
        let time = (elapsed + cycleOffset + index * Cycle.half) % (2 * Cycle.half)
        let next: SignalColour =
            time < Cycle.green ? .green : time < Cycle.green + Cycle.yellow ? .yellow : .red
        let previous = approaches[index].signal
        approaches[index].signal = next
        guard next != previous, next != .red else { return }
        for lane in approaches[index].lanes.indices {
            for vehicle in approaches[index].lanes[lane].vehicles.indices {
                let subject = approaches[index].lanes[lane].vehicles[vehicle]
                let left = max(Road.stopLine - subject.position, 0.1)
                let neededBraking = subject.speed * subject.speed / (2 * left)
                approaches[index].lanes[lane].vehicles[vehicle].isPastStopping =
                    next == .yellow && neededBraking > 3
            }
        }
    }

    private mutating func drive(_ lane: Int, of index: Int, seconds: Double) {
        let mustStop = approaches[index].signal != .green
        var vehicles = approaches[index].lanes[lane].vehicles
        // The array moves out and back, so that it is changed in place.
        approaches[index].lanes[lane].vehicles = []
        for position in vehicles.indices {
            var ahead: [Vehicle.Obstacle] = []
            let subject = vehicles[position]
            if position > 0 {
                let leader = vehicles[position - 1]
                let gap = leader.position - leader.kind.size.length - subject.position
                ahead.append(.init(gap: gap, speed: leader.speed))
            }
            if mustStop, !subject.isPastStopping, subject.position < Road.stopLine {
                ahead.append(.init(gap: Road.stopLine - subject.position, speed: 0))
            }
            vehicles[position].drive(seconds: seconds, ahead: ahead)
        }
        vehicles.removeAll { $0.position > Road.length }
        approaches[index].lanes[lane].vehicles = vehicles
    }

    /// Lets a vehicle in where there is room; otherwise it has taken another road.
    private mutating func enter(
        _ lane: Int,
        of index: Int,
        random: inout SceneRandom,
        nextTrack: inout UInt64
    ) {
        let kind = Self.kind(atKerb: approaches[index].lanes[lane].isAtKerb, random: &random)
        let desired = desiredSpeed(of: kind, random: &random)
        var speed = desired
        if let last = approaches[index].lanes[lane].vehicles.last {
            let gap = last.position - last.kind.size.length
            guard gap > 12, approaches[index].lanes[lane].vehicles.count < Self.vehiclesPerLane
            else { return }
            // Slow enough to keep off a leader that brakes as gently as this one.
            speed = min(desired, (last.speed * last.speed + 4 * (gap - 10)).squareRoot())
        }
        approaches[index].lanes[lane].vehicles.append(
            Vehicle(
                track: nextTrack,
                kind: kind,
                position: 0,
                speed: speed,
                desiredSpeed: desired
            )
        )
        nextTrack += 1
    }

    private func desiredSpeed(of kind: VehicleClass, random: inout SceneRandom) -> Double {
        let limit = speedLimit / 3.6
        switch kind {
        case .bicycle: return random.between(5..<7.5)
        case .truck, .bus: return limit * random.between(0.78..<0.98)
        case .car, .motorcycle:
            return limit
                * (random.happens(0.12)
                    ? random.between(1.1..<1.4)
                    : random.between(0.86..<1.04))
        }
    }

    private static func kind(atKerb: Bool, random: inout SceneRandom) -> VehicleClass {
        let draw = random.index(below: 100)
        guard atKerb else {
            return draw < 82 ? .car : draw < 89 ? .truck : draw < 91 ? .bus : .motorcycle
        }
        return draw < 70
            ? .car
            : draw < 81 ? .truck : draw < 89 ? .bus : draw < 95 ? .motorcycle : .bicycle
    }
}
