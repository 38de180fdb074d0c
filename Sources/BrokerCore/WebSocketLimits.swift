// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// What one WebSocket may ask of a node.
package enum WebSocketLimits {
    /// The largest message of a client: a filter over a wall of cameras, as in a query, whose bound
    /// is a request's head.
    package static let messageBytes = 16 << 10
    /// The values of one message: ``SubscriptionLimits/valuesMax`` for one filter, and some more.
    package static let messageMembers = 512
    /// Subscriptions of one socket. Each costs its filter once for every event; who wants more
    /// is better served by one wider subscription.
    package static let subscriptions = 16
    package static let subscriptionNameBytes = 64
    /// Messages, pings and pongs that a client may send in a row, and how many more each second:
    /// far more than any page has reason to, and few enough that a loop does not notice.
    package static let burst = 100
    package static let messagesPerSecond = 20
    /// Answers that wait for a client which does not read them: all it has reason to ask for at
    /// once, several times over.
    package static let waitingBytes = 16 << 10
    /// How long a socket may take the close frame and what is before it.
    package static let closeTimeout: Duration = .seconds(5)
    /// How long a socket may be open without a subscription.
    package static let idleTimeout: Duration = .seconds(60)
    /// Heartbeats in a row that a client may leave unanswered.
    package static let unansweredPings = 3
}

/// What the WebSockets of a node count. Threads: any.
package final class WebSocketMetrics: Sendable {
    package let open: Gauge
    package let deflating: Counter
    package let messages: Counter
    package let errors: Counter
    package let pings: Counter
    package let lost: Counter
    private let closes: [String: Counter]

    private static let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013]

    package init(in registry: MetricsRegistry) {
        open = registry.gauge("rivulet_websockets_open", "WebSockets open.")
        deflating = registry.counter(
            "rivulet_websockets_deflate_total",
            "WebSockets that agreed on compressed messages (permessage-deflate).")
        messages = registry.counter(
            "rivulet_websocket_messages_total", "Messages that clients have sent.")
        errors = registry.counter(
            "rivulet_websocket_errors_total", "Messages answered with an error.")
        pings = registry.counter("rivulet_websocket_pings_total", "Heartbeats sent.")
        lost = registry.counter(
            "rivulet_websockets_lost_total",
            "WebSockets ended without a close frame: their client took or answered nothing.")
        closes = Dictionary(
            (Self.codes.map(String.init) + ["other"]).map { code in
                (
                    code,
                    registry.counter(
                        "rivulet_websocket_closes_total", "Close frames sent, by code.",
                        [("code", code)])
                )
            }, uniquingKeysWith: { first, _ in first })
    }

    func countClose(_ code: UInt16) { (closes[String(code)] ?? closes["other"])?.add() }
}
