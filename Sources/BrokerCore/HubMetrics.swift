// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// What one hub counts. Written by its loop, read by the metrics page.
package final class HubMetrics: Sendable {
    package let connections = Gauge()
    package let classes = Gauge()
    package let lagging = Gauge()
    package let windowBytes = Gauge()
    package let eventsDelivered = Counter()
    package let bytesDelivered = Counter()
    package let writes = Counter()
    package let heartbeats = Counter()
    package let replayPages = Counter()
    package let stuckClosed = Counter()
    package let longestLag = Gauge()
    package let lagClosed = Counter()
    package let lagSkips = Counter()
    package let lagSkippedEvents = Counter()
    /// Subscribers that wait for their rate.
    package let delayed = Gauge()
    /// Events that matched subscribers with a rate: each is sent or shed, or waits to be.
    package let rateMatched = Counter()
    package let rateSent = Counter()
    package let rateShed = ShedCause.allCases.reduce(into: [ShedCause: Counter]()) {
        $0[$1] = Counter()
    }
    package let rateNotices = Counter()

    package init() {}
}
