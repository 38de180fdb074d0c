// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
import PosixIO

/// What connections to Redis count, under names that begin `rivulet_redis_`.
///
/// View: node. Threads: any. Make one for each set of labels and share it between connections.
package final class RedisMetrics: Sendable {
    let commands: Counter
    let connects: Counter
    let losses: Counter
    let ready: Gauge
    let bytesSent: Counter
    let bytesReceived: Counter
    let latency: DurationHistogram
    private let errors: [RedisError.Code: Counter]

    package init(in registry: MetricsRegistry, labels: [(String, String)] = []) {
        commands = registry.counter(
            "rivulet_redis_commands_total", "Commands sent to Redis.", labels)
        connects = registry.counter(
            "rivulet_redis_connects_total", "Connections to Redis that became ready.", labels)
        losses = registry.counter(
            "rivulet_redis_connection_losses_total",
            "Connections and attempts to connect that failed; each is followed by a reconnect.",
            labels)
        ready = registry.gauge(
            "rivulet_redis_connections_ready", "Connections to Redis that are ready.", labels)
        bytesSent = registry.counter(
            "rivulet_redis_sent_bytes_total", "Bytes written to Redis.", labels)
        bytesReceived = registry.counter(
            "rivulet_redis_received_bytes_total", "Bytes read from Redis.", labels)
        latency = registry.histogram(
            "rivulet_redis_command_duration_seconds",
            "From a command being queued to its reply, blocking reads included.", labels)
        var errors: [RedisError.Code: Counter] = [:]
        for code in RedisError.Code.allCases {
            errors[code] = registry.counter(
                "rivulet_redis_errors_total", "Commands and attempts that failed, by reason.",
                labels + [("code", code.rawValue)])
        }
        self.errors = errors
    }

    func countError(_ code: RedisError.Code) { errors[code]?.add() }
}
