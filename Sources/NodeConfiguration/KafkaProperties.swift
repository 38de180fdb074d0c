// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Properties for librdkafka, some of which are secret, so none shows when it is printed.
struct KafkaProperties: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    var values: [String: String] = [:]

    /// Without values: `sasl.username, sasl.password`.
    var description: String { values.keys.sorted().joined(separator: ", ") }

    var customMirror: Mirror { Mirror(self, children: []) }

    /// True where the value of the property `name` must never be shown.
    ///
    /// By the words that librdkafka's CONFIGURATION.md uses for its sensitive properties
    /// (`sasl.password`, `ssl.key.password`, `ssl.key.pem`, `sasl.oauthbearer.client.secret`,
    /// `sasl.oauthbearer.config`); a word too many costs only a line of `effective`.
    static func isSecret(_ name: String) -> Bool {
        let name = name.lowercased()
        return ["password", "secret", "pem", "token", "credential", "oauthbearer.config"]
            .contains { name.contains($0) }
    }
}

extension KafkaProperties {
    /// True for `sasl.password_file` and the like, which name a file that holds the value.
    static func isSecretFile(_ name: String) -> Bool {
        name.hasSuffix(ConfigurationKey.fileSuffix)
            && isSecret(String(name.dropLast(ConfigurationKey.fileSuffix.count)))
    }

    /// Why a property cannot be set here, or `nil` where it can.
    ///
    /// Rivulet's guarantees rest on the first group; the second has keys of its own, and one
    /// setting in two places would let them contradict each other.
    static func owner(of name: String) -> String? {
        if let key = keysOfTheirOwn[name] { return "is set by Rivulet from \(key)" }
        if watching.contains(name) { return "is set by Rivulet, which watches brokers by it" }
        guard fixed.contains(name) else { return nil }
        return "is set by Rivulet, whose promise to lose and repeat nothing depends on it"
    }

    /// Each property that ``owner(of:)`` refuses.
    static var ownedNames: [String] { (fixed + watching + keysOfTheirOwn.keys).sorted() }

    private static let fixed = [
        "enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store",
        "partition.assignment.strategy",
        "isolation.level",
    ]

    private static let watching = ["statistics.interval.ms", "enable.sparse.connections"]

    private static let keysOfTheirOwn = [
        "bootstrap.servers": "kafka.bootstrap_servers",
        "metadata.broker.list": "kafka.bootstrap_servers",
        "group.id": "kafka.group_id",
        "auto.offset.reset": "kafka.auto_offset_reset",
        "session.timeout.ms": "kafka.session_timeout",
        "heartbeat.interval.ms": "kafka.heartbeat_interval",
        "fetch.wait.max.ms": "kafka.fetch_wait_max",
        "topic.metadata.refresh.interval.ms": "kafka.metadata_refresh",
    ]
}
