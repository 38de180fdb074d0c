// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerTestKit
import PosixIO

/// Redis, Kafka and nodes, as real processes that end with the value.
package final class TestCluster: Sendable {
    package let redis: RedisServerProcess
    package let kafka: DevKafkaProcess
    package let nodes: [NodeProcess]

    /// Starts all of it and waits until every node is ready.
    ///
    /// - Parameters:
    ///   - settings: For every node; see ``NodeProcess``.
    ///   - redisArguments: For the command line of Redis.
    package init(
        nodes count: Int, settings: [String: String] = [:], redisArguments: [String] = []
    ) throws(ClusterHarnessError) {
        do throws(RedisServerError) {
            redis = try RedisServerProcess(arguments: redisArguments)
        } catch {
            throw ClusterHarnessError(.processEnded, "\(error)")
        }
        kafka = try DevKafkaProcess()
        var nodes: [NodeProcess] = []
        for number in 1...count {
            nodes.append(
                try NodeProcess(
                    id: "node-\(number)", redisURL: "redis://127.0.0.1:\(redis.port)/0",
                    kafka: kafka.bootstrapServers, settings: settings))
        }
        self.nodes = nodes
        for node in nodes { node.start() }
        for node in nodes { try node.waitUntilReady() }
    }

    package var ports: [UInt16] { nodes.map(\.port) }

    /// Waits until each node that runs reads some of the partitions.
    package func waitUntilShared(within limit: Duration = .seconds(40)) -> Bool {
        Waiting.until(within: limit) {
            nodes.allSatisfy { $0.hasEnded || ($0.health()?.partitions ?? 0) > 0 }
        }
    }

    /// How each node fares and what it logged last, for the message of a test that failed.
    package var diagnosis: String {
        nodes.map { "\($0.id) \($0.fate); its log ends:\n\($0.logEnd)" }.joined(separator: "\n")
    }
}
