// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import Coordination
import Dependability
import PosixIO
import Testing

@Suite("Readiness")
struct ReadinessTests {
    private static func status(
        _ name: String, _ breaker: CircuitBreaker.State = .closed, _ trouble: Trouble? = nil
    ) -> Dependency.Status {
        Dependency.Status(name: name, breaker: breaker, trouble: trouble, opens: 0)
    }

    private var facts = Readiness.Facts(redis: status("redis"), kafka: status("kafka"))

    @Test("all well is ready, without a reason")
    func ready() {
        let readiness = Readiness(facts)
        #expect(readiness.word == .ready)
        #expect(readiness.reasons.isEmpty)
        #expect(readiness.isReady)
    }

    @Test("what nodes share takes none of them out, and is said")
    mutating func degraded() {
        facts.redis = Self.status("redis", .open, Trouble("unreachable", "nobody listens"))
        facts.kafka = Self.status("kafka", .halfOpen)
        facts.canary = .stale
        facts.isFollowing = false
        facts.redisIsReady = false
        facts.redisDanger = "it evicts"
        let readiness = Readiness(facts)
        #expect(readiness.word == .degraded)
        #expect(readiness.isReady)
        #expect(readiness.reasons.contains("redis: it evicts"))
        #expect(readiness.reasons.contains("redis: nobody listens"))
        #expect(readiness.reasons.count == 5, "\(readiness.reasons)")
    }

    @Test("what only this node has takes it out: a component that has failed, a leg that is stale")
    mutating func unready() {
        facts.components = [
            ComponentStatus(name: "ingest", phase: .restarting, restarts: 1, reason: "fenced"),
            ComponentStatus(name: "tail", phase: .running, restarts: 0, reason: "long ago"),
        ]
        #expect(Readiness(facts).word == .degraded)
        facts.components.append(
            ComponentStatus(name: "orphans", phase: .failed, restarts: 3, reason: "fenced"))
        #expect(Readiness(facts).word == .unready)
        #expect(Readiness(facts).reasons.first == "orphans has failed: fenced")
        facts.components = []
        facts.canary = .sick
        #expect(Readiness(facts).word == .unready)
        #expect(!Readiness(facts).isReady)
    }

    @Test("a component that does not come up is told after a minute")
    mutating func startingForLong() {
        facts.components = [
            ComponentStatus(
                name: "ingest", phase: .starting, restarts: 0, reason: nil, started: facts.now)
        ]
        #expect(Readiness(facts).word == .ready)
        facts.now = facts.now + .seconds(61)
        #expect(Readiness(facts).word == .degraded)
        #expect(Readiness(facts).reasons == ["ingest is not up yet"])
    }

    @Test("a node that starts or drains says so first")
    mutating func phases() {
        facts.canary = .sick
        facts.phase = .starting
        #expect(Readiness(facts).word == .starting)
        facts.phase = .draining
        #expect(Readiness(facts).word == .draining)
        #expect(!Readiness(facts).isReady)
    }
}
