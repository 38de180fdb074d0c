// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO
import Testing

@testable import KafkaClient

@Suite("librdkafka's log lines")
struct LogRelayTests {
    @Test("a facility that repeats itself is cut off, counted and heard again later")
    func rateLimit() {
        let relay = LogRelay(.silent)
        let start = MonotonicTime(nanoseconds: 1_000_000_000)
        #expect((0..<3).allSatisfy { _ in relay.admit("FAIL", at: start) == 0 })
        #expect((0..<100).allSatisfy { _ in relay.admit("FAIL", at: start) == nil })
        #expect(relay.admit("REBALANCE", at: start) == 0)
        #expect(relay.admit("FAIL", at: start + LogRelay.window) == 100)
        #expect(relay.admit("FAIL", at: start + LogRelay.window) == 0)
    }

    @Test("any number of facilities takes a bounded amount of memory")
    func bounded() {
        let relay = LogRelay(.silent)
        let start = MonotonicTime(nanoseconds: 1_000_000_000)
        let admitted = (0..<10_000).count { relay.admit("F\($0)", at: start) != nil }
        #expect(admitted == LogRelay.facilitiesMax + LogRelay.linesPerWindow)
    }

    @Test(
        "syslog's levels become ours",
        arguments: [
            (2, "error"), (3, "warning"), (4, "warning"), (5, "notice"), (6, "info"), (7, "debug"),
        ])
    func levels(level: Int, name: String) {
        let lines = Lines()
        LogRelay(lines.log).line(level: Int32(level), facility: "FAIL", text: "broker is away")
        let all = lines.all.withLock { $0 }
        #expect(all.count == 1)
        #expect(all.first?.contains(" \(name) kafka: broker is away facility=FAIL") == true)
    }

    @Test("a broker that is away is in the log, a few lines of it")
    func brokerAway() async throws {
        let lines = Lines()
        let producer = try KafkaProducer(
            settings: KafkaSettings(bootstrapServers: ["127.0.0.1:1"]), log: lines.log)
        try await eventually("a line about it") {
            lines.all.withLock { $0.contains { $0.contains("127.0.0.1:1") } }
        }
        #expect(producer.close(within: .seconds(5)))
        #expect(lines.all.withLock { $0.count } < 20)
    }
}

@Suite("Topic patterns")
struct TopicPatternTests {
    @Test(
        "a star stands for anything, everything else for itself",
        arguments: [("camera.*", "^camera\\..*$"), ("*", "^.*$"), ("a-b_c", "^a-b_c$")])
    func expression(pattern: String, expected: String) throws {
        #expect(try TopicPattern.regularExpression(for: pattern) == expected)
    }
}
