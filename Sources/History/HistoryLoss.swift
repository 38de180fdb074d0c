// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
package import EventStreamWire

/// Records of one partition that nobody can read any more: they belong to history all the same,
/// as an entry that says so.
///
/// View: cluster. The owner appends it like a batch, in the same script and as safe to repeat. It
/// takes one sequence number, which is its ID and its place in the order. The entry looks like
/// that of a batch with one event: `p` partition, `o` the first offset that is missing, `c` 1;
/// the window's has an empty `b` besides. A last field `l` tells it from a batch:
/// `LAST LOST REASON`, the last offset that is missing, how many offsets that are, and why.
///
/// Offsets are not events: some of them may have held a marker of a transaction or have been
/// compacted before, so `lost` is the most that can be missing.
package struct HistoryLoss: Sendable, Equatable {
    package enum Reason: String, Sendable, CaseIterable {
        /// Kafka's retention deleted the records before any node had read them.
        case retention
    }

    package let last: Int64
    package let lost: Int64
    package let reason: Reason

    package init(last: Int64, lost: Int64, reason: Reason) {
        self.last = last
        self.lost = lost
        self.reason = reason
    }

    /// The field `l` of an entry.
    package var text: String { "\(last) \(lost) \(reason.rawValue)" }

    /// `nil` where `text` is no such field, or its reason is unknown to this node.
    package init?(_ text: String) {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, let last = Int64(parts[0]), last >= 0,
            let lost = Int64(parts[1]), lost > 0, let reason = Reason(rawValue: String(parts[2]))
        else { return nil }
        self.init(last: last, lost: lost, reason: reason)
    }

    /// What subscriptions that can see `route`'s topic are told in the place of the entry whose ID
    /// is `id`; `nil` where nobody can.
    package func notice(at id: EventID, route: TopicRoute) -> EventBatch? {
        guard !route.channels.isEmpty else { return nil }
        let before = EventID(
            milliseconds: id.milliseconds, sequence: max(1, id.sequence) - 1)
        let gapReason: GapNotice.Reason =
            switch reason {
            case .retention: .retention
            }
        return GapNotice(from: before, to: id, reason: gapReason, lost: UInt64(clamping: lost))
            .batch(on: route)
    }
}
