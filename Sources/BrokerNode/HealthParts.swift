// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Coordination
import Dependability
import KafkaClient
import Observability
import PosixIO

/// What the health pages and the metrics say of dependencies, brokers and components.
enum HealthParts {
    /// `ready`, `connecting`, or what is wrong with Redis.
    static func redisWord(_ context: NodeContext) -> String {
        let status = context.redisDependency.status()
        guard status.isWell else { return status.trouble?.word ?? "unreachable" }
        return context.status.redisIsReady ? "ready" : "connecting"
    }

    /// The members `dependencies`, `brokers` and `components`.
    static func write(_ text: inout JSONText, _ context: NodeContext) {
        text.object("dependencies") { text in
            for status in [context.redisDependency.status(), context.kafka.dependency.status()] {
                text.object(status.name) { text in
                    text.field("state", status.word)
                    text.field("breaker", status.breaker.rawValue)
                    text.field("opened", status.opens)
                    if let trouble = status.trouble { text.field("message", trouble.message) }
                }
            }
        }
        if let ages = context.canary?.ages() {
            text.object("canary") { text in
                text.field("verdict", context.status.canary.rawValue)
                text.field("kafka_age_ms", Int(ages.kafka.wholeMilliseconds))
                text.field("history_age_ms", ages.history.map { Int($0.wholeMilliseconds) })
                text.field("tail_age_ms", Int(ages.tail.wholeMilliseconds))
            }
        }
        text.array("brokers") { text in
            for broker in context.kafka.brokers {
                text.object { text in
                    text.field("id", Int(broker.id))
                    text.field("address", broker.address)
                    text.field("up", broker.isUp)
                    text.field("state", broker.state)
                }
            }
        }
        text.object("components") { text in
            for component in context.supervisor.statuses {
                text.object(component.name) { text in
                    text.field("state", component.phase.rawValue)
                    text.field("restarts", component.restarts)
                    if let reason = component.reason { text.field("last_failure", reason) }
                }
            }
        }
    }

    static func register(_ dependency: Dependency, in registry: MetricsRegistry) {
        let name = dependency.name
        for state in CircuitBreaker.State.allCases {
            registry.gauge(
                "rivulet_breaker_state", "1 for the state that a dependency's breaker is in.",
                [("dependency", name), ("state", state.rawValue)],
                reading: { dependency.status().breaker == state ? 1 : 0 })
        }
        registry.counter(
            "rivulet_breaker_opens_total", "Times a dependency's breaker has opened.",
            [("dependency", name)], reading: { dependency.status().opens })
        registry.gauge(
            "rivulet_dependency_well", "1 while nothing is wrong with a dependency.",
            [("dependency", name)], reading: { dependency.status().isWell ? 1 : 0 })
    }

    static func register(
        _ canary: CanaryLedger, _ status: NodeStatus, in registry: MetricsRegistry
    ) {
        func age(_ hop: String, _ read: @escaping @Sendable (CanaryLedger.Ages) -> Duration?) {
            registry.gauge(
                "rivulet_canary_age_seconds",
                "Age of what has passed each hop last: this node's own that Kafka has confirmed, "
                    + "the newest event in history, the newest canary through this node's tail.",
                [("hop", hop)], reading: { read(canary.ages())?.inSeconds ?? 0 })
        }
        age("kafka") { $0.kafka }
        age("history") { $0.history }
        age("tail") { $0.tail }
        for verdict in CanaryVerdict.allCases {
            registry.gauge(
                "rivulet_canary_verdict", "1 for what the canaries say of this node.",
                [("verdict", verdict.rawValue)],
                reading: { status.canary == verdict ? 1 : 0 })
        }
    }

    static func register(_ kafka: KafkaWatch, in registry: MetricsRegistry) {
        func count(_ state: String, _ counts: @escaping @Sendable (KafkaBroker) -> Bool) {
            registry.gauge(
                "rivulet_kafka_brokers",
                "Brokers that this node knows, by whether it reaches them.",
                [("state", state)], reading: { Double(kafka.brokers.count { counts($0) }) })
        }
        count("up") { $0.isUp }
        count("away") { !$0.isUp }
    }
}
