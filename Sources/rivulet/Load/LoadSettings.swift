// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import LoadGenerator
import PosixIO

/// What `rivulet load` was asked to do.
struct LoadSettings {
    let urls: [(url: ServerURL, weight: Int)]
    let connections: Int
    let connectRate: Double
    let schedule: LoadSchedule
    let eventBytes: Int
    let keys: Int
    let topic: String
    let kafka: KafkaSettings
    let objectives: [LoadObjective]
    let report: String?
    let json: String?
    let csv: String?
    let command: String

    private static let defaultURL = "http://127.0.0.1:8080/api/v1/sse/detections"
    /// More than this is not one target but a mistake.
    private static let weightMax = 1000

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        var urls: [(url: ServerURL, weight: Int)] = []
        let given = arguments.operands.isEmpty ? [Self.defaultURL] : arguments.operands
        for text in given {
            let parts = text.split(separator: "*", maxSplits: 1).map(String.init)
            guard let weight = parts.count == 2 ? Int(parts[1]) : 1,
                (1...Self.weightMax).contains(weight)
            else {
                throw arguments.refuse(
                    "\"\(ArgumentParser.shown(text))\": after * comes a whole number from 1 to "
                        + "\(Self.weightMax), how many times as many connections it gets")
            }
            urls.append((try ServerURL.parse(parts[0]), weight))
        }
        self.urls = urls
        connections = try arguments.integer("connections", in: 1...1_000_000) ?? 1000
        connectRate = try arguments.rate("connect-rate", in: 1...1_000_000) ?? 5000
        let rate = try arguments.rate("events-per-second", in: 0.01...1_000_000) ?? 10
        let length = try arguments.duration("duration", in: .seconds(1) ... .seconds(86_400))
        var shape = LoadSchedule.Shape.constant
        if let text = arguments.value("schedule") {
            guard let known = LoadSchedule.Shape(rawValue: text) else {
                let names = LoadSchedule.Shape.allCases.map(\.rawValue).joined(separator: ", ")
                throw arguments.refusal("schedule", accepted: names)
            }
            shape = known
        }
        schedule = LoadSchedule(shape: shape, rate: rate, length: length ?? .seconds(30))
        eventBytes =
            try arguments.integer("event-bytes", in: LoadEvent.bytesMin...1_000_000) ?? 300
        keys = try arguments.integer("keys", in: 1...1_000_000) ?? 100
        topic = arguments.value("topic") ?? "its.detections"
        let configuration = try ConfigurationFile.load(arguments)
        kafka = try KafkaOptions.settings(arguments, configuration, clientID: "rivulet-load")
        if let text = arguments.value("slo") {
            guard let parsed = LoadObjective.parse(text) else {
                throw arguments.refusal("slo", accepted: LoadObjective.accepted)
            }
            objectives = parsed
        } else {
            objectives = []
        }
        report = arguments.value("report")
        json = arguments.value("json")
        csv = arguments.value("csv")
        command =
            "rivulet load -n \(connections) -r \(rate)/s -d \(schedule.length.inSeconds)s "
            + "--schedule \(shape.rawValue) --event-bytes \(eventBytes) "
            + given.joined(separator: " ")
    }
}
