// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("Channels and patterns")
struct ChannelTests {
    @Test("a topic is kept as long as any of its channels asks for")
    func retention() throws {
        let configuration = try load(
            """
            history: {window_events: 5000, window_age: 10m, window_bytes: 32MiB}
            channels:
              - name: short
                topics: [a, b]
                retention: {time: 30s, events: 1000}
              - name: long
                topics: [b]
                retention: {time: 1h, bytes: 64MiB}
              - {name: plain, topics: [c]}
            """)
        #expect(
            configuration.channels[0].retention
                == RetentionConfiguration(time: .seconds(30), events: 1000))
        #expect(configuration.channels[2].retention == nil)
        #expect(
            configuration.topicRetention == [
                "a": TopicRetention(age: .seconds(30), bytes: 32 << 20, events: 1000),
                "b": TopicRetention(age: .seconds(3600), bytes: 64 << 20, events: 5000),
            ])
    }

    @Test("a channel that says nothing of a topic asks for what all topics get")
    func retentionBeside() throws {
        let configuration = try load(
            """
            channels:
              - {name: short, topics: [a], retention: {time: 30s}}
              - {name: plain, topics: [a]}
            """)
        #expect(configuration.topicRetention["a"]?.age == configuration.history.windowAge)
    }

    @Test(
        "what cannot be kept is refused with its place",
        arguments: ["time: 0s", "bytes: 1KiB", "events: 10", "time: long", "days: 3"])
    func retentionRefused(part: String) {
        let text = "channels:\n  - {name: a, topics: [a], retention: {\(part)}}\n"
        #expect(refusals(text).contains { $0.contains("channels[0].retention") })
    }

    @Test("a channel is read with all that it can have")
    func complete() throws {
        let configuration = try load(
            """
            channels:
              - name: doors
                description: Doors of the house.
                topics: [doors.events, Doors_2]
                event: {field: meta.type, fallback: door}
                filters:
                  - {parameter: door, fields: [door.id, door_id], description: Which doors.}
                  - {parameter: max_age, fields: [age], operation: at_most}
                  - {parameter: event_types, fields: [type], operation: one_of}
              - {name: plain, topics: [doors.events]}
            patterns:
              - {topics: "team-*.events", event: {field: kind}}
            """)
        #expect(
            configuration.channels == [
                ChannelConfiguration(
                    name: "doors", description: "Doors of the house.",
                    topics: ["doors.events", "Doors_2"],
                    event: .field("meta.type", fallback: "door"),
                    filters: [
                        FilterConfiguration(
                            parameter: "door", fields: ["door.id", "door_id"],
                            description: "Which doors."),
                        FilterConfiguration(
                            parameter: "max_age", fields: ["age"], operation: .atMost),
                        FilterConfiguration(parameter: "event_types", fields: ["type"]),
                    ]),
                ChannelConfiguration(
                    name: "plain", topics: ["doors.events"], event: .fixed("message")),
            ])
        #expect(
            configuration.patterns == [
                PatternConfiguration(
                    topics: "team-*.events", event: .field("kind", fallback: "message"))
            ])
    }

    @Test("everything wrong with a channel is reported at its place")
    func wrongChannel() {
        let found = places(
            """
            channels:
              - name: Cameras
                topic: [a]
                event: "up\\ndate"
                filters:
                  - {parameter: since, fields: [a]}
                  - {parameter: ok, fields: [a..b, a.b.c.d.e.f.g.h.i]}
                  - {parameter: ok, fields: [x], operation: at_leest}
                  - {fields: []}
              - {name: b, topics: [bad topic, "..", t, t], event: {fallback: x, feld: y}}
              - {name: b, topics: t, filters: {}}
              - just text
              - {name: c, topics: [t], event: [x]}
            """)
        #expect(
            found == [
                "missingKey rivulet.yaml:2:5 channels[0].topics",
                "refused rivulet.yaml:2:11 channels[0].name",
                "unknownKey rivulet.yaml:3:5 channels[0].topic",
                "refused rivulet.yaml:4:12 channels[0].event",
                "refused rivulet.yaml:6:21 channels[0].filters[0].parameter",
                "refused rivulet.yaml:7:34 channels[0].filters[1].fields[0]",
                "refused rivulet.yaml:7:40 channels[0].filters[1].fields[1]",
                "conflict rivulet.yaml:8:21 channels[0].filters[2].parameter",
                "refused rivulet.yaml:8:49 channels[0].filters[2].operation",
                "missingKey rivulet.yaml:9:9 channels[0].filters[3].parameter",
                "outOfRange rivulet.yaml:9:18 channels[0].filters[3].fields",
                "refused rivulet.yaml:10:24 channels[1].topics[0]",
                "refused rivulet.yaml:10:35 channels[1].topics[1]",
                "conflict rivulet.yaml:10:44 channels[1].topics[3]",
                "missingKey rivulet.yaml:10:55 channels[1].event.field",
                "unknownKey rivulet.yaml:10:69 channels[1].event.feld",
                "conflict rivulet.yaml:11:12 channels[2].name",
                "wrongType rivulet.yaml:11:23 channels[2].topics",
                "wrongType rivulet.yaml:11:35 channels[2].filters",
                "wrongType rivulet.yaml:12:5 channels[3]",
                "wrongType rivulet.yaml:13:35 channels[4].event",
            ])
    }

    @Test("an error says what was probably meant inside a channel as well")
    func suggestions() {
        let found = errors(
            Array("channels: [{name: a, topics: [t], filter: [], event: x}]".utf8))
        #expect(found.map(\.suggestion) == ["filters"])
    }

    @Test(
        "names keep to their alphabet and length",
        arguments: [
            ("", false), ("a", true), ("-a", false), (".a", false), ("a-b._c", true), ("A", false),
            ("é", false), (String(repeating: "a", count: 64), true),
            (String(repeating: "a", count: 65), false), ("a b", false), ("a/b", false),
        ])
    func channelNames(name: String, isLegal: Bool) {
        #expect((TextRule.channelName.refuse(name) == nil) == isLegal)
    }

    @Test("event names and topics have the longest length that is legal, and no longer")
    func lengths() {
        #expect(TextRule.eventName.refuse(String(repeating: "e", count: 128)) == nil)
        #expect(TextRule.eventName.refuse(String(repeating: "e", count: 129)) != nil)
        #expect(TextRule.eventName.refuse("a\rb") != nil)
        #expect(TextRule.topic.refuse(String(repeating: "t", count: 249)) == nil)
        #expect(TextRule.topic.refuse(String(repeating: "t", count: 250)) != nil)
        #expect(TextRule.fieldPath.refuse("a.b.c.d.e.f.g.h") == nil)
        #expect(TextRule.fieldPath.refuse("a.b.c.d.e.f.g.h.i") != nil)
        #expect(TextRule.fieldPath.refuse(".") != nil)
    }

    @Test("the reserved parameters are refused and `event_types` is not")
    func reservedParameters() {
        for name in TextRule.reservedParameters { #expect(TextRule.parameter.refuse(name) != nil) }
        #expect(TextRule.parameter.refuse("event_types") == nil)
    }

    @Test("the most that is allowed is taken, and one more is refused at the list")
    func counts() throws {
        func channel(_ name: String, topics: Int = 1, filters: Int = 0, fields: Int = 1) -> String {
            let topics = (0..<topics).map { "t\($0)" }.joined(separator: ",")
            let fields = (0..<fields).map { "f\($0)" }.joined(separator: ",")
            let filters = (0..<filters).map { "{parameter: p\($0), fields: [\(fields)]}" }
                .joined(separator: ",")
            return "  - {name: \(name), topics: [\(topics)], filters: [\(filters)]}\n"
        }
        let full = (0..<256).map { channel("c\($0)", topics: 64, filters: 16, fields: 8) }.joined()
        #expect(full.utf8.count < ConfigurationLimits.documentBytes)
        let loaded = try load("channels:\n" + full)
        #expect(loaded.channels.count == 256)
        #expect(loaded.channels[255].filters[15].fields.count == 8)

        let over = (0..<257).map { channel("c\($0)") }.joined()
        #expect(places("channels:\n" + over) == ["outOfRange rivulet.yaml:2:3 channels"])
        #expect(
            places("channels:\n" + channel("a", topics: 65)) == [
                "outOfRange rivulet.yaml:2:23 channels[0].topics"
            ])
        #expect(
            places("channels:\n" + channel("a", filters: 17)) == [
                "outOfRange rivulet.yaml:2:38 channels[0].filters"
            ])
        let patterns = (0..<65).map { "  - {topics: p\($0).*}\n" }.joined()
        #expect(places("patterns:\n" + patterns) == ["outOfRange rivulet.yaml:2:3 patterns"])
    }

    @Test("patterns are refused with an illegal character, too many stars or twice")
    func wrongPatterns() {
        #expect(
            places(
                """
                patterns:
                  - {topics: "a?"}
                  - {topics: "*********"}
                  - {topics: "b.*"}
                  - {topics: "b.*"}
                """) == [
                    "refused rivulet.yaml:2:14 patterns[0].topics",
                    "refused rivulet.yaml:3:14 patterns[1].topics",
                    "conflict rivulet.yaml:5:14 patterns[3].topics",
                ])
    }

    @Test("the dead-letter topic is in no channel, wherever either is given")
    func deadLetterTopic() {
        #expect(
            refusals("channels: [{name: a, topics: [x, rivulet.dead-letter]}]") == [
                #"rivulet.yaml:1:34: channels[0].topics[1]: "rivulet.dead-letter": is the "#
                    + "dead-letter topic, which no channel may carry (kafka.dead_letter_topic from "
                    + "built-in default)"
            ])
        #expect(
            places("", arguments: ["--kafka.dead_letter_topic=its.detections"]) == [
                "conflict flag --kafka.dead_letter_topic channels[0].topics[1]",
                "conflict flag --kafka.dead_letter_topic channels[1].topics[0]",
            ])
        #expect(
            places("patterns: [{topics: rivulet.d*}]") == [
                "conflict rivulet.yaml:1:21 patterns[0].topics"
            ])
        #expect(
            places("", environment: ["RIVULET_KAFKA_DEAD_LETTER_TOPIC": "events.dead"]) == [
                "conflict environment RIVULET_KAFKA_DEAD_LETTER_TOPIC patterns[0].topics"
            ])
    }

    @Test("so it is with the canaries' topic, which nothing else may use either")
    func canaryTopic() {
        #expect(
            places("channels: [{name: a, topics: [rivulet.canary]}]") == [
                "conflict rivulet.yaml:1:31 channels[0].topics[0]"
            ])
        #expect(
            places("canary: {topic: rivulet.dead-letter}") == [
                "conflict rivulet.yaml:1:17 canary.topic"
            ])
        #expect(
            places("canary: {topic: its.system.metrics, enabled: false}").isEmpty,
            "what is switched off disturbs nobody")
        #expect(
            places("canary: {interval: 3s}") == [
                "conflict rivulet.yaml:1:20 canary.stale_after"
            ])
    }

    @Test("channels given as a variable are refused by line and column of the variable")
    func inlineChannels() {
        #expect(
            places("", environment: ["RIVULET_CHANNELS": "- name: a\n  topics: [_, b c]\n"]) == [
                "refused environment RIVULET_CHANNELS:2:15 channels[0].topics[1]"
            ])
        #expect(
            places("", arguments: ["--channels=[", "--patterns="]) == [
                "wrongType flag --patterns patterns",
                "yamlMalformed flag --channels:2:1 channels",
            ])
    }
}
