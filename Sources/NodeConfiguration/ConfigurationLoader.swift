// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// Reads a configuration: a flag beats the environment, which beats the file, which beats the
    /// default. All that is wrong is thrown together, also in values that a stronger one replaces.
    ///
    /// Blocks on the disk, so it is for the start of a program.
    ///
    /// - Parameters:
    ///   - file: The path of the YAML file. Where it is `nil`, the flag `--config` and then the
    ///     variable `RIVULET_CONFIG` name it; without any there is none.
    ///   - environment: All variables; those that do not begin with `RIVULET_` are ignored.
    ///   - arguments: Flags only, without the program's name and its command.
    package static func load(
        file: String?,
        environment: [String: String],
        arguments: [String]
    ) throws(ConfigurationErrors) -> Configuration {
        var overrides = SettingsGatherer(keyReference)
        overrides.gather(arguments: arguments)
        let variable = environment["RIVULET_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }

        var gatherer = SettingsGatherer(keyReference)
        if let file = file ?? overrides.fileFromFlag ?? variable { gatherer.gather(file: file) }
        gatherer.gather(environment: environment)
        gatherer.gather(arguments: arguments)
        var loader = ConfigurationLoader(gatherer)
        return try loader.load()
    }

    /// Reads a configuration from the text of a file that is called `name` in errors.
    package static func parse(_ document: [UInt8], name: String) throws(ConfigurationErrors)
        -> Configuration
    {
        var gatherer = SettingsGatherer(keyReference)
        gatherer.gather(document: document, from: .file(path: name))
        var loader = ConfigurationLoader(gatherer)
        return try loader.load()
    }
}

/// Lays the given values over the defaults and checks them against each other.
struct ConfigurationLoader {
    private let given: [[GivenValue]]
    private var configuration = Configuration()
    private var errors: ErrorList
    /// Keys that have an error: checking them against others would only mislead.
    private var failed: Set<String> = []
    /// Where topics and patterns stand.
    private var places: [String: ConfigurationLocation] = [:]

    init(_ gatherer: SettingsGatherer) {
        given = gatherer.given
        errors = gatherer.errors
    }

    mutating func load() throws(ConfigurationErrors) -> Configuration {
        for (key, values) in zip(Configuration.keyReference, given) { settle(key, values) }
        if configuration.origins["node.id"] == nil {
            configuration.node.id = NodeSection.derivedID(
                listen: configuration.server.listen + configuration.server.tlsListen)
        }
        checkTimes()
        checkRates()
        checkSizes()
        checkTLS()
        checkDeadLetterTopic()
        checkCanary()
        guard errors.isEmpty else {
            throw ConfigurationErrors(errors: errors.sorted, omitted: errors.omitted)
        }
        return configuration
    }

    private mutating func settle(_ key: ConfigurationKey, _ values: [GivenValue]) {
        for (index, value) in values.enumerated() {
            var reader = ValueReader(key, value, readsFiles: index == values.count - 1)
            guard let result = reader.read() else {
                errors.append(contentsOf: reader.errors)
                failed.insert(key.name)
                continue
            }
            key.write(result, &configuration)
            configuration.origins[key.name] = value.location
            for (place, location) in reader.places { places[place] = location }
        }
    }

    // MARK: Settings against each other

    private func location(_ key: String) -> ConfigurationLocation {
        configuration.origins[key] ?? ConfigurationLocation(.builtIn)
    }

    /// Refuses `key` beside `other`, at the one of both that was given.
    private mutating func conflict(
        _ key: String, _ given: String, _ detail: String, with other: String
    ) {
        let isDefault = configuration.origins[key] == nil
        let location = self.location(isDefault ? other : key)
        errors.append(
            .conflict, Spot(key: key, location: location),
            Refusal(given: given, detail: "\(detail) (\(other) from \(self.location(other)))"))
    }

    private func areSound(_ keys: String...) -> Bool { failed.isDisjoint(with: keys) }

    private mutating func checkTimes() {
        let kafka = configuration.kafka
        // Kafka's own advice for heartbeat.interval.ms: no more than a third of the session.
        if areSound("kafka.heartbeat_interval", "kafka.session_timeout"),
            kafka.heartbeatInterval * 3 > kafka.sessionTimeout
        {
            conflict(
                "kafka.heartbeat_interval", kafka.heartbeatInterval.configurationText,
                "is more than a third of the session timeout of "
                    + kafka.sessionTimeout.configurationText,
                with: "kafka.session_timeout")
        }
        let cluster = configuration.cluster
        if areSound("cluster.renewal", "cluster.lease"), cluster.renewal * 2 > cluster.lease {
            conflict(
                "cluster.renewal", cluster.renewal.configurationText,
                "is more than half of the lease of \(cluster.lease.configurationText)",
                with: "cluster.lease")
        }
        let history = configuration.history
        if areSound("history.index_age", "history.window_age"),
            history.indexAge < history.windowAge
        {
            conflict(
                "history.index_age", history.indexAge.configurationText,
                "is less than the window's age of \(history.windowAge.configurationText)",
                with: "history.window_age")
        }
    }

    private mutating func checkRates() {
        let limits = configuration.limits
        if areSound(
            "limits.connection_events_per_second", "limits.connection_events_per_second_max"),
            limits.connectionEventRateMax > 0,
            limits.connectionEventRate > limits.connectionEventRateMax
        {
            conflict(
                "limits.connection_events_per_second", "\(limits.connectionEventRate)",
                "is more than the \(limits.connectionEventRateMax) that a connection may ask for",
                with: "limits.connection_events_per_second_max")
        }
    }

    private mutating func checkTLS() {
        let server = configuration.server
        if areSound("server.listen", "server.tls_listen"), server.listen.isEmpty,
            server.tlsListen.isEmpty
        {
            conflict(
                "server.listen", "[]", "leaves no address to listen on", with: "server.tls_listen")
        }
        let files = [
            ("server.tls_certificate", server.tlsCertificate), ("server.tls_key", server.tlsKey),
        ]
        for (key, path) in files
        where areSound("server.tls_listen", key) && !server.tlsListen.isEmpty && path == nil {
            conflict(
                "server.tls_listen", Excerpt.quoted(server.tlsListen[0]), "needs \(key)", with: key)
        }
        let key = "server.tls_client_authority"
        if areSound("server.tls_client_certificates", key), server.tlsClientCertificates != .off,
            server.tlsClientAuthority == nil
        {
            conflict(
                "server.tls_client_certificates", server.tlsClientCertificates.rawValue,
                "needs \(key)", with: key)
        }
    }

    private mutating func checkSizes() {
        let limits = configuration.limits
        guard areSound("limits.event_bytes", "limits.hot_window_bytes"),
            limits.eventBytes > limits.hotWindowBytes
        else { return }
        conflict(
            "limits.event_bytes", ByteSize.text(limits.eventBytes),
            "is more than the hot window of \(ByteSize.text(limits.hotWindowBytes)) holds",
            with: "limits.hot_window_bytes")
    }

    /// What could not be served must not come back as an event.
    private mutating func checkDeadLetterTopic() {
        guard areSound("kafka.dead_letter_topic") else { return }
        let topic = configuration.kafka.deadLetterTopic
        refuseChannels(of: topic, "the dead-letter topic", from: "kafka.dead_letter_topic")
        let telemetry = configuration.telemetry
        if telemetry.enabled, areSound("telemetry.topic"), telemetry.topic == topic {
            conflict(
                "telemetry.topic", Excerpt.quoted(topic), "is the dead-letter topic",
                with: "kafka.dead_letter_topic")
        }
    }

    /// Clients are not to be shown what the nodes say to themselves.
    private mutating func checkCanary() {
        let canary = configuration.canary
        guard canary.enabled else { return }
        if areSound("canary.interval", "canary.stale_after"),
            canary.staleAfter < canary.interval * 2
        {
            conflict(
                "canary.stale_after", canary.staleAfter.configurationText,
                "is less than twice the interval of \(canary.interval.configurationText)",
                with: "canary.interval")
        }
        guard areSound("canary.topic") else { return }
        refuseChannels(of: canary.topic, "the canaries' topic", from: "canary.topic")
        let others = [
            ("kafka.dead_letter_topic", configuration.kafka.deadLetterTopic),
            ("telemetry.topic", configuration.telemetry.topic),
        ]
        for (key, topic) in others where areSound(key) && topic == canary.topic {
            conflict(
                "canary.topic", Excerpt.quoted(topic), "is what \(key) names", with: key)
        }
    }

    /// Refuses channels and patterns that carry `topic`.
    private mutating func refuseChannels(of topic: String, _ what: String, from source: String) {
        var uses: [(key: String, given: String, detail: String)] = []
        if areSound("channels") {
            for (index, channel) in configuration.channels.enumerated() {
                for (place, name) in channel.topics.enumerated() where name == topic {
                    uses.append(
                        ("channels[\(index)].topics[\(place)]", name, "is \(what)"))
                }
            }
        }
        if areSound("patterns") {
            for (index, pattern) in configuration.patterns.enumerated()
            where pattern.matches(topic: topic) {
                uses.append(
                    (
                        "patterns[\(index)].topics", pattern.topics,
                        "matches \(what) \(Excerpt.quoted(topic))"
                    ))
            }
        }
        for use in uses {
            let list = use.key.hasPrefix("channels") ? "channels" : "patterns"
            let isDefault = configuration.origins[list] == nil
            let place =
                isDefault ? location(source) : places[use.key] ?? location(list)
            errors.append(
                .conflict, Spot(key: use.key, location: place),
                Refusal(
                    given: Excerpt.quoted(use.given),
                    detail: "\(use.detail), which no channel may carry "
                        + "(\(source) from \(location(source)))"))
        }
    }
}

extension ErrorList {
    /// By source, then by place within a file; otherwise in the order they were found.
    var sorted: [ConfigurationError] {
        errors.enumerated().sorted { a, b in
            let places = [a, b].map {
                (
                    $0.element.location.source.rank, $0.element.location.line ?? 0,
                    $0.element.location.column ?? 0, $0.offset
                )
            }
            return places[0] < places[1]
        }.map(\.element)
    }
}
