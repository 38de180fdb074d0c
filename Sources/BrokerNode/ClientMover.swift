// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Coordination
import HTTPServer
import NodeConfiguration
import Observability
import PosixIO
import Reactor

/// Drives a node's ``Relevelling``: asks clients to move when it has more than its share.
///
/// View: node. Threads: the `cluster` loop's.
final class ClientMover {
    private let context: NodeContext
    private let shards: [LoopBound<NodeShard>]
    private let log: Logger
    private var machine: Relevelling
    private var isMoving = false
    /// The shard that is asked for one more where the count cannot be shared out evenly.
    private var turn = 0

    init(context: NodeContext, shards: [LoopBound<NodeShard>]) {
        self.context = context
        self.shards = shards
        log = context.log.named("relevel")
        let section = context.configuration.cluster
        machine = Relevelling(
            .init(
                rate: section.relevelRate, tolerance: Double(section.relevelTolerance) / 100,
                // A quarter of a second until it comes back, and the renewal that tells of it.
                arrival: .milliseconds(500) + section.renewal * 2))
    }

    /// To be called with each view of the cluster.
    func take(_ view: ClusterView) {
        guard context.status.phase == .up else { return }
        let connections = context.budget.inUse
        let count = machine.step(
            Relevelling.loads(of: view), node: view.nodeID, connections: connections, at: .now)
        if machine.isMoving != isMoving {
            isMoving = machine.isMoving
            log.notice(
                isMoving ? "asking clients to move" : "asking no more clients to move",
                LogField("connections", connections), LogField("moved", machine.moved))
        }
        guard count > 0, !shards.isEmpty else { return }
        for index in shards.indices {
            let isExtra = (index + turn) % shards.count < count % shards.count
            let share = count / shards.count + (isExtra ? 1 : 0)
            guard share > 0 else { continue }
            let shard = shards[index]
            let moved = context.departures.moved
            shard.loop.post { moved.add(shard.value.sendAway(share, because: .move)) }
        }
        turn += 1
    }
}
