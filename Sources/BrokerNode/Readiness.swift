// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Coordination
package import Dependability
package import PosixIO

/// Whether clients may be sent to a node, in one word, and why not, or why it is less than well.
///
/// A pure function of what the parts of the node say. The rule: what all nodes share, such as a
/// Redis that is away, makes none of them unready, because a balancer would then have nobody left;
/// what only this one has, such as a component that has failed for good, takes this one out.
package struct Readiness: Sendable, Equatable {
    /// Raw values are what `/readyz` says.
    package enum Word: String, Sendable, CaseIterable {
        case ready
        /// Serves, and something is wrong.
        case degraded
        /// Serves its clients less than its peers would.
        case unready
        case starting
        case draining
    }

    package let word: Word
    /// Sentences for people; empty where all is well.
    package let reasons: [String]

    package var isReady: Bool { word == .ready || word == .degraded }

    /// A component that is not up this long after it was told to start is worth a look: a group
    /// takes seconds to form.
    package static let startsWithin: Duration = .seconds(60)

    /// What it is judged by.
    package struct Facts: Sendable {
        package var now = MonotonicTime.now
        package var phase = NodeStatus.Phase.up
        package var redis: Dependency.Status
        package var kafka: Dependency.Status
        /// True while every connection to Redis can be used.
        package var redisIsReady = true
        /// What in its settings endangers history.
        package var redisDanger: String?
        /// True while the tail's reads are answered.
        package var isFollowing = true
        package var components: [ComponentStatus] = []
        package var canary = CanaryVerdict.unknown

        package init(redis: Dependency.Status, kafka: Dependency.Status) {
            self.redis = redis
            self.kafka = kafka
        }
    }

    package init(_ facts: Facts) {
        var unready: [String] = []
        var degraded: [String] = []
        for component in facts.components {
            let reason = component.reason ?? "it does not say why"
            switch component.phase {
            case .failed: unready.append("\(component.name) has failed: \(reason)")
            case .restarting: degraded.append("\(component.name) is restarted: \(reason)")
            case .starting:
                guard let started = component.started, facts.now - started > Self.startsWithin
                else { continue }
                degraded.append("\(component.name) is not up yet")
            case .stopped, .running: break
            }
        }
        switch facts.canary {
        case .sick:
            unready.append("other nodes receive what this one does not: its own tail is stale")
        case .stale:
            degraded.append(
                "nothing new has come through Kafka and Redis for too long, here or elsewhere")
        case .fresh, .unknown: break
        }
        for dependency in [facts.redis, facts.kafka] {
            if let trouble = dependency.trouble {
                degraded.append("\(dependency.name): \(trouble.message)")
            } else if dependency.breaker != .closed {
                degraded.append("\(dependency.name) does not answer")
            }
        }
        if let danger = facts.redisDanger { degraded.append("redis: \(danger)") }
        if !facts.redisIsReady, facts.redis.isWell { degraded.append("connecting to Redis") }
        if !facts.isFollowing { degraded.append("the tail's reads are not answered") }
        switch facts.phase {
        case .starting: word = .starting
        case .draining: word = .draining
        case .up:
            word = !unready.isEmpty ? .unready : degraded.isEmpty ? .ready : .degraded
        }
        reasons = unready + degraded
    }
}
