// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka

/// Why Kafka did not do what was asked.
package struct KafkaError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is. `rawValue` is the metric label and the log key.
    package enum Code: String, Sendable, CaseIterable {
        /// A setting is unknown, malformed, reserved or contradicts another one.
        case configurationInvalid
        /// No broker answers, or the one that is needed does not.
        case brokersUnavailable
        case authenticationFailed
        case authorizationFailed
        /// The topic or the partition does not exist.
        case topicUnknown
        /// The record is larger than this client or the broker accepts.
        case messageTooLarge
        /// The producer's buffer is full: try again when deliveries have been reported.
        case queueFull
        case timedOut
        /// The position asked for is outside what the partition holds.
        case offsetOutOfRange
        /// The group has no committed offset for the partition.
        case offsetMissing
        /// The group is changing hands: the request belongs to an earlier generation.
        case groupRebalancing
        /// The client has been closed.
        case closed
        /// The client is beyond repair and has to be replaced by a new one.
        case fatal
        case other
    }

    package let code: Code
    /// What happened, with the thing and the value it happened to.
    package let detail: String
    /// librdkafka's name of the error, such as `_TRANSPORT`; empty where the error is ours.
    package let name: String
    /// True where the same request may succeed later without anybody changing anything.
    package let isRetriable: Bool
    /// True where this client will never work again: create a new one.
    package let isFatal: Bool

    package init(
        _ code: Code, _ detail: String, name: String = "", isRetriable: Bool = false,
        isFatal: Bool = false
    ) {
        self.code = code
        self.detail = detail
        self.name = name
        self.isRetriable = isRetriable
        self.isFatal = isFatal
    }

    package var description: String {
        name.isEmpty
            ? "kafka.\(code.rawValue): \(detail)" : "kafka.\(code.rawValue): \(detail) [\(name)]"
    }
}

extension KafkaError {
    /// Translates librdkafka's error. `detail` replaces its general text.
    init(_ code: rd_kafka_resp_err_t, _ detail: String? = nil, isFatal: Bool = false) {
        let text = unsafe rd_kafka_err2str(code).map { unsafe String(cString: $0) } ?? "?"
        let name = unsafe rd_kafka_err2name(code).map { unsafe String(cString: $0) } ?? ""
        let (kind, isRetriable) = Self.classify(code)
        let fatal = isFatal || kind == .fatal
        self.init(
            fatal ? .fatal : kind, detail.map { $0.isEmpty ? text : $0 } ?? text, name: name,
            isRetriable: isRetriable && !fatal, isFatal: fatal)
    }

    /// Translates and frees librdkafka's error object.
    init(taking error: OpaquePointer, about subject: String) {
        let text = unsafe rd_kafka_error_string(error).map { unsafe String(cString: $0) } ?? "?"
        let code = unsafe rd_kafka_error_code(error)
        let isFatal = unsafe rd_kafka_error_is_fatal(error) != 0
        unsafe rd_kafka_error_destroy(error)
        self.init(code, "\(subject): \(text)", isFatal: isFatal)
    }

    private static func classify(_ code: rd_kafka_resp_err_t) -> (Code, isRetriable: Bool) {
        switch code {
        case RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
            RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR__NODE_UPDATE,
            RD_KAFKA_RESP_ERR__WAIT_COORD, RD_KAFKA_RESP_ERR__WAIT_CACHE,
            RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
            return (.brokersUnavailable, true)
        case RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
            RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, RD_KAFKA_RESP_ERR__SSL:
            return (.authenticationFailed, false)
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
            return (.authorizationFailed, false)
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
            return (.topicUnknown, false)
        case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
            return (.messageTooLarge, false)
        case RD_KAFKA_RESP_ERR__QUEUE_FULL: return (.queueFull, true)
        case RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
            RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
            return (.timedOut, true)
        case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
            return (.offsetOutOfRange, false)
        case RD_KAFKA_RESP_ERR__NO_OFFSET: return (.offsetMissing, false)
        case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
            return (.groupRebalancing, true)
        case RD_KAFKA_RESP_ERR__FATAL, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
            return (.fatal, false)
        case RD_KAFKA_RESP_ERR__INVALID_ARG, RD_KAFKA_RESP_ERR__CONFLICT:
            return (.configurationInvalid, false)
        case RD_KAFKA_RESP_ERR__DESTROY: return (.closed, false)
        default: return (.other, false)
        }
    }
}
