// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire

/// Tells a client, in its stream, that events it asked for cannot be served.
///
/// It travels as `event: gap` with a JSON object of `from`, `to` and `reason`; its `id:` is `to`,
/// so a client that resumes after it does not meet the same gap again.
package struct GapNotice: Sendable, Equatable {
    package enum Reason: String, Sendable, CaseIterable {
        /// The Redis window has let the events go.
        case trimmed
        /// Redis has lost the events.
        case historyLost = "history_lost"
        /// An entry of history is damaged.
        case unreadable
        /// The connection did not read fast enough, and its channel's rule is to skip ahead.
        case slow
        /// The cursor lies ahead of everything that was ever appended here.
        case unknownID = "unknown_id"
    }

    package let from: EventID
    package let to: EventID
    package let reason: Reason

    package init(from: EventID, to: EventID, reason: Reason) {
        self.from = from
        self.to = to
        self.reason = reason
    }

    /// The notice as something that every subscription receives in its place in the order.
    package var batch: EventBatch { EventBatch(notice: frame, id: to) }

    /// The notice as it goes on the wire.
    var frame: [UInt8] {
        var json = JSONText()
        json.object {
            $0.field("from", from.description)
            $0.field("to", to.description)
            $0.field("reason", reason.rawValue)
        }
        var writer = ByteWriter()
        EventStreamEncoder.append(id: to, name: "gap", data: json.text, to: &writer)
        return writer.bytes
    }
}
