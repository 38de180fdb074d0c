// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// Counts gaps, by reason: the one place where a node says how often it could not serve.
///
/// View: node. Threads: any. What is counted is a gap that was found, once, however many clients
/// are told of it.
package final class GapMetrics: Sendable {
    private let counters: [GapNotice.Reason: Counter]
    private let lost: [GapNotice.Reason: Counter]

    package init(in registry: MetricsRegistry) {
        var counters: [GapNotice.Reason: Counter] = [:]
        var lost: [GapNotice.Reason: Counter] = [:]
        for reason in GapNotice.Reason.allCases {
            let labels = [("reason", reason.rawValue)]
            counters[reason] = registry.counter(
                "rivulet_gaps_total", "Gaps that clients are told of, by reason.", labels)
            lost[reason] = registry.counter(
                "rivulet_gap_events_total",
                "Events in those gaps of which it is known how many there are.", labels)
        }
        self.counters = counters
        self.lost = lost
    }

    package func add(_ notice: GapNotice) {
        counters[notice.reason]?.add()
        if let count = notice.lost { lost[notice.reason]?.add(Int(clamping: count)) }
    }

    package func count(_ reason: GapNotice.Reason) -> UInt64 { counters[reason]?.value ?? 0 }
}
