// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Who this node is.
package struct NodeSection: Sendable, Equatable {
    /// Unique in the cluster: names the node's lease, its log lines and its metrics.
    package var id = NodeSection.derivedID(listen: ServerSection().listen)
    /// Where others reach this node, `host:port`; `nil` derives it from where the node listens.
    package var address: String?

    package init() {}

    /// `<hostname>-<port>`: nodes on one machine differ by port, nodes on several by host.
    static func derivedID(listen: [String]) -> String {
        "\(hostName)-\(listen.first?.split(separator: ":").last ?? "0")"
    }

    /// The name of the host, in letters that a node's name may have; `node` where it has none.
    package static var hostName: String {
        // Longer than Linux allows (64), so the name is never cut and always ends in a zero.
        var name = [CChar](repeating: 0, count: 256)
        let status = unsafe gethostname(&name, name.count)
        let host = status == 0 ? name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) } : []
        let legal = host.prefix(100).map { byte -> UInt8 in
            byte.isASCIILetterOrDigit || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
                ? byte : UInt8(ascii: "-")
        }
        let trimmed = legal.drop { !$0.isASCIILetterOrDigit }
        return trimmed.isEmpty ? "node" : String(decoding: trimmed, as: UTF8.self)
    }
}

/// How the nodes of a cluster know of each other.
package struct ClusterSection: Sendable, Equatable {
    /// Time between two renewals of the node's lease.
    package var renewal: Duration = .milliseconds(500)
    /// A node that has not renewed its lease for this long is dead; at least twice ``renewal``.
    package var lease: Duration = .milliseconds(1500)
    /// Whether clients are asked to move after a node has joined.
    package var relevel = false
    /// Clients that one node asks to move in a second.
    package var relevelRate = 50
    /// By how many percent of its share of the connections a node may be over it.
    package var relevelTolerance = 10

    package init() {}
}

/// Where the node listens and how long it waits for clients.
package struct ServerSection: Sendable, Equatable {
    /// Which content codings streams may have.
    package enum Compression: String, Sendable, CaseIterable { case off, gzip, zstd, all }
    /// What is asked of clients over TLS. Raw values are those of the TLS engine.
    package enum ClientCertificates: String, Sendable, CaseIterable { case off, optional, required }
    /// The least version of TLS. Raw values are those of the TLS engine.
    package enum TLSVersion: String, Sendable, CaseIterable {
        case v12 = "1.2"
        case v13 = "1.3"
    }

    /// Numeric `address:port`, IPv6 in brackets. Port 0 lets the kernel choose.
    package var listen = ["127.0.0.1:8080"]
    /// The same, for addresses where TLS is spoken; needs ``tlsCertificate`` and ``tlsKey``.
    package var tlsListen: [String] = []
    /// Paths of PEM files.
    package var tlsCertificate: String?
    package var tlsKey: String?
    package var tlsClientCertificates = ClientCertificates.off
    package var tlsClientAuthority: String?
    package var tlsMinimumVersion = TLSVersion.v12
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    package var http2 = true
    /// Event loops; 0 is one per core.
    package var loops = 0
    /// Connections the kernel keeps before they are accepted, per listener.
    package var backlog = 4096
    /// A silent stream gets a comment this often.
    package var heartbeat: Duration = .seconds(15)
    /// The longest that events wait under load so that several leave in one write.
    package var batchWait: Duration = .milliseconds(2)
    /// What the jittered `retry:` of a stream starts from.
    package var retry: Duration = .seconds(2)
    /// A request head must be complete within this.
    package var headerTimeout: Duration = .seconds(10)
    /// A kept-alive connection without a request is closed after this.
    package var idleTimeout: Duration = .seconds(60)
    /// A socket that takes no byte for this long while some wait is closed.
    package var stuckTimeout: Duration = .seconds(60)
    /// The time over which a planned stop sends the clients away.
    package var drain: Duration = .seconds(10)
    /// How long a node that is to stop says so before it sends anybody away: twice what
    /// cluster/haproxy.cfg.in takes to notice.
    package var drainNotice: Duration = .seconds(2)
    package var compression = Compression.all
    /// Numeric addresses whose `X-Forwarded-For` says who the client is.
    package var trustedProxies: [String] = []

    package init() {}
}

/// What a node refuses to exceed.
package struct LimitsSection: Sendable, Equatable {
    /// Connections of this node; 0 derives it from the file-descriptor limit.
    package var connections = 0
    /// The largest event, in bytes of its value.
    package var eventBytes = 1 << 20
    /// The largest request head.
    package var headerBytes = 16 << 10
    /// The largest request body.
    package var bodyBytes = 1 << 20
    /// Memory of the node's hot window.
    package var hotWindowBytes = 64 << 20
    /// Events read from Kafka that wait for Redis: a second of a million events of 256 bytes.
    package var ingestBytes = 256 << 20
    /// What a replay reads ahead of its client at a time.
    package var replayPageBytes = 512 << 10
    /// Replays from Redis that run at once.
    package var concurrentReplays = 64
    /// Replays from Kafka that run at once, each on a thread.
    package var replayReaders = 2
    /// Memory of the pages that clients are being sent, and of those kept for others.
    package var replayBytes = 64 << 20
    /// Bytes of records a second that are read back from Kafka; 0 is no limit. About 200,000
    /// events of 300 bytes: half of what one core encodes, and half of a gigabit.
    package var replayRate = 64 << 20
    /// Events a connection may lag before it is closed; 0 is no limit.
    package var lagEvents = 1000
    /// 0 is no limit.
    package var lagBytes = 0
    /// What happens to a connection beyond either.
    package var lagPolicy = LagPolicy.catchUp
    /// Streams and WebSockets of the whole cluster; 0 is no limit.
    package var clusterConnections = 0
    /// Those of one principal, over all nodes; 0 is no limit.
    package var principalConnections = 0
    /// Events a second of one connection that asks for no other rate; 0 is no limit.
    package var connectionEventRate = 0
    /// What it may ask for; 0 is no limit.
    package var connectionEventRateMax = 0
    /// Events a second of one principal, over all nodes; 0 is no limit.
    package var principalEventRate = 0
    /// Events a second that the whole cluster delivers; 0 is no limit.
    package var clusterEventRate = 0
    /// What becomes of events beyond a rate.
    package var onLimit = OnLimitPolicy.delay
    /// The JSON field that says how urgent an event is.
    package var priorityField = "priority"
    /// Its values that make an event urgent.
    package var urgentPriorities = ["high", "urgent", "critical"]

    /// Whether any rate is configured that holds for a connection which asks for nothing.
    package var hasEventRates: Bool {
        connectionEventRate > 0 || connectionEventRateMax > 0 || principalEventRate > 0
            || clusterEventRate > 0
    }

    package init() {}
}

/// The Kafka cluster the events come from.
package struct KafkaSection: Sendable, Equatable {
    /// Where a partition without any position starts. Raw values are librdkafka's words.
    package enum OffsetReset: String, Sendable, CaseIterable { case earliest, latest }

    package var bootstrapServers = ["127.0.0.1:9092"]
    package var groupID = "rivulet"
    package var sessionTimeout: Duration = .seconds(10)
    /// At most a third of ``sessionTimeout``.
    package var heartbeatInterval: Duration = .seconds(1)
    package var fetchWaitMax: Duration = .milliseconds(100)
    package var autoOffsetReset = OffsetReset.earliest
    /// Takes what cannot be served as an event; in no channel.
    package var deadLetterTopic = "rivulet.dead-letter"
    package var metadataRefresh: Duration = .seconds(5)

    private var librdkafka = KafkaProperties()

    /// Handed to librdkafka as they are. Some hold secrets: never log a value.
    package var properties: [String: String] {
        get { librdkafka.values }
        set { librdkafka.values = newValue }
    }

    package init() {}
}

/// The Redis server that holds the shared history and the leases.
package struct RedisSection: Sendable, Equatable {
    /// `redis://host:port/db`, `rediss://` for TLS, or `unix:///path?db=0`; see ``endpoint``.
    package var url = "redis://127.0.0.1:6379/0"
    /// The ACL user; `nil` is Redis' default user.
    package var username: String?
    package var password: Secret?
    /// The PEM file of the authorities that may have signed the server's certificate; `nil` for
    /// the system's. For `rediss://`.
    package var tlsAuthority: String?
    package var tlsVerify = true
    /// Begins every key.
    package var keyPrefix = "rivulet"
    /// The deadline of a command, beside what a blocking command waits.
    package var timeout: Duration = .seconds(2)

    package init() {}
}

/// How much history Redis keeps, and how it is appended.
package struct HistorySection: Sendable, Equatable {
    /// Events per topic whose bytes Redis keeps.
    package var windowEvents = 500_000
    package var windowAge: Duration = .seconds(3600)
    package var windowBytes = 256 << 20
    /// How long the way back to Kafka's records is kept; at least ``windowAge``.
    package var indexAge: Duration = .seconds(7 * 86_400)
    /// Batches per topic whose place in Kafka is kept.
    package var indexBatches = 1_000_000
    package var batchEvents = 500
    package var batchBytes = 256 << 10

    package init() {}
}

/// What the node logs. Raw values are the names that the log knows.
package struct LogSection: Sendable, Equatable {
    package enum Level: String, Sendable, CaseIterable {
        case debug, info, notice, warning, error
    }
    package enum Format: String, Sendable, CaseIterable { case text, json }

    package var level = Level.info
    package var format = Format.text

    package init() {}
}

/// Who may tell the node what to do.
package struct AdminSection: Sendable, Equatable {
    /// What has to be shown; `nil` admits the node's own machine only.
    package var token: Secret?

    package init() {}
}

/// When a node restarts a component of its own, and when it gives that up.
package struct SupervisionSection: Sendable, Equatable {
    /// Restarts within ``window``.
    package var restarts = 3
    package var window: Duration = .seconds(60)

    package init() {}
}

/// Events of the nodes' own that prove that events arrive.
package struct CanarySection: Sendable, Equatable {
    package var enabled = true
    package var interval: Duration = .seconds(1)
    /// A node that has received nothing for this long is stale; at least twice ``interval``.
    package var staleAfter: Duration = .seconds(5)
    /// Carried by no channel.
    package var topic = "rivulet.canary"

    package init() {}
}

/// The node's own numbers, published as events.
package struct TelemetrySection: Sendable, Equatable {
    package var enabled = true
    package var interval: Duration = .seconds(1)
    package var topic = "its.system.metrics"

    package init() {}
}
