// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Compression
import Coordination
import Dependability
import HTTP1Wire
import HTTPServer
import History
import KafkaClient
import NodeConfiguration
import Observability
import PosixIO
import RedisClient
import TLSEngine

/// What all loops of a node share: settings, the channels, counters.
///
/// View: node. Threads: any; everything in it is immutable or safe for all threads.
final class NodeContext: Sendable {
    let configuration: Configuration
    let directory: ChannelDirectory
    let registry: MetricsRegistry
    let status: NodeStatus
    let httpSettings: HTTPServerSettings
    let httpMetrics: HTTPServerMetrics
    /// `nil` where no address speaks TLS.
    let tls: NodeTLS?
    let budget: ConnectionBudget
    let limits: NodeLimits
    let hubSettings: Hub.Settings
    let log: Logger
    let ingestMetrics: IngestMetrics
    let orphanMetrics: IngestMetrics
    let tailMetrics: TailMetrics
    let replayMetrics: ReplayMetrics
    let gapMetrics: GapMetrics
    let lookbackMetrics: LookbackMetrics
    let redisMetrics: RedisMetrics
    let webSocketMetrics: WebSocketMetrics
    let clusterMetrics: ClusterMetrics
    let redisDependency = Dependency("redis")
    let kafka = KafkaWatch()
    let supervisor: Supervisor
    /// `nil` where canaries are switched off.
    let canary: CanaryLedger?
    let admin: AdminGate
    /// What ends the node where a request asks for it; the program's.
    let stopRequest = Lock<(@Sendable () -> Void)?>(nil)
    let departures: DepartureMetrics
    private let hubs = Lock<[HubMetrics]>([])

    /// - Throws: Where the files that TLS needs cannot be used.
    init(
        configuration: Configuration, directory: ChannelDirectory, connectionsMax: Int, log: Logger
    ) throws(TLSError) {
        self.configuration = configuration
        self.directory = directory
        self.log = log
        registry = MetricsRegistry()
        let supervision = configuration.supervision
        supervisor = Supervisor(
            .init(restartsMax: supervision.restarts, window: supervision.window), in: registry,
            log: log.named("supervisor"))
        status = NodeStatus(
            nodeID: configuration.node.id, redis: redisDependency, kafka: kafka.dependency,
            supervisor: supervisor)
        httpMetrics = HTTPServerMetrics(registry)
        ingestMetrics = IngestMetrics(in: registry)
        let orphanMetrics = IngestMetrics(in: registry, gauges: MetricsRegistry())
        self.orphanMetrics = orphanMetrics
        registry.gauge(
            "rivulet_ingest_orphans", "Partitions of dead nodes that this node reads.",
            reading: { Double(orphanMetrics.partitions.value) })
        let tailMetrics = TailMetrics(in: registry)
        self.tailMetrics = tailMetrics
        let canary = configuration.canary
        self.canary =
            canary.enabled
            ? CanaryLedger(
                nodeID: configuration.node.id,
                settings: .init(interval: canary.interval, staleAfter: canary.staleAfter),
                in: registry, tip: { tailMetrics.historyTip }) : nil
        replayMetrics = ReplayMetrics(in: registry)
        gapMetrics = GapMetrics(in: registry)
        lookbackMetrics = LookbackMetrics(in: registry)
        redisMetrics = RedisMetrics(in: registry)
        webSocketMetrics = WebSocketMetrics(in: registry)
        clusterMetrics = ClusterMetrics(in: registry)
        admin = AdminGate(token: configuration.admin.token)
        departures = DepartureMetrics(in: registry, status)
        budget = ConnectionBudget(limit: connectionsMax)
        limits = NodeLimits(configuration, in: registry)
        let server = configuration.server
        var http = HTTPServerSettings()
        http.backlog = Int32(clamping: server.backlog)
        http.limits = HTTP1Limits(
            headerBytes: configuration.limits.headerBytes, bodyBytes: configuration.limits.bodyBytes
        )
        http.headerTimeout = server.headerTimeout
        http.idleTimeout = server.idleTimeout
        if !server.http2 { http.http2 = nil }
        httpSettings = http
        tls = try NodeTLS(
            server, protocols: http.applicationProtocols, registry, log.named("tls"))
        var hub = Hub.Settings(
            heartbeat: server.heartbeat, stuckAfter: server.stuckTimeout, retry: server.retry,
            windowBytes: configuration.limits.hotWindowBytes)
        hub.batchWait = server.batchWait
        hub.lagRule = LagRule(
            policy: .init(configuration.limits.lagPolicy),
            eventsMax: configuration.limits.lagEvents,
            bytesMax: configuration.limits.lagBytes)
        for (index, channel) in configuration.channels.enumerated() {
            guard let slow = channel.slow else { continue }
            hub.lagRules[index] = LagRule(
                policy: .init(slow.policy), eventsMax: slow.events, bytesMax: slow.bytes)
        }
        hubSettings = hub
        registerProcessMetrics()
        for dependency in [redisDependency, kafka.dependency] {
            HealthParts.register(dependency, in: registry)
        }
        HealthParts.register(kafka, in: registry)
        if let canary = self.canary { HealthParts.register(canary, status, in: registry) }
    }

    /// Makes one hub's counters visible.
    func register(_ metrics: HubMetrics, loop: String) {
        hubs.withLock { $0.append(metrics) }
        let labels = [("loop", loop)]
        func gauge(_ name: String, _ help: String, _ read: @escaping @Sendable () -> Double) {
            registry.gauge(name, help, labels, reading: read)
        }
        gauge(
            "rivulet_subscribers",
            "Connections that receive events; a WebSocket counts for each of its subscriptions."
        ) {
            Double(metrics.connections.value)
        }
        gauge("rivulet_subscription_classes", "Different subscriptions among them.") {
            Double(metrics.classes.value)
        }
        gauge("rivulet_subscribers_lagging", "Connections whose socket is full.") {
            Double(metrics.lagging.value)
        }
        gauge("rivulet_hot_window_bytes", "Memory of the hot window; loops share the batches.") {
            Double(metrics.windowBytes.value)
        }
        func counter(_ name: String, _ help: String, _ counter: Counter) {
            registry.counter(name, help, labels, reading: { counter.value })
        }
        counter(
            "rivulet_events_delivered_total", "Events handed to sockets.", metrics.eventsDelivered)
        counter("rivulet_bytes_delivered_total", "Bytes handed to sockets.", metrics.bytesDelivered)
        counter("rivulet_writes_total", "System calls that wrote events.", metrics.writes)
        counter("rivulet_heartbeats_total", "Heartbeat comments sent.", metrics.heartbeats)
        counter(
            "rivulet_replay_requests_total", "Pages of history that connections asked for.",
            metrics.replayPages)
        counter(
            "rivulet_stuck_closed_total", "Connections closed because their socket took nothing.",
            metrics.stuckClosed)
        gauge(
            "rivulet_lag_events_max", "Events that the slowest connection is behind."
        ) { Double(metrics.longestLag.value) }
        counter(
            "rivulet_lag_closed_total", "Connections closed because their rule bounds their lag.",
            metrics.lagClosed)
        counter(
            "rivulet_lag_skips_total", "Times a slow connection was moved ahead over a gap.",
            metrics.lagSkips)
        gauge("rivulet_rate_delayed", "Connections that wait for a rate.") {
            Double(metrics.delayed.value)
        }
        counter(
            "rivulet_rate_matched_events_total",
            "Events that matched connections with a rate: each is sent, shed or waits.",
            metrics.rateMatched)
        counter("rivulet_rate_sent_events_total", "Of these, those sent.", metrics.rateSent)
        for (cause, count) in metrics.rateShed {
            registry.counter(
                "rivulet_rate_shed_events_total", "Of these, those not sent, by cause.",
                labels + [("cause", cause.rawValue)], reading: { count.value })
        }
        counter(
            "rivulet_rate_notices_total", "Times a connection was told of events that were shed.",
            metrics.rateNotices)
        counter(
            "rivulet_lag_skipped_events_total",
            "Events in the order that slow connections skipped.",
            metrics.lagSkippedEvents)
    }

    var subscriberCount: Int { hubs.withLock { $0.reduce(0) { $0 + Int($1.connections.value) } } }

    var eventsDelivered: UInt64 {
        hubs.withLock { $0.reduce(0) { $0 + $1.eventsDelivered.value } }
    }

    private func registerProcessMetrics() {
        let started = status.started
        let budget = budget
        registry.gauge(
            "rivulet_info", "The version that runs.",
            [("version", Rivulet.version), ("node", configuration.node.id)], reading: { 1 })
        registry.gauge(
            "rivulet_uptime_seconds", "Time since the node started.",
            reading: {
                (MonotonicTime.now - started).inSeconds
            })
        registry.gauge(
            "rivulet_cpu_seconds_total", "CPU time, user and system.",
            reading: {
                ProcessUsage.current().cpuTime.inSeconds
            })
        registry.gauge(
            "rivulet_resident_memory_bytes", "Resident memory.",
            reading: {
                Double(ProcessUsage.current().residentBytes)
            })
        registry.gauge(
            "rivulet_connections_limit", "Connections this node admits.",
            reading: {
                Double(budget.limit)
            })
        registry.gauge(
            "rivulet_descriptors_limit",
            "Descriptors this process may open; each connection takes one.",
            reading: { Double(ProcessUsage.descriptorLimit()) })
        let status = status
        registry.gauge(
            "rivulet_ready", "1 while /readyz says ready or degraded.",
            reading: {
                status.readiness.isReady ? 1 : 0
            })
        registry.gauge(
            "rivulet_redis_ready", "1 while Redis answers this node.",
            reading: { status.redisIsReady ? 1 : 0 })
    }
}

/// The configuration in the words of the rooms below.
extension NodeContext {
    /// The codings that streams may have, in the node's order of preference: gzip first, because
    /// every client that says it decodes it does so for streams in pieces.
    var codings: [ContentCoding] {
        switch configuration.server.compression {
        case .off: []
        case .gzip: [.gzip]
        case .zstd: [.zstd]
        case .all: [.gzip, .zstd]
        }
    }

    var kafkaSettings: KafkaSettings {
        let kafka = configuration.kafka
        return KafkaSettings(
            bootstrapServers: kafka.bootstrapServers, clientID: "rivulet-\(configuration.node.id)",
            properties: kafka.properties)
    }

    var producerSettings: KafkaProducerSettings {
        var settings = KafkaProducerSettings()
        // A dead letter that waits outlives an outage of minutes.
        settings.deliveryTimeout = .seconds(300)
        // A dead letter carries an event's bytes and headers beside them.
        settings.messageMaxBytes = max(
            settings.messageMaxBytes, configuration.limits.eventBytes + 4096)
        return settings
    }

    var groupSettings: KafkaGroupSettings {
        let kafka = configuration.kafka
        var group = KafkaGroupSettings(groupID: kafka.groupID)
        group.sessionTimeout = kafka.sessionTimeout
        group.heartbeatInterval = kafka.heartbeatInterval
        group.fetchWaitMax = kafka.fetchWaitMax
        group.metadataRefresh = kafka.metadataRefresh
        // Half of it waits as Kafka sent it, half in the batches for Redis.
        group.queuedBytesMax = configuration.limits.ingestBytes / 2
        return group
    }

    var retention: HistoryRetention {
        let history = configuration.history
        var retention = HistoryRetention(
            windowEvents: history.windowEvents, windowAge: history.windowAge,
            windowBytes: history.windowBytes, indexAge: history.indexAge,
            indexBatches: history.indexBatches)
        retention.topics = configuration.topicRetention.mapValues {
            .init(events: $0.events, age: $0.age, bytes: $0.bytes)
        }
        if configuration.canary.enabled {
            // As long as any: a tail that was away would find a hole where a canary was.
            let windows = [retention.window] + retention.topics.values
            retention.topics[configuration.canary.topic] = .init(
                events: windows.map(\.events).max() ?? retention.window.events,
                age: windows.map(\.age).max() ?? retention.window.age)
        }
        return retention
    }

    /// The fewest events that any topic's window keeps.
    private var smallestWindow: Int {
        min(
            configuration.history.windowEvents,
            configuration.topicRetention.values.map(\.events).min() ?? .max)
    }

    var replayLimits: HistoryReplay.Limits {
        let limits = configuration.limits
        return HistoryReplay.Limits(
            pageBytes: limits.replayPageBytes, concurrentReads: limits.concurrentReplays,
            heldBytes: limits.replayBytes, kafkaBytesPerSecond: limits.replayRate)
    }

    /// What each reader of old events is furnished with.
    func replayEquipment(_ account: ReplayAccount) -> KafkaPageReaders.Equipment {
        let settings = kafkaSettings
        let directory = directory
        let eventBytesMax = configuration.limits.eventBytes
        let log = log.named("replay")
        return .init(
            source: { () throws(KafkaError) in
                try KafkaRecordSource(settings: settings, log: log)
            },
            encoder: {
                try? BatchEncoder(
                    directory: directory, eventBytesMax: eventBytesMax, account: account)
            })
    }

    /// For the partitions of dead nodes.
    var orphanSettings: IngestSettings {
        var settings = ingestSettings
        settings.joinsGroup = false
        settings.kafka.clientID += "-orphans"
        return settings
    }

    private var canaryTopics: [String] {
        configuration.canary.enabled ? [configuration.canary.topic] : []
    }

    var ingestSettings: IngestSettings {
        IngestSettings(
            topics: directory.configuredTopics + canaryTopics, patterns: directory.topicPatterns,
            kafka: kafkaSettings, group: groupSettings,
            limits: .init(
                batchEvents: configuration.history.batchEvents,
                batchBytes: configuration.history.batchBytes),
            eventBytesMax: configuration.limits.eventBytes,
            deadLetterTopic: configuration.kafka.deadLetterTopic,
            startsAtEnd: configuration.kafka.autoOffsetReset == .latest,
            eventsAheadOfTailMax: max(1, min(50_000, smallestWindow / 4)),
            heldBytesMax: configuration.limits.ingestBytes / 2)
    }
}

extension LagRule.Policy {
    init(_ policy: LagPolicy) {
        switch policy {
        case .catchUp: self = .catchUp
        case .skip: self = .skip
        case .close: self = .close
        }
    }
}

/// Facts of the program.
package enum Rivulet {
    package static let version = "0.1.0"
}

extension String {
    /// The host without the brackets that IPv6 addresses wear before a port.
    var trimmingBrackets: String {
        hasPrefix("[") && hasSuffix("]") ? String(dropFirst().dropLast()) : self
    }
}
