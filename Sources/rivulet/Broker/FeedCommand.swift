// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient

/// What `rivulet feed` was asked to do.
struct FeedSettings: Sendable {
    let seed: UInt64
    /// Events per second; `nil` is as the scene gives.
    let rate: Double?
    let kafka: KafkaSettings

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        seed = UInt64(try arguments.integer("seed", in: 0...Int.max) ?? 1)
        rate = try arguments.rate("rate", in: 0.01...100_000)
        kafka = try KafkaOptions.settings(
            arguments, try ConfigurationFile.load(arguments), clientID: "rivulet-feed")
    }
}

/// `rivulet feed`: the live demo feed.
enum FeedCommand {
    static let specification = CommandSpecification(
        name: "feed",
        summary: "play a simulated town's traffic into Kafka, live",
        synopsis: ["feed [--rate N/s] [--seed N] [--bootstrap-servers LIST] [--config FILE]"],
        details: [
            "Simulates four junctions with eight cameras and publishes what they see in real "
                + "time to its.camera.events, its.detections and its.analytics, keyed by camera "
                + "or zone, until SIGINT or SIGTERM. The same seed gives the same traffic.",
            "While the broker is away it says so once, keeps trying, and drops what has become "
                + "old.",
        ],
        options: [
            KafkaOptions.bootstrapServers,
            OptionSpecification(
                "rate", letter: "r", "N/s", default: "real time",
                "About this many events per second: time in the town runs faster or slower."),
            OptionSpecification("seed", "N", default: "1", "Which traffic to play."),
            KafkaOptions.configuration,
        ],
        examples: [
            CommandExample(purpose: "as it would be", line: "rivulet feed"),
            CommandExample(
                purpose: "a busy town, on the broker that dev-kafka wrote down",
                line: "rivulet feed --rate 2000/s -b \"$(cat kafka.addr)\""),
        ],
        exits: [
            (.success, "Ended by SIGINT or SIGTERM."),
            (.usage, "The command line is wrong."),
            (.configuration, "The configuration is wrong."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try FeedSettings(arguments)
        let stop = try StopSignals(grace: .seconds(5))
        return try LiveFeed(settings, stop: stop).run()
    }
}
