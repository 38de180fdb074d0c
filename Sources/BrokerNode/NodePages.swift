// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import Dependability
import HTTPServer
import History
import JSONFields
import NodeConfiguration
import Observability
import PosixIO

/// The pages of a node that are answered from memory at once.
enum NodePages {
    struct Page {
        var status = 200
        var headers: [(String, String)]
        var body: [UInt8]
    }

    /// What is served here, as a 404 and the start page tell it.
    static let paths = [
        "/api/v1/sse/{channel}", "/sse/events", "/api/events", "/ws", "/api/v1/channels",
        "/api/v1/sse/health", "/healthz", "/readyz", "/cluster", "/metrics", "/admin/drain",
    ]

    /// The page at `path`, or `nil` where there is none.
    static func page(_ path: String, _ context: NodeContext) -> Page? {
        switch path {
        case "/": return json { start(&$0) }
        case "/healthz": return json { health(&$0, context) }
        case "/readyz": return ready(context)
        case "/api/v1/sse/health": return json { streamHealth(&$0, context) }
        case "/cluster": return json { ClusterPage.write(&$0, context.status.cluster) }
        case "/api/v1/channels": return json { channels(&$0, context) }
        case "/metrics":
            return Page(
                headers: [
                    ("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),
                    ("Cache-Control", "no-store"),
                ], body: Array(context.registry.render().utf8))
        default: return nil
        }
    }

    private static func json(status: Int = 200, _ body: (inout JSONText) -> Void) -> Page {
        var text = JSONText()
        body(&text)
        return Page(
            status: status,
            headers: [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
            body: text.bytes + [UInt8(ascii: "\n")])
    }

    private static func start(_ text: inout JSONText) {
        text.object {
            $0.field("name", "rivulet")
            $0.field("version", Rivulet.version)
            $0.array("paths", paths)
        }
    }

    /// Whether the process is alive, with what an operator wants to see beside it. Always 200:
    /// restarting a node does not mend Redis or Kafka.
    private static func health(_ text: inout JSONText, _ context: NodeContext) {
        let status = context.status
        text.object { text in
            text.field("status", "ok")
            text.field("node", status.nodeID)
            text.field("version", Rivulet.version)
            text.field("phase", status.phase.rawValue)
            text.field("readiness", status.readiness.word.rawValue)
            text.field("uptime_s", Int((MonotonicTime.now - status.started).inSeconds))
            text.field("connections", context.subscriberCount)
            text.field("connections_limit", context.budget.limit)
            text.field("partitions", Int(context.ingestMetrics.partitions.value))
            text.field("lag", Int(context.ingestMetrics.lag.value))
            text.field("events_ingested", context.ingestMetrics.events.value)
            text.field("events_tailed", context.tailMetrics.events.value)
            text.field("events_delivered", context.eventsDelivered)
            text.field("last_sequence", Int(context.tailMetrics.lastSequence.value))
            HealthParts.write(&text, context)
        }
    }

    private static func ready(_ context: NodeContext) -> Page {
        let status = context.status
        let readiness = status.readiness
        return json(status: readiness.isReady ? 200 : 503) { text in
            text.object { text in
                text.field("status", readiness.word.rawValue)
                text.field("node", status.nodeID)
                text.array("reasons", readiness.reasons)
                text.object("checks") { text in
                    text.field("redis", HealthParts.redisWord(context))
                    text.field("kafka", context.kafka.dependency.status().word)
                    text.field("tail", status.isFollowing ? "following" : "behind")
                    text.field(
                        "ingest", context.ingestMetrics.partitions.value > 0 ? "reading" : "idle")
                    text.field("lease", ClusterPage.word(status.cluster))
                }
                if let error = status.ingestError { text.field("last_error", error) }
                HealthParts.write(&text, context)
            }
        }
    }

    /// The health page of the first seed, in its words.
    private static func streamHealth(_ text: inout JSONText, _ context: NodeContext) {
        let status = context.status
        let uptime = max(1, (MonotonicTime.now - status.started).inSeconds)
        text.object { text in
            text.field("service_status", status.readiness.isReady ? "healthy" : "unhealthy")
            text.field("active_connections", context.subscriberCount)
            text.object("connection_limits") { text in
                text.field("max_connections", context.budget.limit)
                text.field("current_connections", context.budget.inUse)
            }
            text.object("kafka_integration") { text in
                text.field("enabled", true)
                text.field("consumer_healthy", context.ingestMetrics.partitions.value > 0)
                text.object("consumer_stats") { text in
                    let processed = context.ingestMetrics.events.value
                    text.field(
                        "throughput_events_per_sec",
                        (Double(processed) / uptime * 10).rounded() / 10)
                    text.field("total_processed", processed)
                    let appends = context.ingestMetrics.appendTime
                    let mean = appends.sumInSeconds * 1000 / Double(max(1, appends.count))
                    text.field("avg_latency_ms", (mean * 100).rounded() / 100)
                }
            }
        }
    }

    private static func channels(_ text: inout JSONText, _ context: NodeContext) {
        text.object { text in
            text.array("channels") { text in
                for channel in context.directory.channels {
                    text.object { text in
                        text.field("name", channel.name)
                        text.field("url", "/api/v1/sse/\(channel.name)")
                        if !channel.description.isEmpty {
                            text.field("description", channel.description)
                        }
                        text.array("topics", channel.topics)
                        event(&text, channel.eventName, context)
                        if let pattern = channel.pattern { text.field("pattern", pattern) }
                        filters(&text, channel.filters)
                    }
                }
            }
            text.array("patterns", context.directory.topicPatterns)
            text.array("stream_parameters", ChannelDirectory.streamParameters.sorted())
        }
    }

    private static func event(_ text: inout JSONText, _ naming: EventNaming, _ context: NodeContext)
    {
        switch naming {
        case .fixed(let name): text.field("event", name)
        case .column(let column, let fallback):
            text.field("event_field", context.directory.fieldPaths[column])
            text.field("event", fallback)
        }
    }

    private static func filters(_ text: inout JSONText, _ filters: [ChannelFilter]) {
        text.array("filters") { text in
            for filter in filters {
                text.object { text in
                    text.field("parameter", filter.parameter)
                    text.array("fields", filter.fields)
                    text.field("operation", filter.operation.rawValue)
                    if !filter.description.isEmpty { text.field("description", filter.description) }
                }
            }
        }
    }
}
