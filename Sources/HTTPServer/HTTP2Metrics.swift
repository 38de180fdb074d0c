// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP2Wire
import Observability

/// What the HTTP/2 connections of a node count, beside what every connection does.
///
/// View: node. Threads: any.
final class HTTP2Metrics: Sendable {
    let connections: Counter
    let connectionsOpen: Gauge
    let streams: Counter
    let streamsOpen: Gauge
    let sends: Counter
    let resetsByPeer: Counter
    let resetsByServer: Counter
    private let errors: [String: Counter]

    init(_ registry: MetricsRegistry) {
        connections = registry.counter(
            "rivulet_http2_connections_total", "Connections that spoke HTTP/2.")
        connectionsOpen = registry.gauge(
            "rivulet_http2_connections_open", "HTTP/2 connections open.")
        streams = registry.counter(
            "rivulet_http2_streams_total", "HTTP/2 streams, one for each request.")
        streamsOpen = registry.gauge("rivulet_http2_streams_open", "HTTP/2 streams open.")
        sends = registry.counter(
            "rivulet_http2_sends_total", "Calls that sent frames, those of all streams together.")
        let resets = { (side: String) in
            registry.counter(
                "rivulet_http2_streams_reset_total", "HTTP/2 streams that were reset.",
                [("by", side)])
        }
        resetsByPeer = resets("peer")
        resetsByServer = resets("server")
        errors = Dictionary(
            HTTP2Error.Code.allCases.map { code in
                (
                    code.rawValue,
                    registry.counter(
                        "rivulet_http2_connection_errors_total",
                        "HTTP/2 connections that the node ended for what their peer did.",
                        [("reason", code.rawValue)])
                )
            }, uniquingKeysWith: { first, _ in first })
    }

    func countError(_ code: HTTP2Error.Code) { errors[code.rawValue]?.add() }
}
