// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The events of a scene as JSON, `event_type` first.
enum SceneReport {
    /// In km/h over the limit, below which nobody is reported.
    static let speedTolerance = 3.0
    /// In m/s, below which a vehicle stands.
    static let standingSpeed = 1.0

    static func status(
        _ camera: Camera,
        _ change: Camera.StatusChange,
        _ junction: Junction,
        at timestamp: Int
    ) -> [UInt8] {
        var text = head("status_change", camera, junction)
        text.member("status", camera.status.rawValue)
        text.member("previous_status", change.previous.rawValue)
        text.member("reason", change.reason)
        text.member("timestamp", timestamp)
        return text.finished()
    }

    static func heartbeat(_ camera: Camera, _ junction: Junction, elapsed: Int, at timestamp: Int)
        -> [UInt8]
    {
        var text = head("heartbeat", camera, junction)
        text.member("status", camera.status.rawValue)
        text.member("frame_number", frame(at: elapsed))
        text.member("frames_per_second", Camera.framesPerSecond)
        text.member("uptime_seconds", (elapsed - camera.onlineSince) / 1_000)
        text.member("timestamp", timestamp)
        return text.finished()
    }

    static func detection(
        _ camera: Camera,
        _ sights: [Camera.Sight],
        _ junction: Junction,
        elapsed: Int,
        at timestamp: Int
    ) -> [UInt8] {
        let nearest = sights.prefix(Camera.objectsPerFrame)
        var text = head("detection_result", camera, junction)
        text.member("frame_number", frame(at: elapsed))
        text.member("vehicles_in_view", sights.count)
        text.array("vehicle_classes") { text in
            for sight in nearest { text.element(sight.vehicle.kind.rawValue) }
        }
        text.array("confidence_scores") { text in
            for sight in nearest { text.element(sight.confidence, decimals: 3) }
        }
        text.array("detected_objects") { text in
            for sight in nearest {
                text.elementObject { object(sight, into: &$0) }
            }
        }
        text.member("timestamp", timestamp)
        return text.finished()
    }

    static func flow(_ junction: Junction, at timestamp: Int) -> [UInt8] {
        let vehicles = junction.vehicles
        var text = head("traffic_flow", junction)
        text.member("vehicle_count", vehicles.count)
        text.member("avg_speed", average(vehicles), decimals: 1)
        text.object("class_counts") { text in
            text.member("car", count(.car, vehicles))
            text.member("truck", count(.truck, vehicles))
            text.member("bus", count(.bus, vehicles))
            text.member("motorcycle", count(.motorcycle, vehicles))
            text.member("bicycle", count(.bicycle, vehicles))
        }
        text.array("signals") { text in
            for approach in junction.approaches { text.element(approach.signal.rawValue) }
        }
        text.member("timestamp", timestamp)
        return text.finished()
    }

    static func speeds(_ junction: Junction, at timestamp: Int) -> [UInt8] {
        let vehicles = junction.vehicles
        let limit = junction.speedLimit
        let tooFast = vehicles.filter { $0.speedKilometresPerHour > limit + speedTolerance }
        var text = head("speed_calculation", junction)
        text.member("violations", tooFast.count)
        text.member("avg_violation_speed", average(tooFast), decimals: 1)
        text.member("avg_speed", average(vehicles), decimals: 1)
        text.member("max_speed", vehicles.map(\.speedKilometresPerHour).max() ?? 0, decimals: 1)
        text.member("speed_limit", limit, decimals: 1)
        text.member("vehicle_count", vehicles.count)
        text.member("timestamp", timestamp)
        return text.finished()
    }

    static func queues(_ junction: Junction, at timestamp: Int) -> [UInt8] {
        let perLane = junction.approaches.flatMap(\.lanes).map { lane in
            lane.vehicles.count {
                $0.speed < standingSpeed && $0.position < Junction.Road.stopLine
            }
        }
        var text = head("queue_length", junction)
        text.member("queue_length", perLane.reduce(0, +))
        text.member("longest_lane_queue", perLane.max() ?? 0)
        text.array("lane_queues") { text in
            for count in perLane { text.element(count) }
        }
        text.array("signals") { text in
            for approach in junction.approaches { text.element(approach.signal.rawValue) }
        }
        text.member("timestamp", timestamp)
        return text.finished()
    }

    private static func head(_ type: String, _ camera: Camera, _ junction: Junction)
        -> JSONObjectText
    {
        var text = JSONObjectText()
        text.member("event_type", type)
        text.member("camera_id", camera.id)
        text.member("zone_id", junction.zoneID)
        return text
    }

    private static func head(_ type: String, _ junction: Junction) -> JSONObjectText {
        var text = JSONObjectText()
        text.member("event_type", type)
        text.member("analytics_type", type)
        text.member("zone_id", junction.zoneID)
        return text
    }

    private static func object(_ sight: Camera.Sight, into text: inout JSONObjectText) {
        text.member("track_id", Int(clamping: sight.vehicle.track))
        text.member("class", sight.vehicle.kind.rawValue)
        text.member("confidence", sight.confidence, decimals: 3)
        text.object("bbox") { text in
            text.member("x", sight.box.x)
            text.member("y", sight.box.y)
            text.member("w", sight.box.width)
            text.member("h", sight.box.height)
        }
        text.member("speed_kmh", sight.vehicle.speedKilometresPerHour, decimals: 1)
    }

    private static func frame(at elapsed: Int) -> Int { elapsed * Camera.framesPerSecond / 1_000 }

    /// In km/h; 0 where there is no vehicle.
    private static func average(_ vehicles: [Vehicle]) -> Double {
        guard !vehicles.isEmpty else { return 0 }
        return vehicles.reduce(0) { $0 + $1.speedKilometresPerHour } / Double(vehicles.count)
    }

    private static func count(_ kind: VehicleClass, _ vehicles: [Vehicle]) -> Int {
        vehicles.count { $0.kind == kind }
    }
}
