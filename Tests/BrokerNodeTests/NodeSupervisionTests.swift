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
    /// the consumer; no restart is allowed within the window.
    @Test("a node whose producer or consumer fails too often is unready until it has another")
    func failures() throws {
        let bench = try NodeBench()
        bench.kafka.pushErrors([.clusterAuthorizationFailed], for: .initProducerID)
        let port = try bench.start {
            $0.canary.interval = .milliseconds(100)
            $0.kafka.heartbeatInterval = .milliseconds(200)
            $0.supervision.restarts = 0
            $0.supervision.window = .seconds(3)
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

        bench.kafka.pushErrors(
            Array(repeating: .topicAuthorizationFailed, count: 20), for: .fetch)
        #expect(says("\"kafka\":\"unauthorized\"", "access list", status: 200), "\(text())")

        bench.kafka.pushErrors([.fencedInstance], for: .heartbeat)
        #expect(
            says("\"status\":\"unready\"", "ingest has failed: kafka.fatal", status: 503),
            "\(text())")
    }

    @Test("a Redis that is there and of no use is named, by a node that waits for it")
    func wrongRedis() throws {
        let bench = try NodeBench(redisArguments: ["--maxmemory", "100kb"])
        let port = try bench.start()
        defer { bench.stop() }
        var text = ""
        let isNamed = Waiting.until(within: .seconds(20)) {
            text = (try? get("/readyz", port).text) ?? ""
            return text.contains("\"redis\":\"out_of_memory\"")
                && text.contains("raise maxmemory")
        }
        #expect(isNamed, "\(text)")
        #expect(text.contains("\"status\":\"starting\""))
    }
}
