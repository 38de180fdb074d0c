// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
package import Observability
import PosixIO

/// A pretence of a Kafka cluster, inside this process, for development and tests.
///
/// It is librdkafka's own mock: it speaks enough of the protocol for producers and groups over
/// loopback TCP, on ports of the system's choice, so that other processes can use it too. It is
/// no Kafka: everything is in memory, a partition keeps 5 MiB, look-ups by time answer nothing,
/// an empty fetch waits its full time, and a group's first join takes three seconds.
///
/// Threads: any; each call is carried out by the mock's own thread.
@safe
package final class KafkaMockCluster: @unchecked Sendable {
    // @unchecked: the pointers are set once, and the mock takes its calls on its own thread.
    private let handle: ClientHandle
    private let cluster: OpaquePointer

    /// `host:port` of each broker.
    package let bootstrapServers: [String]

    /// The protocol's requests that ``pushErrors(_:for:)`` can make fail. `rawValue` is the API key.
    package enum Request: Int16, Sendable, CaseIterable {
        case produce = 0
        case fetch = 1
        case listOffsets = 2
        case metadata = 3
        case offsetCommit = 8
        case offsetFetch = 9
        case findCoordinator = 10
        case joinGroup = 11
        case heartbeat = 12
        case syncGroup = 14
        case initProducerID = 22
    }

    /// What a request can be answered with.
    package enum Failure: String, Sendable, CaseIterable {
        /// The broker cuts the connection instead of answering.
        case disconnect
        case notLeader
        case coordinatorNotAvailable
        case rebalanceInProgress
        case illegalGeneration
        case unknownMember
        case messageTooLarge
        case requestTimedOut
        case topicAuthorizationFailed
        case groupAuthorizationFailed
        /// As an answer to ``Request/initProducerID``, fatal to the producer that gets it.
        case clusterAuthorizationFailed
        /// Another process has this member's identity. A consumer that is told so never works
        /// again: it is how a fatal error is provoked.
        case fencedInstance
        case notEnoughReplicas

        var code: rd_kafka_resp_err_t {
            switch self {
            case .disconnect: RD_KAFKA_RESP_ERR__TRANSPORT
            case .notLeader: RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            case .coordinatorNotAvailable: RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            case .rebalanceInProgress: RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
            case .illegalGeneration: RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
            case .unknownMember: RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
            case .messageTooLarge: RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
            case .requestTimedOut: RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
            case .topicAuthorizationFailed: RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
            case .groupAuthorizationFailed: RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
            case .clusterAuthorizationFailed: RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
            case .fencedInstance: RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
            case .notEnoughReplicas: RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
            }
        }
    }

    /// Starts `brokers` brokers; their IDs are 1, 2, ….
    package init(brokers: Int, log: Logger) throws(KafkaError) {
        guard (1...64).contains(brokers) else {
            throw KafkaError(.configurationInvalid, "\(brokers) mock brokers; use 1 to 64")
        }
        let settings = KafkaSettings(bootstrapServers: ["localhost:0"], clientID: "mock")
        // The client that carries the mock connects nowhere and would complain about that.
        let configuration = try ClientConfiguration(settings, reserved: [("log_level", "2")])
        let handle = try configuration.start(RD_KAFKA_PRODUCER, events: 0, log: log)
        guard let cluster = unsafe rd_kafka_mock_cluster_new(handle.client, Int32(brokers)) else {
            handle.destroy(flags: 0)
            throw KafkaError(.other, "librdkafka could not start a mock cluster")
        }
        let servers = unsafe rd_kafka_mock_cluster_bootstraps(cluster).map {
            unsafe String(cString: $0)
        }
        bootstrapServers = (servers ?? "").split(separator: ",").map(String.init)
        self.handle = handle
        unsafe self.cluster = cluster
    }

    deinit {
        unsafe rd_kafka_mock_cluster_destroy(cluster)
        handle.destroy(flags: 0)
    }

    /// Creates a topic. One that a client asks for without this gets four partitions.
    package func createTopic(_ name: String, partitions: Int, replication: Int = 1)
        throws(KafkaError)
    {
        let code = unsafe rd_kafka_mock_topic_create(
            cluster, name, Int32(clamping: partitions), Int32(clamping: replication))
        try check(code, "creating topic \"\(name)\"")
    }

    /// Closes a broker's connections and refuses new ones. Its partitions keep it as their
    /// leader; see ``setPartitionLeader(_:broker:)``.
    package func setBrokerDown(_ id: Int32) throws(KafkaError) {
        try check(unsafe rd_kafka_mock_broker_set_down(cluster, id), "stopping broker \(id)")
    }

    package func setBrokerUp(_ id: Int32) throws(KafkaError) {
        try check(unsafe rd_kafka_mock_broker_set_up(cluster, id), "starting broker \(id)")
    }

    /// Moves a partition of a topic that exists.
    package func setPartitionLeader(_ partition: TopicPartition, broker: Int32) throws(KafkaError) {
        let code = unsafe rd_kafka_mock_partition_set_leader(
            cluster, partition.topic, partition.partition, broker)
        try check(code, "moving \(partition) to broker \(broker)")
    }

    /// Makes each of a broker's answers take this long.
    package func setRoundTrip(_ broker: Int32, _ duration: Duration) throws(KafkaError) {
        let code = unsafe rd_kafka_mock_broker_set_rtt(cluster, broker, duration.kafkaMilliseconds)
        try check(code, "slowing broker \(broker)")
    }

    /// Makes the broker that coordinates a group be this one.
    package func setCoordinator(ofGroup group: String, broker: Int32) throws(KafkaError) {
        let code = unsafe rd_kafka_mock_coordinator_set(cluster, "group", group, broker)
        try check(code, "moving group \"\(group)\" to broker \(broker)")
    }

    /// Answers the next requests of this kind with these failures, one each.
    package func pushErrors(_ failures: [Failure], for request: Request) {
        var codes = failures.map(\.code)
        unsafe rd_kafka_mock_push_request_errors_array(
            cluster, request.rawValue, codes.count, &codes)
    }

    private func check(_ code: rd_kafka_resp_err_t, _ action: String) throws(KafkaError) {
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(code, "\(action): \(KafkaError(code).detail)")
        }
    }
}
