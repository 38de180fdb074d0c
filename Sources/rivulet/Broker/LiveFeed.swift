// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import PosixIO
import TrafficScene

/// Plays the simulated town in real time into Kafka.
///
/// Threads: one; deliveries are reported on the producer's.
final class LiveFeed {
    static func topic(of kind: SceneEvent.Kind) -> String {
        switch kind {
        case .camera: "its.camera.events"
        case .detection: "its.detections"
        case .analytics: "its.analytics"
        }
    }

    /// An event of the feed is of no interest when it comes later than this.
    private static let deliveryTimeout: Duration = .seconds(10)
    /// How much the feed may catch up after the process was stopped.
    private static let catchUp: Duration = .seconds(1)
    /// Without a delivery for this long the broker counts as away.
    private static let silence: Duration = .seconds(3)

    private let settings: FeedSettings
    private let stop: StopSignals
    private let tally = DeliveryTally()
    private var producer: KafkaProducer
    private var scene: TrafficScene
    private var handedOver = 0
    private var dropped = 0
    private var isAway = false
    private var watchedDelivered = 0
    private var watchedSince = MonotonicTime.now

    init(_ settings: FeedSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        scene = TrafficScene(seed: settings.seed)
        producer = try Self.connect(settings)
    }

    private static func connect(_ settings: FeedSettings) throws(ProgramError) -> KafkaProducer {
        do {
            return try KafkaProducer(
                settings: settings.kafka,
                producer: KafkaProducerSettings(
                    linger: .milliseconds(5), queuedBytesMax: 16 << 20,
                    deliveryTimeout: deliveryTimeout),
                log: KafkaOptions.log)
        } catch { throw KafkaOptions.failure(error) }
    }

    /// Plays until a signal comes.
    func run() throws(ProgramError) -> ExitStatus {
        checkTopics()
        let interval = Self.tickInterval(scene, rate: settings.rate)
        let servers = settings.kafka.bootstrapServers.joined(separator: ",")
        StandardStream.say("playing seed \(settings.seed) to \(servers)")
        var due = MonotonicTime.now
        watchedSince = due
        while !stop.sleep(until: due) {
            let now = MonotonicTime.now
            if now - due > Self.catchUp { due = now }
            for event in scene.step(by: TrafficScene.tick, at: WallClock.milliseconds) {
                send(event)
            }
            try watch(now)
            due = due + interval
        }
        _ = producer.close(within: .seconds(2))
        StandardStream.say(
            "\(Tabulation.count(tally.delivered, "event")) published, "
                + "\(Tabulation.grouped(handedOver - tally.delivered + dropped)) not")
        return .success
    }

    /// How long a tick of the scene takes for `rate` events a second, or as the scene gives.
    static func tickInterval(_ scene: TrafficScene, rate: Double?) -> Duration {
        guard let rate else { return TrafficScene.tick }
        // The scene is a value: a copy of it tells what a minute holds.
        var rehearsal = scene
        let events = rehearsal.step(by: .seconds(60), at: 60_000).count
        let perSecond = Double(max(events, 1)) / 60
        let seconds = TrafficScene.tick.inSeconds * perSecond / rate
        return .nanoseconds(Int64(min(max(seconds, 1e-6), 3_600) * 1e9))
    }

    private func checkTopics() {
        guard let topics = try? producer.topics(within: KafkaOptions.connectTimeout) else {
            return lose()
        }
        for kind in SceneEvent.Kind.allCases {
            let topic = Self.topic(of: kind)
            guard !topics.contains(where: { $0.name == topic }) else { continue }
            StandardStream.say("topic \(topic) does not exist; the broker is asked to create it")
        }
    }

    private func send(_ event: SceneEvent) {
        do throws(KafkaError) {
            try producer.produce(
                topic: Self.topic(of: event.kind), key: Array(event.key.utf8), value: event.json,
                completion: { [tally] in tally.record($0) })
            handedOver += 1
        } catch {
            // Live events that nobody takes are dropped: the next ones are of more interest.
            dropped += 1
        }
    }

    // MARK: - A broker that goes away

    /// Says once that the broker is away, and once that it is back.
    private func watch(_ now: MonotonicTime) throws(ProgramError) {
        let delivered = tally.delivered
        if delivered > watchedDelivered || handedOver == tally.settled {
            if isAway, delivered > watchedDelivered {
                isAway = false
                StandardStream.say("Kafka answers again; the feed goes on")
            }
            watchedDelivered = delivered
            watchedSince = now
        } else if now - watchedSince > Self.silence, !isAway {
            lose()
        }
        guard producer.fatalError != nil else { return }
        // The client is beyond repair; a new one is not.
        _ = producer.close(within: .milliseconds(100))
        producer = try Self.connect(settings)
    }

    private func lose() {
        isAway = true
        let servers = settings.kafka.bootstrapServers.joined(separator: ", ")
        let reason = tally.reasons.first.map { " (\($0.reason))" } ?? ""
        StandardStream.say("Kafka does not answer at \(servers)\(reason); the feed keeps trying")
    }
}
