// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What happens to a connection that was live and has fallen too far behind.
///
/// A connection that is still catching up from a cursor it came with is not slow: the rule begins
/// to hold once it has had everything.
package struct LagRule: Sendable, Hashable {
    package enum Policy: String, Sendable, CaseIterable {
        /// It keeps its cursor and goes on from history. Costs nothing but its own time.
        case catchUp = "catch_up"
        /// It is told of a gap and goes on with what is new.
        case skip
        /// Its connection ends; it may come back with the last ID it received.
        case close
    }

    package var policy: Policy
    /// Events of the whole order between its cursor and the newest; 0 is no bound.
    package var eventsMax: Int
    /// Bytes of the window between its cursor and the newest; 0 is no bound.
    package var bytesMax: Int

    package init(policy: Policy = .catchUp, eventsMax: Int = 0, bytesMax: Int = 0) {
        self.policy = policy
        self.eventsMax = eventsMax
        self.bytesMax = bytesMax
    }

    func isExceeded(events: UInt64, bytes: UInt64) -> Bool {
        (eventsMax > 0 && events > UInt64(eventsMax)) || (bytesMax > 0 && bytes > UInt64(bytesMax))
    }
}
