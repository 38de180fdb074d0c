// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire
package import Observability

/// What the listeners of a node count, together.
///
/// View: node. Threads: any. Bytes are added by each listener once a sweep and not once a write,
/// so that the loops do not contend for one number.
package final class HTTPServerMetrics: Sendable {
    /// Why a connection was turned away.
    enum Rejection: String, CaseIterable {
        /// The admission had no slot.
        case connectionLimit
        /// The process or the machine has no descriptors left.
        case descriptors
        /// The kernel has no memory for the connection.
        case memory
    }

    /// Requests that end without an answer of the handler for a reason that is not syntax.
    enum Incomplete: String, CaseIterable {
        case headerTimeout
        case bodyTimeout
        case unexpectedEnd
        /// The listener holds as much of unfinished requests as it may.
        case tooMuchHeld
        case tlsOnPlainPort
    }

    let connectionsAccepted: Counter
    let connectionsOpen: Gauge
    let streamsOpened: Counter
    let streamsOpen: Gauge
    let idleCloses: Counter
    let unanswered: Counter
    let bytesSent: Counter
    let http2: HTTP2Metrics

    private let rejections: [String: Counter]
    private let badRequests: [String: Counter]
    private let streamEnds: [String: Counter]
    /// By method and then by status class.
    private let requests: [Counter]

    private static let methods = [
        "GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "other",
    ]
    private static let statusClasses = ["1xx", "2xx", "3xx", "4xx", "5xx"]

    package init(_ registry: MetricsRegistry) {
        connectionsAccepted = registry.counter(
            "rivulet_http_connections_accepted_total", "Connections accepted.")
        connectionsOpen = registry.gauge("rivulet_http_connections_open", "Connections open.")
        streamsOpened = registry.counter("rivulet_http_streams_opened_total", "Streams opened.")
        streamsOpen = registry.gauge("rivulet_http_streams_open", "Streams open.")
        idleCloses = registry.counter(
            "rivulet_http_idle_closes_total", "Connections closed because nothing came or went.")
        unanswered = registry.counter(
            "rivulet_http_requests_unanswered_total", "Requests that no handler answered.")
        bytesSent = registry.counter("rivulet_http_sent_bytes_total", "Bytes given to sockets.")
        http2 = HTTP2Metrics(registry)
        func table(_ name: String, _ help: String, _ label: String, _ values: [String])
            -> [String: Counter]
        {
            Dictionary(
                values.map { ($0, registry.counter(name, help, [(label, $0)])) },
                uniquingKeysWith: { first, _ in first })
        }
        rejections = table(
            "rivulet_http_connections_rejected_total", "Connections turned away.", "reason",
            Rejection.allCases.map(\.rawValue))
        badRequests = table(
            "rivulet_http_bad_requests_total", "Requests that could not be read.", "code",
            HTTP1Error.Code.allCases.map(\.rawValue) + Incomplete.allCases.map(\.rawValue))
        streamEnds = table(
            "rivulet_http_stream_ends_total", "Streams that ended.", "reason", StreamEnd.names)
        requests = Self.methods.flatMap { method in
            Self.statusClasses.map { status in
                registry.counter(
                    "rivulet_http_requests_total", "Requests answered.",
                    [("method", method), ("status", status)])
            }
        }
    }

    /// The index that stands for `method`, small enough for a connection to keep.
    static func index(of method: HTTPMethod) -> UInt8 {
        switch method {
        case .get: 0
        case .head: 1
        case .post: 2
        case .options: 3
        case .put: 4
        case .delete: 5
        case .patch: 6
        case .other: 7
        }
    }

    func countRequest(methodIndex: UInt8, status: Int) {
        let statusClass = min(max(status / 100, 1), Self.statusClasses.count) - 1
        requests[Int(methodIndex) * Self.statusClasses.count + statusClass].add()
    }

    func countBadRequest(code: String) { badRequests[code]?.add() }
    func countBadRequest(_ incomplete: Incomplete) { countBadRequest(code: incomplete.rawValue) }
    func countRejection(_ reason: Rejection) { rejections[reason.rawValue]?.add() }
    func countStreamEnd(_ reason: StreamEnd) { streamEnds[reason.name]?.add() }
}
