// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import ClusterHarness
import KafkaClient
import Observability
import PosixIO

/// How fast a node takes a full topic from Kafka, beside consumers that do nothing with it.
enum IngestBenchmark {
    static let command = BenchmarkCommand(
        name: "ingest",
        summary: "events/s from Kafka into history and out, beside a bare consumer",
        details: """
            Fills one topic of a mock Kafka with JSON events of about 300 bytes, then reads all of
            it in turns: with librdkafka's batch call in C (bare), with the house's KafkaReader, and
            with a node of one serving loop, new group and new key prefix, that has one subscriber.

            Times run from the first record. For the node they are read from /healthz every 10 ms
            (into history: appended to Redis; tail: read back), and at the subscriber's socket. The
            mock keeps 5 MiB a partition, so there is a most that fits; it serves from one thread.
            """,
        options: [
            BenchmarkOption("events", "N", "How many (300000)."),
            BenchmarkOption("partitions", "N", "Of the topic (24)."),
        ] + BenchmarkOption.common,
        example: ".build/release/Benchmarks ingest --rounds 5 --json ingest.json",
        run: run)

    /// The default configuration's; its events are in two channels, so the node encodes each twice.
    private static let topic = "its.detections"

    private static func run(_ options: GivenOptions) throws(BenchmarkError) {
        let isQuick = options.has("quick")
        let rounds = try options.integer("rounds", in: 1...100) ?? (isQuick ? 1 : 3)
        let events =
            try options.integer("events", in: 1_000...10_000_000) ?? (isQuick ? 100_000 : 300_000)
        let partitions = try options.integer("partitions", in: 1...1_000) ?? 24
        let kafka = try KafkaServer(topic: topic, partitions: partitions)
        let redis = try RedisServer()
        StandardError.say("filling \(topic) with \(events) events")
        try fill(kafka, events: events, partitions: partitions)
        var report = IngestReport(events: events, partitions: partitions)
        for round in 1...rounds {
            StandardError.say("round \(round): bare consumer, reader, node")
            report.bare.append(
                try BareConsumer.readInC(
                    kafka, topic: topic, partitions: partitions, records: events))
            report.reader.append(
                try BareConsumer.readInSwift(
                    kafka, topic: topic, partitions: partitions, records: events))
            report.node.append(
                try NodeIngest.run(redis: redis, kafka: kafka, records: events, turn: round))
        }
        print(report.text)
        try OutputFiles.write(options, json: report.json, plot: report.plot, text: report.text)
    }

    private static func fill(_ kafka: KafkaServer, events: Int, partitions: Int)
        throws(BenchmarkError)
    {
        do {
            let producer = try EventProducer(
                bootstrapServers: kafka.bootstrapServers, topic: topic, partitions: partitions)
            try producer.publish(events)
            let reader = try KafkaReader(
                settings: KafkaSettings(bootstrapServers: kafka.bootstrapServers),
                log: Logger("bench", lowest: .error))
            defer { reader.close(within: .seconds(2)) }
            let marks = try reader.watermarks(of: topic, within: .seconds(10)).values
            let kept = marks.reduce(0) { $0 + Int($1.high - $1.low) }
            guard kept == events else {
                throw BenchmarkError(
                    .usage,
                    "the mock keeps only \(kept) of \(events) events in \(partitions) partitions; "
                        + "ask for fewer --events or more --partitions")
            }
        } catch let error as BenchmarkError {
            throw error
        } catch {
            throw BenchmarkError(.failed, "the topic could not be filled: \(error)")
        }
    }
}
