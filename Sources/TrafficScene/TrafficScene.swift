// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A small town's traffic, as its cameras and zones would report it.
///
/// Threads: a value, so whoever holds it. No clock and no outside chance: the same seed and the
/// same steps give the same events, byte for byte. Four junctions (`zone1`...), each with two
/// roads of two lanes behind one traffic light, and a camera above every road (`cam1`...).
/// Vehicles keep their track number and class from entering to leaving, move by their speed, and
/// every count in an event is a count of them.
package struct TrafficScene: Sendable {
    package private(set) var junctions: [Junction]
    private var cameras: [Camera]
    private var random: SceneRandom
    private var nextTrack: UInt64 = 1
    /// Milliseconds since the scene began; vehicles move in ticks.
    private var elapsed = 0
    /// Time given to ``step(by:at:)`` that did not fill a tick.
    private var surplus = Duration.zero

    /// What one movement of everything lasts. Steps of any length give the same scene.
    package static let tick: Duration = .milliseconds(100)
    /// The most that one step can be, so that a stopped process does not have to catch up.
    package static let longestStep: Duration = .seconds(60)

    private static let tickMilliseconds = 100
    private static let tickSeconds = 0.1
    private static let junctionCount = 4
    private static let heartbeatMilliseconds = 10_000

    package init(seed: UInt64) {
        var random = SceneRandom(seed: seed)
        junctions = (1...Self.junctionCount).map { Junction(number: $0, random: &random) }
        cameras = (0..<Self.junctionCount * 2).map {
            Camera(number: $0 + 1, junction: $0 / 2, approach: $0 % 2, random: &random)
        }
        self.random = random
    }

    /// The scene goes on by `duration` and returns what was seen on the way, in order of time.
    ///
    /// - Parameters:
    ///   - duration: Nothing happens if it is negative; past ``longestStep`` it is cut.
    ///   - wallMilliseconds: The calendar time at the end of the step, since 1970-01-01 UTC, from
    ///     which each event gets its own `timestamp`.
    package mutating func step(by duration: Duration, at wallMilliseconds: UInt64) -> [SceneEvent] {
        surplus += min(max(duration, .zero), Self.longestStep)
        var events: [SceneEvent] = []
        while surplus >= Self.tick {
            surplus -= Self.tick
            let (seconds, attoseconds) = surplus.components
            let ago = UInt64(seconds) * 1_000 + UInt64(attoseconds / 1_000_000_000_000_000)
            tick(at: wallMilliseconds > ago ? wallMilliseconds - ago : 0, into: &events)
        }
        return events
    }

    private mutating func tick(at time: UInt64, into events: inout [SceneEvent]) {
        elapsed += Self.tickMilliseconds
        for index in junctions.indices {
            junctions[index].advance(
                to: elapsed,
                seconds: Self.tickSeconds,
                random: &random,
                nextTrack: &nextTrack
            )
        }
        let timestamp = Int(clamping: time)
        for index in cameras.indices {
            let change = cameras[index].advance(
                to: elapsed,
                seconds: Self.tickSeconds,
                random: &random
            )
            report(cameras[index], change, at: timestamp, into: &events)
        }
        for index in junctions.indices { report(zone: index, at: timestamp, into: &events) }
    }

    private func report(
        _ camera: Camera,
        _ change: Camera.StatusChange?,
        at timestamp: Int,
        into events: inout [SceneEvent]
    ) {
        let junction = junctions[camera.junction]
        if let change {
            let json = SceneReport.status(camera, change, junction, at: timestamp)
            events.append(SceneEvent(kind: .camera, key: camera.id, json: json))
        }
        let isHeartbeatDue = (elapsed + 10 * camera.phase) % Self.heartbeatMilliseconds == 0
        if camera.status != .offline, isHeartbeatDue {
            let json = SceneReport.heartbeat(camera, junction, elapsed: elapsed, at: timestamp)
            events.append(SceneEvent(kind: .camera, key: camera.id, json: json))
        }
        guard camera.detects(at: elapsed) else { return }
        let sights = camera.sights(of: junction.approaches[camera.approach])
        guard !sights.isEmpty else { return }
        let json = SceneReport.detection(camera, sights, junction, elapsed: elapsed, at: timestamp)
        events.append(SceneEvent(kind: .detection, key: camera.id, json: json))
    }

    /// Flow every second, speeds and queues every two, each zone at its own tenth.
    private func report(zone: Int, at timestamp: Int, into events: inout [SceneEvent]) {
        let junction = junctions[zone]
        let time = elapsed + 200 * zone
        func append(_ json: [UInt8]) {
            events.append(SceneEvent(kind: .analytics, key: junction.zoneID, json: json))
        }
        if time % 1_000 == 0 { append(SceneReport.flow(junction, at: timestamp)) }
        if time % 2_000 == 400 { append(SceneReport.speeds(junction, at: timestamp)) }
        if time % 2_000 == 1_400 { append(SceneReport.queues(junction, at: timestamp)) }
    }
}
