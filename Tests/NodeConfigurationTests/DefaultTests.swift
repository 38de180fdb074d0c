// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("Defaults")
struct DefaultTests {
    @Test("a node that is told nothing has the documented defaults")
    func nothingTold() throws {
        let configuration = try Configuration.load(file: nil, environment: [:], arguments: [])
        #expect(configuration.server == ServerSection())
        #expect(configuration.limits == LimitsSection())
        #expect(configuration.kafka == KafkaSection())
        #expect(configuration.redis == RedisSection())
        #expect(configuration.history == HistorySection())
        #expect(configuration.log == LogSection())
        #expect(configuration.telemetry == TelemetrySection())
        #expect(configuration.node.id.hasSuffix("-8080"))
        #expect(configuration.server.listen == ["127.0.0.1:8080"])
        #expect(configuration.limits.hotWindowBytes == 67_108_864)
        #expect(configuration.history.indexAge == .seconds(604_800))
        #expect(configuration.redis.endpoint == .tcp(host: "127.0.0.1", port: 6379, database: 0))
    }

    @Test("every default is accepted where it is written down", arguments: keyNames)
    func defaultIsAccepted(name: String) throws {
        let key = try #require(Configuration.keyReference.first { $0.name == name })
        guard key.derivedDefault == nil, let text = key.defaultText else { return }
        let parts = name.split(separator: ".")
        let configuration = try load("\(parts[0]):\n  \(parts[1]): \(text)\n")
        #expect(key.read(configuration) == key.read(Configuration()))
        #expect(configuration.origin(of: name)?.line == 2)
    }

    @Test("the default channels, read as a file, are the default channels")
    func defaultChannels() throws {
        let configuration = try load(DefaultChannels.document)
        #expect(configuration.channels == Configuration().channels)
        #expect(configuration.patterns == Configuration().patterns)
        #expect(configuration.origin(of: "channels")?.line == 3)
    }

    @Test("the seeds' channels are served without configuration")
    func seeds() throws {
        let channels = Configuration().channels
        #expect(
            channels.map(\.name) == [
                "cameras", "detections", "system", "analytics", "projects", "timelapse", "security",
            ])
        #expect(channels[0].topics == ["its.camera.events", "its.detections"])
        #expect(channels[0].event == .fixed("camera_update"))
        #expect(channels[1].filters == channels[0].filters)
        #expect(
            channels[0].filters.map(\.parameter) == [
                "camera_ids", "event_types", "zones", "min_confidence", "vehicle_types",
            ])
        let confidence = try #require(channels[0].filters.first { $0.operation == .atLeast })
        #expect(confidence.fields == ["confidence", "confidence_scores"])
        #expect(channels[4].event == .field("event_type", fallback: "project_event"))
        #expect(channels[6].topics.count == 3)
        let pattern = try #require(Configuration().patterns.first)
        #expect(pattern.matches(topic: "events.door"))
        #expect(!pattern.matches(topic: "event.door"))
        #expect(pattern.event == .field("event_type", fallback: "message"))
    }

    @Test("a node's derived name follows the port it listens on")
    func derivedName() throws {
        #expect(try load("server: {listen: ['[::]:9000']}").node.id.hasSuffix("-9000"))
        #expect(try load("node: {id: west-1}").node.id == "west-1")
        #expect(TextRule.nodeID.refuse(Configuration().node.id) == nil)
    }

    @Test("a file of nothing but comments and empty sections is the defaults")
    func emptyFile() throws {
        #expect(try load("").kafka == KafkaSection())
        #expect(try load("# nothing\n").kafka == KafkaSection())
        #expect(try load("kafka:\n  # group_id: other\n").kafka == KafkaSection())
    }

    @Test("`[]` switches the default patterns off and leaves the channels")
    func noPatterns() throws {
        let configuration = try load("patterns: []\n")
        #expect(configuration.patterns.isEmpty)
        #expect(configuration.channels.count == 7)
    }

    static let keyNames = Configuration.keyReference.map(\.name)
}

@Suite("Patterns")
struct PatternTests {
    @Test(
        "a star stands for any characters, also none",
        arguments: [
            ("events.*", "events.", true), ("events.*", "events.a.b", true),
            ("events.*", "events", false), ("*", "", true), ("*", "anything", true),
            ("*.log", "a.log.log", true), ("*.log", "a.logs", false), ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false), ("events.*", "eventsX", false), ("a", "a", true),
            ("a", "ab", false), ("**", "x", true), ("a*", "ba", false),
        ])
    func glob(pattern: String, topic: String, isMatch: Bool) {
        let pattern = PatternConfiguration(topics: pattern, event: .fixed("message"))
        #expect(pattern.matches(topic: topic) == isMatch)
    }

    @Test("a pattern made to be slow is not")
    func slowPattern() {
        let stars = String(repeating: "*a", count: 120) + "b"
        let pattern = PatternConfiguration(topics: stars, event: .fixed("message"))
        #expect(!pattern.matches(topic: String(repeating: "a", count: 249)))
    }
}
