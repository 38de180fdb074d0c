// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

@Suite("Settings and errors")
struct SettingsTests {
    private func problem(_ properties: [String: String]) -> KafkaError? {
        #expect(throws: KafkaError.self) {
            _ = try KafkaProducer(
                settings: KafkaSettings(bootstrapServers: ["127.0.0.1:1"], properties: properties),
                log: .silent)
        }
    }

    @Test(
        "a bad property is named",
        arguments: [
            ("sasl.mechnism", "PLAIN"), ("retries", "many"),
            ("security.protocol", "carrier-pigeon"),
        ])
    func badProperty(name: String, value: String) {
        let error = problem([name: value])
        #expect(error?.code == .configurationInvalid)
        #expect(error?.detail.contains("\"\(name)\"") == true)
    }

    @Test(
        "a property that guarantees rest on cannot be set, under either of its names",
        arguments: ["acks", "request.required.acks", "enable.idempotence", "metadata.broker.list"])
    func reserved(name: String) {
        let error = problem([name: "1"])
        #expect(error?.code == .configurationInvalid)
        #expect(error?.detail.contains("\"\(name)\"") == true)
    }

    @Test("settings that contradict each other are refused with both values")
    func contradictions() {
        let heartbeat = #expect(throws: KafkaError.self) {
            _ = try KafkaConsumer(
                settings: KafkaSettings(bootstrapServers: ["127.0.0.1:1"]),
                group: KafkaGroupSettings(
                    groupID: "g", sessionTimeout: .seconds(6), heartbeatInterval: .seconds(3)),
                log: .silent)
        }
        #expect(heartbeat?.code == .configurationInvalid)
        #expect(heartbeat?.detail.contains("6.0 seconds") == true)
        let nobody = #expect(throws: KafkaError.self) {
            _ = try KafkaProducer(settings: KafkaSettings(bootstrapServers: []), log: .silent)
        }
        #expect(nobody?.detail.contains("bootstrapServers") == true)
    }

    @Test(
        "a subscription to an impossible name or pattern is refused with that name",
        arguments: ["no spaces", "", "^regex$", String(repeating: "x", count: 250)])
    func badSubscription(name: String) throws {
        let consumer = try KafkaConsumer(
            settings: KafkaSettings(bootstrapServers: ["127.0.0.1:1"]),
            group: KafkaGroupSettings(groupID: "g"), log: .silent)
        for subscribe in [
            { try consumer.subscribe(topics: [name]) },
            { try consumer.subscribe(topics: [], patterns: [name]) },
        ] {
            let error = #expect(throws: KafkaError.self, performing: subscribe)
            #expect(error?.code == .configurationInvalid)
            #expect(error?.detail.contains("\"\(name)\"") == true)
        }
        consumer.close(within: .seconds(10))
    }
}
