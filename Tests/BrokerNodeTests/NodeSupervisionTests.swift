// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import ClusterHarness
import KafkaClient
import NodeConfiguration
import Testing

@Suite("Components of a real node", .serialized, .timeLimit(.minutes(3)))
struct NodeSupervisionTests {
    /// Goal: what fails for good makes the node unready and not a liar, and what can be made anew
    /// is. Method: the brokers refuse the producer its identity, which is fatal to it, and fence
    /// the consumer; no restart is allowed within the window of a second.
    @Test("a node whose producer or consumer fails too often is unready, and tries, and is ready")
    func failures() throws {
        let bench = try NodeBench()
        bench.kafka.pushErrors([.clusterAuthorizationFailed], for: .initProducerID)
        let port = try bench.start {
            $0.canary.interval = .milliseconds(100)
            // The group forgets the one that was fenced after this; the first one to join waits
            // for three seconds.
            $0.kafka.sessionTimeout = .seconds(4)
            $0.kafka.heartbeatInterval = .milliseconds(200)
            $0.supervision.restarts = 0
            $0.supervision.window = .seconds(1)
        }
        defer { bench.stop() }
        func text() -> String { (try? get("/readyz", port).text) ?? "" }
        func says(_ texts: String..., status: Int) -> Bool {
            Waiting.until(within: .seconds(30)) {
                guard let answer = try? get("/readyz", port) else { return false }
                return answer.status == status && texts.allSatisfy { answer.text.contains($0) }
            }
        }
        #expect(
            says("producer has failed: kafka.fatal", status: 503)
                && says("\"producer\":{\"state\":\"running\",\"restarts\":1", status: 200),
            "\(text())")
        #expect(says("\"verdict\":\"fresh\"", status: 200), "canaries go by the new producer")

        bench.kafka.pushErrors([.fencedInstance], for: .heartbeat)
        #expect(
            says("\"status\":\"unready\"", "ingest has failed: kafka.fatal", status: 503),
            "\(text())")
        #expect(
            says("\"ingest\":{\"state\":\"running\"", status: 200),
            "\(text())")
    }
}
