// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability

/// What one schedule against one server came to.
struct FanoutWindow: Sendable {
    let connections: Int
    let eventsPerSecond: Double
    /// Of the events after the warm-up.
    let expected: Int
    let latency: LatencyHistogram
    let measuredSeconds: Double
    /// Of all deliveries, the warm-up's too.
    let deliveries: Int
    /// What was read for them: decrypted, where there is TLS, and not yet decoded.
    let bytes: Int
    /// System calls that they took, heartbeats' included.
    let writes: Int
    let serverSeconds: Double
    let clientSeconds: Double
    let elapsed: Double
    /// Of the processors of the server and of the client, 0 to 1.
    let serverProcessorBusy: Double
    let clientProcessorBusy: Double
    /// Events that the source could not hand over.
    let refused: Int
    let gaps: Int
    let connectionsLost: Int

    var received: Int { Int(latency.count) }

    /// Deliveries of measured events a second.
    var deliveriesPerSecond: Double { Double(received) / measuredSeconds }

    var serverMicrosecondsPerDelivery: Double {
        serverSeconds * 1e6 / Double(max(1, deliveries))
    }

    var bytesPerDelivery: Double { Double(bytes) / Double(max(1, deliveries)) }

    var deliveriesPerWrite: Double { Double(deliveries) / Double(max(1, writes)) }

    /// The share of the server's processor that somebody else took.
    var foreignShare: Double { max(0, serverProcessorBusy - serverSeconds / elapsed) }

    /// True where nearly every event came, and in time.
    func isHeld(p99LimitMilliseconds limit: Double) -> Bool {
        refused == 0 && gaps == 0 && connectionsLost == 0
            && Double(received) >= 0.99 * Double(expected)
            && received <= expected && latency.milliseconds(0.99) <= limit
    }
}
