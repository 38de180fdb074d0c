// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import Testing
import TrafficScene

@Suite("Events of a traffic scene")
struct SceneEventTests {
    private static let start: UInt64 = 1_763_683_200_000
    private static let fields = [
        "event_type", "camera_id", "zone_id", "timestamp", "vehicle_classes", "confidence_scores",
        "detected_objects.track_id", "detected_objects.class", "detected_objects.confidence",
        "detected_objects.speed_kmh", "detected_objects.bbox.w", "vehicle_count", "avg_speed",
        "violations", "avg_violation_speed", "queue_length", "status", "reason", "analytics_type",
        "class_counts.car", "vehicles_in_view", "frame_number", "previous_status",
    ]

    /// One event, read back.
    private struct Read {
        let event: SceneEvent
        let table: FieldTable

        func texts(_ field: String) -> [String] {
            values(field).compactMap { value in
                guard case .text(let range) = value else { return nil }
                return table.string(of: range)
            }
        }

        func numbers(_ field: String) -> [Double] {
            values(field).compactMap { value in
                guard case .number(let number) = value else { return nil }
                return number
            }
        }

        private func values(_ field: String) -> FieldValues {
            table.values(row: 0, column: fields.firstIndex(of: field)!)
        }
    }

    /// Runs a scene tick by tick; every event is checked to be an object and read.
    private func run(
        seed: UInt64 = 11,
        seconds: Int,
        _ observe: (TrafficScene, Read, Int) -> Void
    ) throws {
        let paths = try JSONFieldPaths(Self.fields)
        let extractor = try JSONFieldExtractor(paths: paths, eventBytesMax: 2_000)
        var scene = TrafficScene(seed: seed)
        for tick in 1...seconds * 10 {
            let time = Self.start + UInt64(tick) * 100
            for event in scene.step(by: TrafficScene.tick, at: time) {
                var table = FieldTable(for: paths)
                #expect(extractor.extract(event.json.span, into: &table) == .object)
                let read = Read(event: event, table: table)
                #expect(read.numbers("timestamp") == [Double(time)])
                observe(scene, read, tick)
            }
        }
    }

    @Test("every event is compact JSON of its kind, under its camera's or zone's key")
    func shape() throws {
        var kinds: [String: Set<String>] = [:]
        try run(seconds: 300) { _, read, _ in
            let event = read.event
            #expect((90...700).contains(event.json.count))
            #expect(!event.json.contains { $0 <= 0x20 })
            #expect(read.texts(event.kind == .analytics ? "zone_id" : "camera_id") == [event.key])
            #expect(read.texts("zone_id").first?.hasPrefix("zone") == true)
            kinds[event.kind.rawValue, default: []].formUnion(read.texts("event_type"))
            if event.kind == .analytics {
                #expect(read.texts("analytics_type") == read.texts("event_type"))
            }
        }
        #expect(kinds["camera"] == ["status_change", "heartbeat"])
        #expect(kinds["detection"] == ["detection_result"])
        #expect(kinds["analytics"] == ["traffic_flow", "speed_calculation", "queue_length"])
    }

    @Test("what a camera detects are vehicles of its zone, with their speed and class")
    func detections() throws {
        var byTrack: [Double: String] = [:]
        var confidences: [String: (tick: Int, value: Double)] = [:]
        var perCamera: [String: Int] = [:]
        try run(seconds: 120) { scene, read, tick in
            guard read.event.kind == .detection else { return }
            perCamera[read.event.key, default: 0] += 1
            let zone = read.texts("zone_id")[0]
            let vehicles = scene.junctions.first { $0.zoneID == zone }?.vehicles ?? []
            let tracks = read.numbers("detected_objects.track_id")
            let classes = read.texts("detected_objects.class")
            #expect((1...3).contains(tracks.count))
            #expect(Set(tracks).count == tracks.count)
            #expect(classes == read.texts("vehicle_classes"))
            let scores = read.numbers("confidence_scores")
            #expect(scores == read.numbers("detected_objects.confidence"))
            #expect(scores.allSatisfy { $0 > 0.3 && $0 < 1 })
            #expect(read.numbers("detected_objects.bbox.w").allSatisfy { $0 >= 1 })
            #expect(read.numbers("vehicles_in_view")[0] >= Double(tracks.count))
            #expect(read.numbers("frame_number") == [(Double(tick) * 2.5).rounded(.down)])
            let speeds = read.numbers("detected_objects.speed_kmh")
            for (index, track) in tracks.enumerated() {
                let vehicle = vehicles.first { Double($0.track) == track }
                #expect(vehicle?.kind.rawValue == classes[index])
                #expect(abs((vehicle?.speedKilometresPerHour ?? -9) - speeds[index]) < 0.051)
                #expect(
                    byTrack.updateValue(classes[index], forKey: track) ?? classes[index]
                        == classes[index])
                // Distances change by a few metres between frames, and so does the confidence.
                let name = "\(read.event.key)/\(track)"
                if let last = confidences[name], tick - last.tick <= 5 {
                    let isSmooth = abs(last.value - scores[index]) < 0.06
                    // A camera that degrades or recovers sees a quarter less, or more, at once.
                    let ratio = last.value / scores[index]
                    #expect(
                        isSmooth || (0.7...0.82).contains(ratio) || (1.2...1.45).contains(ratio))
                }
                confidences[name] = (tick, scores[index])
            }
        }
        #expect(perCamera.count == 8)
        // 2 to 5 a second while vehicles are in view.
        #expect(perCamera.values.allSatisfy { $0 > 80 && $0 <= 600 })
    }

    @Test("the numbers of a zone are those of its vehicles")
    func analytics() throws {
        var violations = 0.0
        var queued = 0.0
        var seconds: [String: Int] = [:]
        try run(seconds: 300) { scene, read, _ in
            guard read.event.kind == .analytics else { return }
            let junction = scene.junctions.first { $0.zoneID == read.event.key }
            let vehicles = junction?.vehicles ?? []
            let speeds = vehicles.map(\.speedKilometresPerHour)
            let average = speeds.isEmpty ? 0 : speeds.reduce(0, +) / Double(speeds.count)
            switch read.texts("event_type").first {
            case "traffic_flow":
                seconds[read.event.key, default: 0] += 1
                #expect(read.numbers("vehicle_count") == [Double(vehicles.count)])
                #expect(abs(read.numbers("avg_speed")[0] - average) < 0.051)
                let cars = vehicles.count { $0.kind == .car }
                #expect(read.numbers("class_counts.car") == [Double(cars)])
            case "speed_calculation":
                let tooFast = speeds.filter { $0 > (junction?.speedLimit ?? 0) + 3 }
                #expect(read.numbers("violations") == [Double(tooFast.count)])
                let mean = tooFast.isEmpty ? 0 : tooFast.reduce(0, +) / Double(tooFast.count)
                #expect(abs(read.numbers("avg_violation_speed")[0] - mean) < 0.051)
                violations += Double(tooFast.count)
            case "queue_length":
                let standing = vehicles.count {
                    $0.speed < 1 && $0.position < Junction.Road.stopLine
                }
                #expect(read.numbers("queue_length") == [Double(standing)])
                queued = max(queued, read.numbers("queue_length")[0])
            default:
                Issue.record("an unknown event")
            }
        }
        #expect(seconds == ["zone1": 300, "zone2": 300, "zone3": 300, "zone4": 300])
        #expect(violations > 10)
        #expect(queued > 3)
    }

    @Test("a camera that fails says why, is silent while offline, and comes back")
    func cameraFaults() throws {
        var status: [String: String] = [:]
        var changes = 0
        try run(seconds: 1_200) { _, read, _ in
            let camera = read.event.key
            switch read.texts("event_type").first {
            case "status_change":
                changes += 1
                let previous = status.updateValue(read.texts("status")[0], forKey: camera)
                #expect(read.texts("previous_status") == [previous ?? "online"])
                #expect(read.texts("status") != read.texts("previous_status"))
                #expect(read.texts("reason").first?.isEmpty == false)
            case "heartbeat":
                #expect(read.texts("status") == [status[camera] ?? "online"])
                #expect(status[camera] != "offline")
            case "detection_result":
                #expect(status[camera] != "offline")
            default: break
            }
        }
        #expect(changes > 20)
        #expect(status.count == 8)
    }
}
