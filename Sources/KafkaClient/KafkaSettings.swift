// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// How to reach a Kafka cluster. Common to all clients.
package struct KafkaSettings: Sendable {
    /// `host:port` of some brokers; the others are learned from them.
    package var bootstrapServers: [String]
    /// The name brokers show in their logs and quotas.
    package var clientID: String
    /// librdkafka's own properties, such as `security.protocol` or `sasl.password`. One that
    /// Rivulet sets itself (`enable.auto.commit`, `acks`, `linger.ms`, …) is refused.
    package var properties: [String: String]

    package init(
        bootstrapServers: [String], clientID: String = "rivulet", properties: [String: String] = [:]
    ) {
        self.bootstrapServers = bootstrapServers
        self.clientID = clientID
        self.properties = properties
    }
}

/// How a ``KafkaConsumer`` takes part in its group.
package struct KafkaGroupSettings: Sendable {
    package var groupID: String
    /// How long the group waits for a silent member before its partitions move.
    package var sessionTimeout: Duration
    /// At most a third of ``sessionTimeout``, so that two lost heartbeats evict nobody.
    package var heartbeatInterval: Duration
    /// How long a broker may hold an empty fetch. A real broker wakes it when a record arrives,
    /// so this costs no latency there; librdkafka's mock cluster does not, so tests use 5 ms.
    package var fetchWaitMax: Duration
    /// How often new topics that match a pattern, and new partitions, are looked for.
    package var metadataRefresh: Duration
    /// Bytes of fetched records that wait to be drained, over all partitions.
    ///
    /// Roomy, because librdkafka 2.0 pauses a fetcher for a whole second when its queue is full;
    /// bounded, because it is memory that a slow Redis fills. One fetch may go over it.
    package var queuedBytesMax: Int
    /// Records that may wait per partition before its fetcher pauses.
    package var queuedRecordsPerPartition: Int
    /// Longest time between two calls of ``KafkaConsumer/drain(limit:_:)``, even where nothing
    /// arrives: librdkafka leaves the group after it.
    package var pollIntervalMax: Duration
    /// How long to wait for a broker's answer. Raised to what ``fetchWaitMax`` needs.
    package var socketTimeout: Duration
    /// Lets a subscription create a topic that does not exist, where the broker allows it.
    package var createsTopics: Bool

    package init(
        groupID: String, sessionTimeout: Duration = .seconds(10),
        heartbeatInterval: Duration = .seconds(3), fetchWaitMax: Duration = .milliseconds(100),
        metadataRefresh: Duration = .seconds(30), queuedBytesMax: Int = 64 << 20,
        queuedRecordsPerPartition: Int = 100_000, pollIntervalMax: Duration = .seconds(300),
        socketTimeout: Duration = .seconds(10), createsTopics: Bool = false
    ) {
        self.groupID = groupID
        self.sessionTimeout = sessionTimeout
        self.heartbeatInterval = heartbeatInterval
        self.fetchWaitMax = fetchWaitMax
        self.metadataRefresh = metadataRefresh
        self.queuedBytesMax = queuedBytesMax
        self.queuedRecordsPerPartition = queuedRecordsPerPartition
        self.pollIntervalMax = pollIntervalMax
        self.socketTimeout = socketTimeout
        self.createsTopics = createsTopics
    }
}

/// How a ``KafkaProducer`` sends.
package struct KafkaProducerSettings: Sendable {
    /// How long a record may wait for company in its batch.
    package var linger: Duration
    /// The largest record, with its key and headers, in bytes.
    package var messageMaxBytes: Int
    /// Bytes of records that wait to be delivered; then ``KafkaError/Code/queueFull``.
    package var queuedBytesMax: Int
    /// Records that wait to be delivered; then ``KafkaError/Code/queueFull``.
    package var queuedRecordsMax: Int
    /// After it an undelivered record is reported as failed.
    package var deliveryTimeout: Duration
    /// How often a producer that is asked to tells how the brokers are.
    package var brokersEvery: Duration = .seconds(1)

    package init(
        linger: Duration = .zero, messageMaxBytes: Int = 1_000_000,
        queuedBytesMax: Int = 64 << 20, queuedRecordsMax: Int = 100_000,
        deliveryTimeout: Duration = .seconds(30)
    ) {
        self.linger = linger
        self.messageMaxBytes = messageMaxBytes
        self.queuedBytesMax = queuedBytesMax
        self.queuedRecordsMax = queuedRecordsMax
        self.deliveryTimeout = deliveryTimeout
    }
}
