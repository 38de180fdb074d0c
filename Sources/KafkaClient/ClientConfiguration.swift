// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO

/// librdkafka's configuration object until a client takes it over.
@safe
struct ClientConfiguration: ~Copyable {
    private let conf: OpaquePointer

    init(_ settings: KafkaSettings, reserved: [(String, String)]) throws(KafkaError) {
        unsafe conf = rd_kafka_conf_new()
        guard !settings.bootstrapServers.isEmpty else {
            throw KafkaError(
                .configurationInvalid, "bootstrapServers is empty: name at least one host:port")
        }
        try set("bootstrap.servers", settings.bootstrapServers.joined(separator: ","))
        try set("client.id", settings.clientID)
        for (name, value) in Self.common { try set(name, value) }
        // Since 2.2: before it a full prefetch queue waits a second, whatever is set.
        setWhereKnown("fetch.queue.backoff.ms", "20")
        let fixed = Set(reserved.map(\.0) + ["bootstrap.servers", "client.id", "log.queue"])
        for (name, value) in settings.properties.sorted(by: { $0.key < $1.key }) {
            guard !fixed.contains(Self.canonical(name)) else {
                throw KafkaError(
                    .configurationInvalid,
                    "property \"\(name)\" cannot be set here: Rivulet sets it itself")
            }
            try set(name, value)
        }
        for (name, value) in reserved { try set(name, value) }
        try set("log.queue", "true")
    }

    deinit { unsafe rd_kafka_conf_destroy(conf) }

    /// What every client uses unless the operator's properties say otherwise.
    private static let common: [(String, String)] = [
        // Small requests go at once. librdkafka turns Nagle's algorithm off itself since 2.10.
        ("socket.nagle.disable", "true"),
        // A broker that came back is found within a second and not within librdkafka's ten. Each
        // pause is drawn anew, so that many nodes do not come back in step.
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.timeout.ms", "10000"),
    ]

    /// Names that librdkafka has twice.
    private static func canonical(_ name: String) -> String {
        switch name {
        case "metadata.broker.list": "bootstrap.servers"
        case "request.required.acks": "acks"
        case "queue.buffering.max.ms": "linger.ms"
        case "delivery.timeout.ms": "message.timeout.ms"
        case "auto.commit.enable": "enable.auto.commit"
        default: name
        }
    }

    func set(_ name: String, _ value: String) throws(KafkaError) {
        guard let problem = attempt(name, value) else { return }
        throw KafkaError(.configurationInvalid, "property \"\(name)\": \(problem)")
    }

    /// Sets a property that only newer versions have.
    func setWhereKnown(_ name: String, _ value: String) { _ = attempt(name, value) }

    /// What is wrong with the property, or `nil`.
    private func attempt(_ name: String, _ value: String) -> String? {
        var text = [CChar](repeating: 0, count: 512)
        let result = unsafe rd_kafka_conf_set(conf, name, value, &text, text.count)
        guard result != RD_KAFKA_CONF_OK else { return nil }
        return Self.string(text)
    }

    static func string(_ buffer: [CChar]) -> String {
        unsafe buffer.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    }

    /// Creates the client. It tells these kinds of event, and its log lines, through its queue.
    consuming func start(_ type: rd_kafka_type_t, events: Int32, log: Logger) throws(KafkaError)
        -> ClientHandle
    {
        unsafe rd_kafka_conf_set_events(conf, events | RD_KAFKA_EVENT_LOG)
        var text = [CChar](repeating: 0, count: 512)
        // rd_kafka_new frees the configuration only where it succeeds.
        guard let client = unsafe rd_kafka_new(type, conf, &text, text.count) else {
            _ = consume self
            throw KafkaError(.configurationInvalid, Self.string(text))
        }
        discard self
        unsafe rd_kafka_set_log_queue(client, nil)
        return unsafe ClientHandle(client, log: log)
    }
}

extension Duration {
    /// Whole milliseconds for librdkafka's properties and timeouts, rounded up.
    var kafkaMilliseconds: Int32 {
        Int32(clamping: (max(0, wholeNanoseconds) + 999_999) / 1_000_000)
    }
}
