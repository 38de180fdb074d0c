// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Verification

/// `rivulet verify`: what clients received against what was published.
enum VerifyCommand {
    static let specification = CommandSpecification(
        name: "verify",
        summary: "prove that clients got every event, once and in order",
        synopsis: [
            "verify [--subscription 'CHANNEL?QUERY'] [options] RECEIPTS...",
            "verify --published FILE [options] RECEIPTS...",
        ],
        details: [
            "Reads what was published, from Kafka or from the files that rivulet publish was "
                + "given, and what clients received, and says for each client what was lost, "
                + "repeated, out of order, wrongly filtered, unauthorised or never published, "
                + "with the first IDs. Events that are missing where the server told of a gap "
                + "count apart.",
            "RECEIPTS are JSON lines with id and data, as rivulet tail --json writes them; - is "
                + "standard input. Each file is one client, unless its lines name others in "
                + "\"client\". Where lines have topic, partition and offset too, these say which "
                + "event it is; else its data does, and equal events can only be counted.",
            "The clients have to have ended, or been left alone, before the truth is read: see "
                + "--owed for what they are owed.",
        ],
        operand: OperandSpecification(
            name: "RECEIPTS", count: 1...100_000, help: "Files of receipts; - is standard input."),
        options: [
            OptionSpecification(
                "subscription", letter: "s", "'CHANNEL?QUERY'",
                "What the clients asked for, as in their URL: "
                    + "'detections?camera_ids=cam1'. Its channel's topics are read."),
            OptionSpecification(
                "topic", letter: "t", "TOPIC", repeats: true,
                "Read this topic too. Without --subscription everything in it is owed."),
            OptionSpecification(
                "published", "FILE", repeats: true,
                "The truth is in this file, one event a line, and not in Kafka."),
            OptionSpecification(
                "owed", "WHAT", default: "after-first, with --published all",
                "all; after-first: from a client's first receipt on; between: up to its last."),
            OptionSpecification(
                "may-see", "TOPICS",
                "Topics the clients may see, separated by commas. Else nothing is said of it."),
            OptionSpecification(
                "events-max", "N", default: "20000000",
                "Events of the truth; each takes some 150 bytes of memory."),
            OptionSpecification(
                "examples", "N", default: "5", "First IDs of each offence and client."),
            OptionSpecification(
                "timeout", "TIME", default: "30s", "How long Kafka may be silent."),
            OptionSpecification(flag: "json", "Print one JSON object."),
            KafkaOptions.configuration,
            KafkaOptions.bootstrapServers,
        ],
        examples: [
            CommandExample(
                purpose: "a client on each node, then the verdict",
                line: "rivulet verify -s detections --owed between node1.jsonl node2.jsonl"),
            CommandExample(
                purpose: "against the file that was published",
                line: "rivulet verify --published day.jsonl received.jsonl"),
        ],
        exits: [
            (.success, "Nothing was wrong."),
            (.failure, "At least one client was treated wrongly, or there is no such topic."),
            (.usage, "The command line is wrong."),
            (.noInput, "A file cannot be read."),
            (.unavailable, "No broker answers."),
            (.configuration, "The configuration is wrong."),
            (.interrupted, "Interrupted before there was a verdict."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try VerifySettings(arguments)
        let stop = try StopSignals(grace: .seconds(2))
        let verdict = try VerifyRun(settings, stop: stop).verdict()
        if settings.isJSON {
            StandardStream.write(verdict.json + [0x0a])
        } else {
            StandardStream.print(VerdictTable.text(verdict))
        }
        return verdict.isClean ? .success : .failure
    }
}
