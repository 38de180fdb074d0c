// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

extension EventBatch {
    /// Calls `body` with the ID of each event after `cursor` that `subscription` would get, in
    /// order. A notice is no event.
    package func forEachMatch(
        for subscription: Subscription, after cursor: EventID, _ body: (EventID) -> Void
    ) {
        guard !isNotice, lastID > cursor, subscription.position(in: route) != nil else { return }
        let firstRow = firstID > cursor ? 0 : Int(cursor.sequence - firstID.sequence) + 1
        for row in firstRow..<count where matches(subscription, row: row) { body(id(ofRow: row)) }
    }
}

/// The newest of the events that match, as a search through history from its end finds them.
///
/// It goes through parts of history, the newest first, and forwards within each part.
package struct NewestMatches: Sendable {
    package let wanted: Int
    /// How many are wanted still, of what is older than the parts that are done.
    package private(set) var missing: Int
    private var oldestKept: EventID?
    /// The newest of the part that is being read, oldest first; no more than are missing.
    private var ofPart: [EventID] = []
    /// Where the oldest in `ofPart` lies once it is used as a ring.
    private var oldest = 0

    package init(wanted: Int) {
        precondition(wanted > 0)
        self.wanted = wanted
        missing = wanted
    }

    package mutating func add(_ id: EventID) {
        guard missing > 0 else { return }
        guard ofPart.count == missing else { return ofPart.append(id) }
        ofPart[oldest] = id
        oldest = (oldest + 1) % missing
    }

    /// The part that was being read is at its end; an older one comes next.
    package mutating func endPart() {
        if !ofPart.isEmpty { oldestKept = ofPart[oldest] }
        missing -= ofPart.count
        ofPart.removeAll(keepingCapacity: true)
        oldest = 0
    }

    package var found: Int { wanted - missing }
    package var isComplete: Bool { missing == 0 }

    /// The cursor of who gets exactly the events found; `nil` where there are none.
    package var start: EventID? {
        // The number before is another event's, or nobody's at that millisecond; both will do.
        oldestKept.map {
            EventID(milliseconds: $0.milliseconds, sequence: max(1, $0.sequence) - 1)
        }
    }
}
