// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import Coordination
package import Dependability
package import KafkaClient
package import PosixIO
import Synchronization

/// What a node knows of itself, for health checks, metrics and telemetry.
///
/// View: node. Threads: any; each part is written by the loop that knows it.
package final class NodeStatus: Sendable {
    /// Where the node is in its life.
    package enum Phase: String, Sendable {
        /// Waits for its place in history.
        case starting
        case up
        /// Admits nobody and lets its clients go.
        case draining
    }

    private struct Values {
        var phase = Phase.starting
        var redisIsReady = false
        var redisDanger: String?
        var isFollowing = false
        var ingestError: String?
        var partitions: [TopicPartition] = []
        var orphans: [TopicPartition] = []
        var cluster = ClusterView()
        var canary = CanaryVerdict.unknown
        var drain: DrainProgress?
    }

    package let nodeID: String
    package let started = MonotonicTime.now
    private let values = Lock(Values())
    private let redis: Dependency
    private let kafka: Dependency
    private let supervisor: Supervisor

    /// - Parameters: What the node's readiness is judged by besides what is set here.
    package init(nodeID: String, redis: Dependency, kafka: Dependency, supervisor: Supervisor) {
        self.nodeID = nodeID
        self.redis = redis
        self.kafka = kafka
        self.supervisor = supervisor
    }

    package var phase: Phase { values.withLock { $0.phase } }

    package func enter(_ phase: Phase) { values.withLock { $0.phase = phase } }

    /// Begins to drain. False where that has begun already.
    package func beginDraining() -> Bool {
        values.withLock { values in
            defer { values.phase = .draining }
            return values.phase != .draining
        }
    }

    /// How far a drain is; `nil` before one begins.
    package var drain: DrainProgress? {
        get { values.withLock { $0.drain } }
        set { values.withLock { $0.drain = newValue } }
    }

    /// Only from starting: a node that drains does not come up again.
    package func becomeUp() {
        values.withLock { if $0.phase == .starting { $0.phase = .up } }
    }

    package var redisIsReady: Bool {
        get { values.withLock { $0.redisIsReady } }
        set { values.withLock { $0.redisIsReady = newValue } }
    }

    /// What in the settings of Redis endangers history.
    package var redisDanger: String? {
        get { values.withLock { $0.redisDanger } }
        set { values.withLock { $0.redisDanger = newValue } }
    }

    /// True while the tail's reads are answered.
    package var isFollowing: Bool {
        get { values.withLock { $0.isFollowing } }
        set { values.withLock { $0.isFollowing = newValue } }
    }

    package var ingestError: String? {
        get { values.withLock { $0.ingestError } }
        set { values.withLock { $0.ingestError = newValue } }
    }

    /// The partitions that this node reads, in their order.
    package var partitions: [TopicPartition] {
        get { values.withLock { $0.partitions } }
        set { values.withLock { $0.partitions = newValue } }
    }

    /// The partitions of dead nodes that it reads, in their order.
    package var orphans: [TopicPartition] {
        get { values.withLock { $0.orphans } }
        set { values.withLock { $0.orphans = newValue } }
    }

    /// The cluster as this node last saw it.
    package var cluster: ClusterView {
        get { values.withLock { $0.cluster } }
        set { values.withLock { $0.cluster = newValue } }
    }

    /// What the canaries say of this node.
    package var canary: CanaryVerdict {
        get { values.withLock { $0.canary } }
        set { values.withLock { $0.canary = newValue } }
    }

    /// What `/readyz` says.
    package var readiness: Readiness {
        let values = values.withLock { $0 }
        var facts = Readiness.Facts(redis: redis.status(), kafka: kafka.status())
        facts.phase = values.phase
        facts.redisIsReady = values.redisIsReady
        facts.redisDanger = values.redisDanger
        facts.isFollowing = values.isFollowing
        facts.components = supervisor.statuses
        facts.canary = values.canary
        return Readiness(facts)
    }
}
