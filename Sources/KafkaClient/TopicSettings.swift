// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import PosixIO

/// The librdkafka that this program runs with, which may be newer than the one it was built with.
package enum KafkaLibrary {
    /// Such as `2.0.2`.
    package static var version: String {
        unsafe rd_kafka_version_str().map { unsafe String(cString: $0) } ?? "unknown"
    }

    /// `0xMMmmrrpp`: major, minor, revision, pre-release.
    package static var versionNumber: Int32 { rd_kafka_version() }
}

extension ClientHandle {
    /// The settings of topics by topic and name (DescribeConfigs, KIP-133), as far as the broker
    /// tells; a topic it refuses to describe is missing. Blocks.
    func topicSettings(of topics: [String], within limit: Duration) throws(KafkaError)
        -> [String: [String: String]]
    {
        guard !topics.isEmpty else { return [:] }
        var resources: [OpaquePointer?] = unsafe []
        for topic in topics {
            unsafe resources.append(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic))
        }
        let options = unsafe rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS)
        let queue = unsafe rd_kafka_queue_new(client)
        defer {
            unsafe rd_kafka_ConfigResource_destroy_array(&resources, topics.count)
            unsafe rd_kafka_AdminOptions_destroy(options)
            unsafe rd_kafka_queue_destroy(queue)
        }
        var text = [CChar](repeating: 0, count: 512)
        _ = unsafe rd_kafka_AdminOptions_set_request_timeout(
            options, limit.kafkaMilliseconds, &text, text.count)
        let resourceCount = topics.count
        unsafe rd_kafka_DescribeConfigs(
            client, &resources, resourceCount, options, queue)
        // A little longer than the request's own limit, whose failure says more.
        let wait = (limit + .milliseconds(500)).kafkaMilliseconds
        guard let event = unsafe rd_kafka_queue_poll(queue, wait) else {
            throw KafkaError(.timedOut, "no answer about topics within \(limit)", isRetriable: true)
        }
        defer { unsafe rd_kafka_event_destroy(event) }
        let code = unsafe rd_kafka_event_error(event)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR,
            let result = unsafe rd_kafka_event_DescribeConfigs_result(event)
        else {
            let detail =
                unsafe rd_kafka_event_error_string(event).map { unsafe String(cString: $0) } ?? "?"
            throw KafkaError(code, "settings of topics: \(detail)")
        }
        var count = 0
        let described = unsafe rd_kafka_DescribeConfigs_result_resources(result, &count)
        var found: [String: [String: String]] = [:]
        for index in 0..<count {
            guard let resource = unsafe described?[index],
                unsafe rd_kafka_ConfigResource_error(resource) == RD_KAFKA_RESP_ERR_NO_ERROR,
                let name = unsafe rd_kafka_ConfigResource_name(resource)
            else { continue }
            unsafe found[String(cString: name)] = Self.settings(of: resource)
        }
        return found
    }

    private static func settings(of resource: OpaquePointer) -> [String: String] {
        var count = 0
        let entries = unsafe rd_kafka_ConfigResource_configs(resource, &count)
        var settings: [String: String] = [:]
        for index in 0..<count {
            guard let entry = unsafe entries?[index],
                let name = unsafe rd_kafka_ConfigEntry_name(entry),
                let value = unsafe rd_kafka_ConfigEntry_value(entry)
            else { continue }
            unsafe settings[String(cString: name)] = String(cString: value)
        }
        return settings
    }
}

extension KafkaReader {
    /// The settings of topics by topic and name, as far as the broker tells. Blocks.
    package func topicSettings(of topics: [String], within limit: Duration) throws(KafkaError)
        -> [String: [String: String]]
    {
        try handle.topicSettings(of: topics, within: limit)
    }
}
