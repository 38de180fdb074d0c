// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire

/// Tells a client, in its stream, that events it asked for cannot be served.
///
/// It travels as `event: gap` with a JSON object of `from`, `to`, `reason` and, where it is known,
/// `lost`; its `id:` is `to`, so a client that resumes after it does not meet the same gap again.
/// Where events of other topics lie between `from` and `to`, the `id:` is `from`: a client that is
/// cut among them has to be told again.
package struct GapNotice: Sendable, Equatable {
    package enum Reason: String, Sendable, CaseIterable {
        /// History has let the events go: not even the way back to Kafka's records is kept.
        case trimmed
        /// Redis has lost the events.
        case historyLost = "history_lost"
        /// An entry of history is damaged.
        case unreadable
        /// The connection did not read fast enough, and its channel's rule is to skip ahead.
        case slow
        /// Its rate did not let the connection keep up, and its channel's rule is to skip ahead.
        case rateLimited = "rate_limited"
        /// Kafka's retention has deleted the records.
        case retention
        /// Kafka's compaction has removed the records, and holds later ones of their keys.
        case compacted
        /// Kafka does not hold records that it held: the topic was deleted or made anew, or its
        /// brokers have lost them.
        case kafkaLost = "kafka_lost"
        /// A search for the last events that match has looked at as much as it may; there may be
        /// more of them before.
        case lookbackLimit = "lookback_limit"
        /// The cursor's time has not come yet, by the clock of history.
        case futureID = "future_id"
        /// The cursor was never given out here: it belongs to another cluster, or to events that
        /// Redis has lost.
        case unknownID = "unknown_id"
    }

    package let from: EventID
    package let to: EventID
    package let reason: Reason
    /// How many events are missing at most, where anybody knows.
    package let lost: UInt64?

    package init(from: EventID, to: EventID, reason: Reason, lost: UInt64? = nil) {
        self.from = from
        self.to = to
        self.reason = reason
        self.lost = lost
    }

    /// The notice as something that every subscription receives in its place in the order.
    package var batch: EventBatch { EventBatch(notice: frame, id: to, gap: self) }

    /// The notice as something that the subscriptions which can see a topic receive, whatever
    /// their filters: what is missing may have matched them.
    package func batch(on route: TopicRoute) -> EventBatch {
        EventBatch(notice: frame, id: to, route: route, gap: self)
    }

    /// The notice in front of events that lie between its `from` and its `to`.
    package var batchBeforeOthers: EventBatch {
        let next =
            from.sequence == .max
            ? EventID(milliseconds: from.milliseconds &+ 1, sequence: 0)
            : EventID(milliseconds: from.milliseconds, sequence: from.sequence + 1)
        return EventBatch(notice: frame(id: from), id: from, place: next, gap: self)
    }

    /// The same for those alone whose cursor lies after `bound`.
    package func batch(forCursorsAfter bound: EventID) -> EventBatch {
        EventBatch(notice: frame, id: to, forCursorsAfter: bound)
    }

    /// The notice as it goes on the wire.
    var frame: [UInt8] { frame(id: to) }

    private func frame(id: EventID) -> [UInt8] {
        var json = JSONText()
        json.object {
            $0.field("from", from.description)
            $0.field("to", to.description)
            $0.field("reason", reason.rawValue)
            if let lost { $0.field("lost", Int64(clamping: lost)) }
        }
        var writer = ByteWriter()
        EventStreamEncoder.append(id: id, name: "gap", data: json.text, to: &writer)
        return writer.bytes
    }
}
