// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Everything that one node was told before it started.
///
/// A value that never changes once loaded, so it is handed to any thread. The initialiser gives
/// the defaults; loading lays the file, the environment and the flags over them, in that order.
package struct Configuration: Sendable {
    package var node = NodeSection()
    package var cluster = ClusterSection()
    package var server = ServerSection()
    package var limits = LimitsSection()
    package var kafka = KafkaSection()
    package var redis = RedisSection()
    package var history = HistorySection()
    package var log = LogSection()
    package var telemetry = TelemetrySection()
    package var canary = CanarySection()
    package var supervision = SupervisionSection()
    package var admin = AdminSection()
    /// In the order of the file. Names are unique.
    package var channels = DefaultChannels.channels
    /// In the order of the file; the first that matches a topic serves it.
    package var patterns = DefaultChannels.patterns

    /// Where each key's value was given; a key that is missing has its default.
    var origins: [String: ConfigurationLocation] = [:]

    package init() {}
}
