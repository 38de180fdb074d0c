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
