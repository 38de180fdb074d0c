// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// What becomes of events that a rate does not let pass.
///
/// It holds for those who are live. Who catches up from history is served at the rate and loses
/// nothing: what was shed is fetched from history, where it must not be shed again.
package struct LimitRule: Sendable, Hashable {
    package enum Policy: String, Sendable, CaseIterable {
        /// They wait for their turn; how many is bounded by the ``LagRule``.
        case delay
        /// They are left out, and the client is told which.
        case shed
        /// The newest of each key waits for its turn; those that it replaces are left out.
        case conflate
    }

    package var policy: Policy
    /// The column of the field that says what an event is about, for ``Policy/conflate``; without
    /// the field an event is about nothing, like all others without it.
    package var keyColumn: Int?
    /// The column of the field that says how urgent an event is.
    package var priorityColumn: Int?
    /// The values of that field which make an event urgent: it is shed last, and replaced by none.
    package var urgentValues: [[UInt8]]

    package init(
        policy: Policy = .delay, keyColumn: Int? = nil, priorityColumn: Int? = nil,
        urgentValues: [[UInt8]] = []
    ) {
        self.policy = policy
        self.keyColumn = keyColumn
        self.priorityColumn = priorityColumn
        self.urgentValues = urgentValues
    }
}

extension LimitRule {
    /// The same for a channel with a rule of its own.
    func overruled(by channel: OnLimitConfiguration?, _ columns: [String: Int]) -> LimitRule {
        guard let channel else { return self }
        var rule = self
        rule.policy = .init(channel.policy)
        rule.keyColumn = channel.key.flatMap { columns[$0] }
        return rule
    }
}

extension LimitRule.Policy {
    init(_ policy: OnLimitPolicy) {
        switch policy {
        case .delay: self = .delay
        case .shed: self = .shed
        case .conflate: self = .conflate
        }
    }
}

/// Why an event that matched was not sent. The words of metrics and of `event: rate_limited`.
package enum ShedCause: String, Sendable, CaseIterable {
    /// The connection's own rate.
    case connection
    /// The rate of its principal, over all nodes.
    case principal
    /// The rate of the cluster.
    case cluster
    /// A newer event of the same key has replaced it.
    case conflated
    /// More keys waited for their turn than may.
    case overflow
    /// Its connection ended while it waited for its turn.
    case ended
}

/// One gate on a connection's way, and what it is called where it stops an event.
package struct MeteredGate: Sendable {
    package let gate: RateGate
    package let cause: ShedCause

    package init(_ gate: RateGate, _ cause: ShedCause) {
        self.gate = gate
        self.cause = cause
    }
}
