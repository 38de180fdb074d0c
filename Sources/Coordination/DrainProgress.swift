// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How far a node's drain is, as its lease tells it.
package struct DrainProgress: Sendable, Equatable {
    package var phase: Drain.Phase
    /// Clients that have not been told to go.
    package var left: Int
    package var sentAway: Int
    /// When the last of them will have been, at the latest: milliseconds since 1970 by the node's
    /// clock.
    package var until: UInt64
    /// ``Drain/Others/word``.
    package var others: String
    /// True while the others have no room for the clients.
    package var isHeldBack: Bool

    package init(
        phase: Drain.Phase, left: Int, sentAway: Int, until: UInt64, others: String,
        isHeldBack: Bool
    ) {
        self.phase = phase
        self.left = left
        self.sentAway = sentAway
        self.until = until
        self.others = others
        self.isHeldBack = isHeldBack
    }

    /// One line of a report: the facts in this order, a blank between them.
    var text: String {
        "\(phase.rawValue) \(left) \(sentAway) \(until) \(others) \(isHeldBack ? "held" : "even")"
    }

    /// Reads what ``text`` wrote; `nil` where it did not.
    init?(text: String) {
        let parts = text.split(separator: " ")
        guard parts.count >= 6, let phase = Drain.Phase(rawValue: String(parts[0])),
            let left = Int(parts[1]), let sentAway = Int(parts[2]), left >= 0, sentAway >= 0,
            let until = UInt64(parts[3])
        else { return nil }
        self.init(
            phase: phase, left: left, sentAway: sentAway, until: until, others: String(parts[4]),
            isHeldBack: parts[5] == "held")
    }
}
