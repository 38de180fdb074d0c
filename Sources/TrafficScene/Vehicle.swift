// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What kind of vehicle a camera recognises.
package enum VehicleClass: String, Sendable, CaseIterable {
    case car, truck, bus, motorcycle, bicycle

    /// Length, width and height in metres.
    var size: (length: Double, width: Double, height: Double) {
        switch self {
        case .car: (4.5, 1.8, 1.5)
        case .truck: (9, 2.5, 3.4)
        case .bus: (12, 2.5, 3.1)
        case .motorcycle: (2.2, 0.8, 1.4)
        case .bicycle: (1.8, 0.6, 1.7)
        }
    }

    /// The acceleration on an empty road from standing, in m/s².
    var acceleration: Double {
        switch self {
        case .car: 1.8
        case .truck: 0.9
        case .bus: 1
        case .motorcycle: 2.6
        case .bicycle: 0.8
        }
    }

    /// How much harder than a car it is to recognise, as a part of the confidence.
    var confidencePenalty: Double {
        switch self {
        case .car: 0
        case .truck, .bus: 0.02
        case .motorcycle: 0.05
        case .bicycle: 0.08
        }
    }
}

/// A vehicle on one lane, from entering the scene to leaving it.
package struct Vehicle: Sendable, Equatable {
    /// Never given to another vehicle of the scene.
    package let track: UInt64
    package let kind: VehicleClass
    /// The front bumper, in metres from where the lane enters the scene.
    package internal(set) var position: Double
    /// In m/s; the position moves by exactly this.
    package internal(set) var speed: Double
    /// What the driver would drive on an empty road, in m/s.
    let desiredSpeed: Double
    /// Too close to the line to stop when the light turned yellow.
    var isPastStopping = false

    package var speedKilometresPerHour: Double { speed * 3.6 }

    /// What the driver has in front: the way to it, and its speed.
    struct Obstacle {
        let gap: Double
        let speed: Double
    }

    /// Drives on for `seconds` with `ahead` in front.
    ///
    /// Source: the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000), whose acceleration
    /// depends on the gap, the own speed and the difference of speeds only.
    mutating func drive(seconds: Double, ahead: [Obstacle]) {
        let comfortableBraking = 2.0
        let ratio = speed / desiredSpeed
        let free = kind.acceleration * (1 - ratio * ratio * ratio * ratio)
        var change = free
        var fastest = Double.infinity
        for obstacle in ahead {
            let gap = max(obstacle.gap, 0.1)
            let closing = speed * (speed - obstacle.speed)
            let braking = closing / (2 * (kind.acceleration * comfortableBraking).squareRoot())
            let wanted = Spacing.standing + max(0, speed * Spacing.seconds + braking)
            let part = wanted / gap
            change = min(change, free - kind.acceleration * part * part)
            // Whatever the model says, no vehicle drives into what is in front of it.
            fastest = min(fastest, max(0, obstacle.gap - Spacing.least) / seconds)
        }
        let limited = max(change, -Spacing.hardestBraking)
        speed = min(max(0, speed + limited * seconds), fastest)
        position += speed * seconds
    }

    /// What drivers keep between each other.
    enum Spacing {
        /// Metres between standing vehicles.
        static let standing = 2.0
        static let least = 0.5
        /// The time that a driver stays behind the one in front.
        static let seconds = 1.3
        /// In m/s².
        static let hardestBraking = 8.0
    }
}
