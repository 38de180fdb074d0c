// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import LoadGenerator
import PosixIO

/// `rivulet load`: many subscribers, an open-loop schedule of events, and a report.
enum LoadCommand {
    static let specification = CommandSpecification(
        name: "load",
        summary: "many subscribers, a schedule of events, and a report",
        synopsis: ["load [options] [URL...]"],
        details: [
            "Opens subscribers at the URLs, waits until all have a stream, publishes events to Kafka on "
                + "an open-loop schedule, and measures from when each event was due until every "
                + "subscriber has read it: a server that falls behind shows it (no coordinated "
                + "omission). Subscribers that lose their stream come back with their last ID.",
            "It works in processes of its own, as many as the descriptor limit asks for, and from "
                + "several addresses on loopback; so 150,000 connections are one command. It says "
                + "where it was itself too busy or too late to be trusted.",
            "Without URL it asks http://127.0.0.1:8080/api/v1/sse/detections. URL*3 takes three "
                + "times as many connections as URL.",
        ],
        operand: OperandSpecification(
            name: "URL", count: 0...256, help: "Streams to subscribe to, over HTTP/1.1."),
        options: [
            OptionSpecification(
                "connections", letter: "n", "N", default: "1000", "Subscribers, 1 to 1000000."),
            OptionSpecification(
                "connect-rate", "N/s", default: "5000/s", "Attempts to connect in a second."),
            OptionSpecification(
                "events-per-second", letter: "r", "N/s", default: "10/s",
                "Events published, at the most of the schedule."),
            OptionSpecification(
                "duration", letter: "d", "TIME", default: "30s", "Of the schedule."),
            OptionSpecification(
                "schedule", "SHAPE", default: "constant",
                "constant, ramp, steps, spike or diurnal (a day in the duration)."),
            OptionSpecification(
                "event-bytes", "N", default: "300", "Size of an event, 120 to 1000000."),
            OptionSpecification(
                "keys", "N", default: "100", "Different subjects, each with its own key in Kafka."),
            OptionSpecification(
                "topic", letter: "t", "TOPIC", default: "its.detections",
                "Where the events go; the URLs have to carry it."),
            KafkaOptions.configuration, KafkaOptions.bootstrapServers,
            OptionSpecification(
                "slo", "LIST", "What has to hold: p99=50ms,loss=0. Decides the exit code."),
            OptionSpecification("report", "FILE", "Write the report as one HTML page."),
            OptionSpecification("json", "FILE", "Write it as JSON."),
            OptionSpecification("csv", "FILE", "Write a line for each second."),
        ],
        examples: [
            CommandExample(
                purpose: "the development cluster, by its load balancer",
                line: "rivulet load -n 500 -b \"$(cat cluster/.run/kafka.bootstrap)\""),
            CommandExample(
                purpose: "20,000 on three nodes, with a page to look at",
                line: "rivulet load -n 20000 -d 60s --slo loss=0 --report load.html URL URL URL"),
        ],
        exits: [
            (.success, "The run is over, and every objective holds."),
            (.failure, "An objective does not hold, or not everybody got a stream."),
            (.usage, "The command line is wrong."),
            (.unavailable, "No broker answers."),
            (.configuration, "The configuration is wrong."),
            (.interrupted, "Interrupted; the report says how far it came."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try LoadSettings(arguments)
        let stop = try StopSignals(grace: .seconds(30))
        return try LoadRun(settings, stop: stop).run()
    }
}
