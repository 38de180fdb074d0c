// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How a camera is doing.
package enum CameraStatus: String, Sendable { case online, degraded, offline }

/// A camera above one approach: what it sees, how often, and how well.
struct Camera: Sendable {
    let id: String
    let junction: Int
    let approach: Int
    /// Between two detections, in milliseconds: 2 to 5 a second.
    let interval: Int
    /// Spreads the cameras' events over the second, in milliseconds.
    let phase: Int
    private(set) var status = CameraStatus.online
    private(set) var onlineSince = 0
    private var recoversAt = 0

    /// What the camera has in its picture.
    struct Sight {
        let vehicle: Vehicle
        let confidence: Double
        /// In pixels of a picture of 1920 by 1080.
        let box: (x: Int, y: Int, width: Int, height: Int)
    }

    /// A change that is worth an event.
    struct StatusChange {
        let previous: CameraStatus
        let reason: String
    }

    static let framesPerSecond = 25
    /// The nearest ones that the detector follows at a time.
    static let objectsPerFrame = 3
    /// Where the camera stands, and how far up the road it sees, in metres.
    private static let position = Junction.Road.stopLine + 25
    private static let sight = 130.0

    private static let faults: [(status: CameraStatus, reason: String)] = [
        (.degraded, "low_light"), (.degraded, "lens_obstructed"), (.degraded, "packet_loss"),
        (.degraded, "frame_rate_low"), (.offline, "connection_lost"), (.offline, "power_loss"),
    ]

    init(number: Int, junction: Int, approach: Int, random: inout SceneRandom) {
        id = "cam\(number)"
        self.junction = junction
        self.approach = approach
        interval = 200 + 100 * random.index(below: 4)
        phase = 100 * random.index(below: 10)
    }

    /// Whether the picture of this moment is looked at. A degraded camera manages every second one.
    func detects(at elapsed: Int) -> Bool {
        switch status {
        case .online: (elapsed + phase) % interval == 0
        case .degraded: (elapsed + phase) % (2 * interval) == 0
        case .offline: false
        }
    }

    /// The vehicles in the picture, nearest first.
    func sights(of approach: Approach) -> [Sight] {
        var sights: [(distance: Double, sight: Sight)] = []
        for (lane, vehicles) in approach.lanes.map(\.vehicles).enumerated() {
            for vehicle in vehicles {
                let distance = Self.position - vehicle.position
                guard distance > 4, distance < Self.sight else { continue }
                sights.append((distance, sight(of: vehicle, lane: lane, distance: distance)))
            }
        }
        return sights.sorted {
            ($0.distance, $0.sight.vehicle.track) < ($1.distance, $1.sight.vehicle.track)
        }
        .map(\.sight)
    }

    private func sight(of vehicle: Vehicle, lane: Int, distance: Double) -> Sight {
        let far = distance / Self.sight
        let best = 0.97 - vehicle.kind.confidencePenalty - 0.4 * far * far
        // A pinhole camera, with a focal length of 1200 pixels, six metres above the road.
        let scale = 1_200 / (distance + 6)
        let size = vehicle.kind.size
        let side = lane == 0 ? -1.8 : 1.8
        return Sight(
            vehicle: vehicle,
            confidence: status == .degraded ? best * 0.75 : best,
            box: (
                x: Int(960 + (side - size.width / 2) * scale),
                y: Int(300 + (6 - size.height) * scale * 0.6),
                width: max(1, Int(size.width * scale)),
                height: max(1, Int(size.height * scale))
            )
        )
    }

    /// Breaks now and then, and recovers after a while.
    mutating func advance(to elapsed: Int, seconds: Double, random: inout SceneRandom)
        -> StatusChange?
    {
        let previous = status
        guard status == .online else {
            guard elapsed >= recoversAt else { return nil }
            if status == .offline { onlineSince = elapsed }
            status = .online
            return StatusChange(previous: previous, reason: "recovered")
        }
        // Five minutes between faults of a camera, on average.
        guard random.happens(seconds / 300) else { return nil }
        let fault = Self.faults[random.index(below: Self.faults.count)]
        status = fault.status
        recoversAt = elapsed + 8_000 + 1_000 * random.index(below: 20)
        return StatusChange(previous: previous, reason: fault.reason)
    }
}
