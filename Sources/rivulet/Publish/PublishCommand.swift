// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// `rivulet publish`: events from files or standard input into Kafka.
enum PublishCommand {
    static let specification = CommandSpecification(
        name: "publish",
        summary: "publish events, one JSON object per line, to Kafka",
        synopsis: [
            "publish --topic TOPIC [options] [FILE...]",
            "publish --channel CHANNEL [--config FILE] [options] [FILE...]",
        ],
        details: [
            "Reads JSON lines from the files in turn, or from standard input where no file or "
                + "\"-\" is given, and waits until all in-sync replicas have stored each event "
                + "(acks=all, idempotent).",
            "A line that is no JSON object is named with its file, number and reason, and is not "
                + "sent; the others are. Blank lines are skipped. At the end it reports how many "
                + "events were published, refused and failed, and how fast.",
        ],
        operand: OperandSpecification(
            name: "FILE", count: 0...100_000, help: "Files of JSON lines; - is standard input."),
        options: [
            OptionSpecification("topic", letter: "t", "TOPIC", "The Kafka topic to write to."),
            OptionSpecification(
                "channel", "CHANNEL", "The channel to publish on, instead of its topic."),
            KafkaOptions.configuration,
            KafkaOptions.bootstrapServers,
            OptionSpecification(
                "key", letter: "k", "KEY", default: "no key",
                "Key of every event; events with one key keep their order."),
            OptionSpecification(
                "key-field", "PATH",
                "Take each event's key from this field, such as camera_id or zone.id."),
            OptionSpecification(
                "header", letter: "H", "NAME=VALUE", repeats: true, "Add a record header."),
            OptionSpecification(
                "partition", letter: "p", "N", default: "by the key",
                "Write to this partition."),
            OptionSpecification(
                "rate", letter: "r", "N/s", default: "as fast as possible",
                "Events per second (500, 500/s) or minute (30/m)."),
            OptionSpecification(
                "max-bytes", "N", default: "1048576",
                "Largest event. Brokers have a limit of their own."),
            OptionSpecification(
                "delivery-timeout", "TIME", default: "30s",
                "How long an event may take to be stored before it counts as failed."),
            OptionSpecification(flag: "no-validate", "Send lines without checking them."),
            OptionSpecification(
                flag: "create", "Let the broker create the topic if it does not exist."),
        ],
        examples: [
            CommandExample(
                purpose: "one event",
                line: "echo '{\"camera_id\":\"cam1\"}' | rivulet publish -t its.detections"),
            CommandExample(
                purpose: "a file, each camera's events in order, 200 a second",
                line: "rivulet publish -t its.detections --key-field camera_id -r 200/s day.jsonl"),
            CommandExample(
                purpose: "to a channel, on a cluster",
                line: "rivulet publish --channel detections -b kafka1:9092,kafka2:9092 day.jsonl"),
        ],
        exits: [
            (.success, "Every event was published."),
            (.failure, "A line was refused, a delivery failed, or there is no such topic."),
            (.usage, "The command line is wrong."),
            (.noInput, "A file cannot be read; nothing was sent."),
            (.unavailable, "No broker answers."),
            (.configuration, "The configuration is wrong."),
            (.interrupted, "Interrupted; what had been read was still delivered."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try PublishSettings(arguments)
        let stop = try StopSignals(grace: .seconds(10))
        return try Publication(settings, stop: stop).run()
    }
}
