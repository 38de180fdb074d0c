// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// The figures of the ingest benchmark, by round.
struct IngestReport {
    let events: Int
    let partitions: Int
    var bare: [ConsumedTopic] = []
    var reader: [ConsumedTopic] = []
    var node: [IngestedTopic] = []

    init(events: Int, partitions: Int) {
        self.events = events
        self.partitions = partitions
    }

    /// One way through the topic: its rates and what a record costs whom.
    private struct Line {
        let name: String
        let perSecond: [Double]
        let cost: [Double]
    }

    private var lines: [Line] {
        [
            Line(
                name: "bare consumer in C", perSecond: bare.map(\.perSecond),
                cost: bare.map(\.microsecondsPerRecord)),
            Line(
                name: "KafkaReader", perSecond: reader.map(\.perSecond),
                cost: reader.map(\.microsecondsPerRecord)),
            Line(
                name: "node, into history",
                perSecond: node.map { $0.perSecond($0.historySeconds) }, cost: []),
            Line(
                name: "node, tail has all", perSecond: node.map { $0.perSecond($0.tailSeconds) },
                cost: []),
            Line(
                name: "node, subscriber has all",
                perSecond: node.map { $0.perSecond($0.subscriberSeconds) },
                cost: node.map { $0.microsecondsPerRecord($0.nodeCPUSeconds) }),
        ]
    }

    private func ratios(_ line: Line) -> Spread {
        Spread(zip(line.perSecond, bare).map { $0 / $1.perSecond })
    }

    // MARK: - For people

    var text: String {
        let table = Columns.table(
            ["way", "of the bare consumer", "events/s", "us CPU of it/event"],
            lines.map {
                [
                    $0.name, Columns.spread(ratios($0)), Columns.spread(Spread($0.perSecond)),
                    $0.cost.isEmpty ? "" : Columns.spread(Spread($0.cost)),
                ]
            })
        let redis = Spread(node.map { $0.microsecondsPerRecord($0.redisCPUSeconds) })
        let kafka = Spread(node.map { $0.microsecondsPerRecord($0.kafkaCPUSeconds) })
        return [
            OutputFiles.machine,
            "\(events) events in \(partitions) partitions; median (minimum–maximum) of "
                + "\(node.count) round(s); a ratio is of one round", "", table, "",
            "beside the node an event took \(Columns.spread(redis)) us CPU of Redis and "
                + "\(Columns.spread(kafka)) us of the mock Kafka",
        ].joined(separator: "\n")
    }

    // MARK: - For programs

    var json: JSONText {
        var json = JSONText(reserving: 4096)
        json.object { text in
            OutputFiles.begin(&text, benchmark: "ingest")
            text.field("events", events)
            text.field("partitions", partitions)
            for line in lines {
                text.object(line.name) {
                    $0.field("ratio_median", ratios(line).median)
                    $0.array("events_per_s", line.perSecond)
                    $0.array("cpu_us_per_event", line.cost)
                }
            }
            text.array(
                "redis_cpu_us_per_event",
                node.map { $0.microsecondsPerRecord($0.redisCPUSeconds) })
            text.array(
                "kafka_cpu_us_per_event",
                node.map { $0.microsecondsPerRecord($0.kafkaCPUSeconds) })
        }
        return json
    }

    // MARK: - For the eye

    var plot: Plot {
        Plot(
            title: "From Kafka into history and out",
            panels: [
                Plot.Panel(
                    title: "events/s", xTitle: "round",
                    lines: lines.map { line in
                        Plot.Line(
                            name: line.name,
                            points: line.perSecond.enumerated().map {
                                (x: Double($0.offset + 1), y: $0.element)
                            })
                    })
            ])
    }
}
