// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// Every key, in the order of the file, the help text and the reference page.
    package static let keyReference: [ConfigurationKey] =
        nodeKeys + clusterKeys + serverKeys + limitKeys + kafkaKeys + redisKeys + historyKeys
        + logKeys
        + telemetryKeys + canaryKeys + supervisionKeys + adminKeys + channelKeys

    private static let nodeKeys: [ConfigurationKey] = [
        .text(
            "node.id", \.node.id, .nodeID,
            "Names the node in the cluster's membership, logs and metrics; unique in the cluster.",
            derivedDefault: "<hostname>-<port>"),
        .optionalText(
            "node.address", \.node.address, .hostAndPort,
            "Where others reach this node, as `/cluster` shows it; none is the first address it "
                + "listens on, with the host's name where that is every address."),
    ]

    private static let clusterKeys: [ConfigurationKey] = [
        .duration(
            "cluster.renewal", \.cluster.renewal, .milliseconds(50) ... .seconds(60),
            "How often a node renews its lease in Redis; at most half of `cluster.lease`."),
        .duration(
            "cluster.lease", \.cluster.lease, .milliseconds(200) ... .seconds(300),
            "A node that has not renewed its lease for this long is dead to the others, which read "
                + "its partitions then."),
        .boolean(
            "cluster.relevel", \.cluster.relevel,
            "Whether a node with more than its share of the connections asks clients to move, after "
                + "another has joined."),
        .integer(
            "cluster.relevel_rate", \.cluster.relevelRate, 1...10_000,
            "Clients that one node asks to move in a second."),
        .integer(
            "cluster.relevel_tolerance", \.cluster.relevelTolerance, 1...100,
            "By how many percent of its share a node may be over it."),
    ]

    private static let serverKeys: [ConfigurationKey] = [
        .list(
            "server.listen", \.server.listen, .listenAddress, count: 0...16,
            "Addresses to listen on; loopback by default, so that nothing is exposed unasked."),
        .list(
            "server.tls_listen", \.server.tlsListen, .listenAddress, count: 0...16,
            "Addresses where TLS is spoken; `server.listen: []` leaves nothing but these."),
        .optionalText(
            "server.tls_certificate", \.server.tlsCertificate, .filePath,
            "The PEM file of the certificate and its intermediate ones; read again on SIGHUP."),
        .optionalText(
            "server.tls_key", \.server.tlsKey, .filePath,
            "The PEM file of the certificate's private key, without a passphrase."),
        .choice(
            "server.tls_client_certificates", \.server.tlsClientCertificates,
            "Whether clients have to show a certificate, may, or are not asked."),
        .optionalText(
            "server.tls_client_authority", \.server.tlsClientAuthority, .filePath,
            "The PEM file of the authorities that sign client certificates."),
        .choice(
            "server.tls_minimum_version", \.server.tlsMinimumVersion,
            "The least version of TLS that is spoken."),
        .boolean(
            "server.http2", \.server.http2,
            "Speaks HTTP/2 beside HTTP/1.1: with clients that know it does, and over TLS with those "
                + "that ask."),
        .integer(
            "server.loops", \.server.loops, 0...256,
            "Event loops, each with a thread and a share of the connections.",
            special: "0 is one per core"),
        .integer(
            "server.backlog", \.server.backlog, 1...65_535,
            "Connections the kernel keeps until they are accepted; a lost node's clients all "
                + "return at once."),
        .duration(
            "server.heartbeat", \.server.heartbeat, .milliseconds(100) ... .seconds(600),
            "A silent stream gets a comment this often, so that proxies keep it open."),
        .duration(
            "server.batch_wait", \.server.batchWait, .zero ... .milliseconds(100),
            "The longest that events wait under load so that several leave in one write; without "
                + "load they never wait."),
        .duration(
            "server.retry", \.server.retry, .milliseconds(100) ... .seconds(300),
            "What the jittered `retry:` of a stream starts from, so that clients return spread "
                + "out."),
        .duration(
            "server.header_timeout", \.server.headerTimeout, .milliseconds(100) ... .seconds(300),
            "A request head must be complete within this, against clients that send it slowly."),
        .duration(
            "server.idle_timeout", \.server.idleTimeout, .milliseconds(100) ... .seconds(3600),
            "A kept-alive connection without a request is closed after this."),
        .duration(
            "server.stuck_timeout", \.server.stuckTimeout, .milliseconds(100) ... .seconds(3600),
            "A socket that takes no byte for this long while some wait is closed."),
        .duration(
            "server.drain", \.server.drain, .zero ... .seconds(600),
            "The time over which a planned stop sends the clients away; a node with few of them takes "
                + "less."),
        .duration(
            "server.drain_notice", \.server.drainNotice, .zero ... .seconds(120),
            "How long a node that is to stop says so before it sends anybody away; longer than "
                + "balancers take to notice."),
        .list(
            "server.trusted_proxies", \.server.trustedProxies, .address, count: 0...64,
            "Proxies whose `X-Forwarded-For` is believed to name the client, for limits by address."
        ),
        .choice(
            "server.compression", \.server.compression,
            "Codings for clients that accept them; each batch is compressed once for all of them."),
    ]

    private static let limitKeys: [ConfigurationKey] = [
        .integer(
            "limits.connections", \.limits.connections, 0...10_000_000,
            "Connections of this node; the next one gets 503 with `Retry-After`.",
            special: "0 derives it from the file-descriptor limit"),
        .bytes(
            "limits.event_bytes", \.limits.eventBytes, 1 << 10...16 << 20,
            "The largest event; a larger one goes to the dead-letter topic."),
        .bytes(
            "limits.header_bytes", \.limits.headerBytes, 1 << 10...1 << 20,
            "The largest request head; a larger one gets 431."),
        .bytes(
            "limits.body_bytes", \.limits.bodyBytes, 1 << 10...16 << 20,
            "The largest request body; a larger one gets 413."),
        .bytes(
            "limits.hot_window_bytes", \.limits.hotWindowBytes, 1 << 20...64 << 30,
            "Memory for the newest events, from which clients resume without Redis."),
        .bytes(
            "limits.ingest_bytes", \.limits.ingestBytes, 1 << 20...64 << 30,
            "Memory for events read from Kafka that wait for Redis: soaks up a burst before Kafka's "
                + "retention can overtake it. Kafka is the buffer beyond it."),
        .bytes(
            "limits.replay_page_bytes", \.limits.replayPageBytes, 16 << 10...16 << 20,
            "What one replay reads ahead of its client at a time."),
        .integer(
            "limits.concurrent_replays", \.limits.concurrentReplays, 1...4096,
            "Replays from Redis that run at once; the others wait their turn."),
        .integer(
            "limits.replay_readers", \.limits.replayReaders, 1...32,
            "Replays from Kafka that run at once, each on a thread of low priority with a Kafka "
                + "client of its own."),
        .bytes(
            "limits.replay_bytes", \.limits.replayBytes, 4 << 20...64 << 30,
            "Memory of the pages of history that clients are being sent or that are kept for "
                + "others; beyond it, requests wait."),
        .bytes(
            "limits.replay_rate", \.limits.replayRate, 0...64 << 30,
            "Bytes of records a second that the node reads back from Kafka, so that a replay "
                + "leaves the network and the processors to live events; 0 is no limit."),
        .integer(
            "limits.lag_events", \.limits.lagEvents, 0...1_000_000_000,
            "Events that a connection which was live may fall behind before `limits.lag_policy` "
                + "holds.",
            special: "0 is no limit"),
        .bytes(
            "limits.lag_bytes", \.limits.lagBytes, 0...64 << 30,
            "The same in bytes of the hot window; 0 is no limit."),
        .choice(
            "limits.lag_policy", \.limits.lagPolicy,
            "Beyond them: go on from history, skip ahead over a gap that the client is told of, or "
                + "close."),
        .integer(
            "limits.cluster_connections", \.limits.clusterConnections, 0...100_000_000,
            "Streams and WebSockets of all nodes together; the next one gets 503 with "
                + "`Retry-After`.",
            special: "0 is no limit"),
        .integer(
            "limits.principal_connections", \.limits.principalConnections, 0...1_000_000,
            "Those of one client address, on all nodes together; the next one gets 429.",
            special: "0 is no limit"),
        .integer(
            "limits.connection_events_per_second", \.limits.connectionEventRate, 0...1_000_000,
            "Events a second of a connection that does not ask for another rate with "
                + "`events_per_second`.",
            special: "0 is no limit"),
        .integer(
            "limits.connection_events_per_second_max", \.limits.connectionEventRateMax,
            0...1_000_000, "What a connection may ask for.", special: "0 is no limit"),
        .integer(
            "limits.principal_events_per_second", \.limits.principalEventRate, 0...100_000_000,
            "Events a second of one client address, on all nodes together.",
            special: "0 is no limit"),
        .integer(
            "limits.cluster_events_per_second", \.limits.clusterEventRate, 0...1_000_000_000,
            "Events a second that all nodes together deliver, counted once for each connection.",
            special: "0 is no limit"),
        .choice(
            "limits.on_limit", \.limits.onLimit,
            "What becomes of events beyond a rate where their channel does not say: they wait, are "
                + "left out, or the newest waits."),
        .text(
            "limits.priority_field", \.limits.priorityField, .fieldPath,
            "The JSON field that says how urgent an event is."),
        .list(
            "limits.urgent_priorities", \.limits.urgentPriorities, .printable(1...64),
            count: 0...32,
            "Its values that make an event urgent: it passes before others are left out, and is "
                + "never replaced by a newer one."),
    ]

    private static let kafkaKeys: [ConfigurationKey] = [
        .list(
            "kafka.bootstrap_servers", \.kafka.bootstrapServers, .hostAndPort, count: 1...64,
            "Brokers to ask first; they name the others."),
        .text(
            "kafka.group_id", \.kafka.groupID, .printable(1...249),
            "The consumer group that the nodes of one cluster share."),
        .duration(
            "kafka.session_timeout", \.kafka.sessionTimeout, .seconds(1) ... .seconds(1800),
            "A node that is silent for this long loses its partitions; brokers refuse less than "
                + "6s by default."),
        .duration(
            "kafka.heartbeat_interval", \.kafka.heartbeatInterval,
            .milliseconds(100) ... .seconds(600),
            "How often a node tells the group it lives; at most a third of "
                + "`kafka.session_timeout`, so that one lost heartbeat is harmless."),
        .duration(
            "kafka.fetch_wait_max", \.kafka.fetchWaitMax, .milliseconds(1) ... .seconds(60),
            "How long a broker may hold back a fetch that finds nothing."),
        .choice(
            "kafka.auto_offset_reset", \.kafka.autoOffsetReset,
            "Where a partition starts that has neither history nor a committed offset."),
        .text(
            "kafka.dead_letter_topic", \.kafka.deadLetterTopic, .topic,
            "Takes records that cannot be served, with the reason; it can be in no channel."),
        .duration(
            "kafka.metadata_refresh", \.kafka.metadataRefresh,
            .milliseconds(100) ... .seconds(3600),
            "How often new topics and partitions are looked for."),
        .properties(
            "kafka.properties", \.kafka.properties,
            "Handed to librdkafka as they are, for example `security.protocol`."),
    ]

    private static let redisKeys: [ConfigurationKey] = [
        .text(
            "redis.url", \.redis.url, .redisURL,
            "The Redis server that holds the history and the leases of the cluster."),
        .optionalText(
            "redis.username", \.redis.username, .printable(1...256),
            "The ACL user; none is Redis' default user."),
        .secret(
            "redis.password", \.redis.password,
            "The password of the user; `redis.password_file` reads it from a file instead."),
        .optionalText(
            "redis.tls_authority", \.redis.tlsAuthority, .filePath,
            "The PEM file of the authorities that sign the server's certificate, for `rediss://`; "
                + "none is the system's."),
        .boolean(
            "redis.tls_verify", \.redis.tlsVerify,
            "Whether the server's certificate and name are checked; without it anybody in between "
                + "can read and change everything."),
        .text(
            "redis.key_prefix", \.redis.keyPrefix, .keyPrefix,
            "Begins every key, so that clusters can share a server."),
        .duration(
            "redis.timeout", \.redis.timeout, .milliseconds(10) ... .seconds(60),
            "The deadline of each command, after which the connection is given up."),
    ]

    private static let historyKeys: [ConfigurationKey] = [
        .integer(
            "history.window_events", \.history.windowEvents, 100...100_000_000,
            "Events per topic whose bytes Redis keeps."),
        .duration(
            "history.window_age", \.history.windowAge, .seconds(1) ... .seconds(30 * 86_400),
            "How long Redis keeps the bytes of an event."),
        .bytes(
            "history.window_bytes", \.history.windowBytes, 16 << 20...1 << 40,
            "Bytes of events per topic that Redis keeps; it needs somewhat more to hold them."),
        .duration(
            "history.index_age", \.history.indexAge, .seconds(1) ... .seconds(365 * 86_400),
            "How long the way back to Kafka's records is kept; at least `history.window_age`."),
        .integer(
            "history.index_batches", \.history.indexBatches, 1000...1_000_000_000,
            "Batches per topic whose way back to Kafka is kept at most, each about 32 bytes of "
                + "Redis' memory."),
        .integer(
            "history.batch_events", \.history.batchEvents, 1...10_000,
            "Events of one append at most, which bounds how long Redis is busy with it."),
        .bytes(
            "history.batch_bytes", \.history.batchBytes, 1 << 10...16 << 20,
            "Bytes of one append at most; a single larger event goes alone."),
    ]

    private static let logKeys: [ConfigurationKey] = [
        .choice("log.level", \.log.level, "The least important lines that are written."),
        .choice("log.format", \.log.format, "For people or for machines."),
    ]

    private static let telemetryKeys: [ConfigurationKey] = [
        .boolean(
            "telemetry.enabled", \.telemetry.enabled,
            "Whether the node publishes its own numbers as events."),
        .duration(
            "telemetry.interval", \.telemetry.interval, .milliseconds(100) ... .seconds(3600),
            "How often it does."),
        .text(
            "telemetry.topic", \.telemetry.topic, .topic,
            "The Kafka topic they go to; the channel `system` carries the default one."),
    ]

    private static let canaryKeys: [ConfigurationKey] = [
        .boolean(
            "canary.enabled", \.canary.enabled,
            "Whether the node sends events of its own through Kafka and Redis, to prove that "
                + "events arrive; where it is the only one that does not receive them it is not "
                + "ready."),
        .duration(
            "canary.interval", \.canary.interval, .milliseconds(100) ... .seconds(60),
            "How often it does."),
        .duration(
            "canary.stale_after", \.canary.staleAfter, .milliseconds(500) ... .seconds(600),
            "A node that has received none for this long is stale; at least twice "
                + "`canary.interval`."),
        .text(
            "canary.topic", \.canary.topic, .topic,
            "The Kafka topic they go to, the same for all nodes of a cluster; it can be in no "
                + "channel."),
    ]

    private static let supervisionKeys: [ConfigurationKey] = [
        .integer(
            "supervision.restarts", \.supervision.restarts, 0...1000,
            "Restarts of a component that fails, within `supervision.window`; one failure more and "
                + "the node is not ready."),
        .duration(
            "supervision.window", \.supervision.window, .seconds(1) ... .seconds(3600),
            "The window; a component that has failed too often is tried once in it."),
    ]

    private static let adminKeys: [ConfigurationKey] = [
        .secret(
            "admin.token", \.admin.token,
            "What `/admin/…` wants as `Authorization: Bearer`; without one it answers the node's own "
                + "machine only.")
    ]

    private static let channelKeys: [ConfigurationKey] = [
        .channels(
            "channels",
            "The streams that clients subscribe to by name; giving any replaces the default ones."),
        .patterns(
            "patterns",
            "Topics that are channels without being listed; `[]` switches the default one off."),
    ]
}

/// A key inside an item of `channels` or `patterns`.
package struct ItemKey: Sendable {
    package let name: String
    package let accepted: String
    /// `nil` where it must be given.
    package let defaultText: String?
    package let reason: String
}

/// The tables of the keys inside a list's items; they are read and documented from here.
package enum ItemKeys {
    private static let descriptionKey = ItemKey(
        name: "description",
        accepted: TextRule.printable(0...ConfigurationLimits.descriptionBytes).accepted,
        defaultText: "\"\"", reason: "One line for the people who list channels.")

    private static let eventKey = ItemKey(
        name: "event",
        accepted: "\(TextRule.eventName.accepted); or a mapping of `field` and `fallback`",
        defaultText: "message", reason: "What stands in the `event:` line of each event.")

    private static let filtersKey = ItemKey(
        name: "filters", accepted: "at most \(ConfigurationLimits.filtersPerChannel) filters",
        defaultText: "[]", reason: "The query parameters that select events.")

    package static let channel = [
        ItemKey(
            name: "name", accepted: TextRule.channelName.accepted, defaultText: nil,
            reason: "The channel's place in the URL; unique."),
        descriptionKey,
        ItemKey(
            name: "topics",
            accepted: "1 to \(ConfigurationLimits.topicsPerChannel) topics, each "
                + TextRule.topic.accepted,
            defaultText: nil, reason: "The Kafka topics it carries; a topic may be in several."),
        eventKey, filtersKey,
        ItemKey(
            name: "slow", accepted: "a mapping of `policy`, `events` and `bytes`",
            defaultText: "what `limits.lag_*` says",
            reason: "What happens to its connections that were live and have fallen behind."),
        ItemKey(
            name: "retention", accepted: "a mapping of `time`, `bytes` and `events`",
            defaultText: "what `history.window_*` says",
            reason:
                "How much of its topics Redis keeps. A topic in several channels is kept as long "
                + "as any of them asks for."),
        ItemKey(
            name: "on_limit", accepted: "a mapping of `policy` and `key`",
            defaultText: "what `limits.on_limit` says",
            reason: "What becomes of its events that a rate does not let pass."),
    ]

    package static let onLimit = [
        ItemKey(
            name: "policy", accepted: onLimitPolicy.accepted, defaultText: "delay",
            reason:
                "They wait for their turn, are left out, or the newest of each key waits."),
        ItemKey(
            name: "key", accepted: TextRule.fieldPath.accepted, defaultText: "none",
            reason:
                "The JSON field that says what an event is about, such as its camera; must be given "
                + "to conflate."),
    ]

    static let onLimitPolicy = ValueKind.choice(OnLimitPolicy.allCases.map(\.rawValue))

    package static let retention = [
        ItemKey(
            name: "time", accepted: retentionTime.accepted, defaultText: "history.window_age",
            reason: "How long the bytes of an event are kept."),
        ItemKey(
            name: "bytes", accepted: retentionBytes.accepted, defaultText: "history.window_bytes",
            reason: "Bytes of events per topic."),
        ItemKey(
            name: "events", accepted: retentionEvents.accepted,
            defaultText: "history.window_events", reason: "Events per topic."),
    ]

    static let retentionTime = ValueKind.duration(.seconds(1) ... .seconds(30 * 86_400))
    static let retentionBytes = ValueKind.bytes(16 << 20...1 << 40)
    static let retentionEvents = ValueKind.integer(1000...100_000_000)

    package static let slow = [
        ItemKey(
            name: "policy", accepted: slowPolicy.accepted, defaultText: "catch_up",
            reason: "Go on from history, skip ahead over a gap that is told, or close."),
        ItemKey(
            name: "events", accepted: slowEvents.accepted, defaultText: "1000",
            reason: "Events a connection may be behind; 0 is no limit."),
        ItemKey(
            name: "bytes", accepted: slowBytes.accepted, defaultText: "0",
            reason: "Bytes of the hot window it may be behind; 0 is no limit."),
    ]

    static let slowPolicy = ValueKind.choice(LagPolicy.allCases.map(\.rawValue))
    static let slowEvents = ValueKind.integer(0...1_000_000_000)
    static let slowBytes = ValueKind.bytes(0...64 << 30)

    package static let pattern = [
        ItemKey(
            name: "topics", accepted: TextRule.topicPattern.accepted, defaultText: nil,
            reason: "A topic whose name matches is served as a channel of that name."),
        descriptionKey, eventKey, filtersKey,
    ]

    package static let event = [
        ItemKey(
            name: "field", accepted: TextRule.fieldPath.accepted, defaultText: nil,
            reason: "The JSON field whose text is the event's name."),
        ItemKey(
            name: "fallback", accepted: TextRule.eventName.accepted, defaultText: "message",
            reason: "The name of an event without that field."),
    ]

    package static let filter = [
        ItemKey(
            name: "parameter", accepted: TextRule.parameter.accepted, defaultText: nil,
            reason: "The name in the query; unique in the channel."),
        ItemKey(
            name: "fields",
            accepted: "1 to \(ConfigurationLimits.fieldsPerFilter) paths, each "
                + TextRule.fieldPath.accepted,
            defaultText: nil, reason: "JSON fields, any of which may match."),
        ItemKey(
            name: "operation",
            accepted: FilterOperation.allCases.map(\.rawValue).joined(separator: ", "),
            defaultText: FilterOperation.oneOf.rawValue,
            reason: "How a field is compared with what the query gives."),
        descriptionKey,
    ]
}
