// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

extension KafkaGroupSettings {
    /// What ``KafkaConsumer`` rests on; the operator's own properties may not change it.
    func properties() throws(KafkaError) -> [(String, String)] {
        guard !groupID.isEmpty else {
            throw KafkaError(.configurationInvalid, "groupID is empty")
        }
        guard heartbeatInterval > .zero, heartbeatInterval * 3 <= sessionTimeout else {
            throw KafkaError(
                .configurationInvalid,
                "heartbeatInterval \(heartbeatInterval) is to be at most a third of "
                    + "sessionTimeout \(sessionTimeout)")
        }
        let fetchWait = fetchWaitMax.kafkaMilliseconds
        return [
            ("group.id", groupID),
            // Partitions move one by one; those that stay are read on meanwhile. Cooperative and
            // eager members must never share a group.
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Never decide silently where to go on.
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "false"),
            ("session.timeout.ms", "\(sessionTimeout.kafkaMilliseconds)"),
            ("heartbeat.interval.ms", "\(heartbeatInterval.kafkaMilliseconds)"),
            (
                "max.poll.interval.ms",
                "\(max(pollIntervalMax.kafkaMilliseconds, sessionTimeout.kafkaMilliseconds))"
            ),
            ("fetch.wait.max.ms", "\(fetchWait)"),
            // 500 by default, which every change of a leader would cost.
            ("fetch.error.backoff.ms", "10"),
            // librdkafka complains where a broker may hold a fetch for longer than it waits.
            ("socket.timeout.ms", "\(max(socketTimeout.kafkaMilliseconds, fetchWait + 2000))"),
            ("topic.metadata.refresh.interval.ms", "\(metadataRefresh.kafkaMilliseconds)"),
            ("queued.max.messages.kbytes", "\(max(1, queuedBytesMax / 1024))"),
            ("queued.min.messages", "\(max(1, queuedRecordsPerPartition))"),
            ("allow.auto.create.topics", createsTopics ? "true" : "false"),
            // Kafka's own topics, which a pattern such as "*" would match.
            ("topic.blacklist", "^__"),
        ]
    }
}
