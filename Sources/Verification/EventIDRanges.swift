// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// A set of event IDs, kept as runs of consecutive sequence numbers.
///
/// Sequence numbers have no holes over all topics, so a client that got everything is one run,
/// however long it listened. One that got every tenth event takes 32 bytes for each.
package struct EventIDRanges: Sendable, Equatable {
    package struct Run: Sendable, Equatable {
        package fileprivate(set) var low: EventID
        package fileprivate(set) var high: EventID

        /// What stands behind the last run.
        static func end(_ id: EventID) -> Run {
            Run(low: EventID(milliseconds: .max, sequence: .max), high: id)
        }
    }

    /// In ascending order, none touching the next.
    package private(set) var runs: [Run] = []

    package init() {}

    /// Adds an ID; false where it was in the set already.
    package mutating func insert(_ id: EventID) -> Bool {
        guard let last = runs.last else {
            runs.append(Run(low: id, high: id))
            return true
        }
        if id > last.high {
            append(id, after: last)
            return true
        }
        return insertWithin(id)
    }

    package func contains(_ id: EventID) -> Bool {
        let place = firstRun(endingAtOrAfter: id)
        return place < runs.count && runs[place].low <= id
    }

    /// The usual case: the stream goes on.
    private mutating func append(_ id: EventID, after last: Run) {
        if Self.follows(last.high, id) {
            runs[runs.count - 1].high = id
        } else {
            runs.append(Run(low: id, high: id))
        }
    }

    /// An ID that came late.
    private mutating func insertWithin(_ id: EventID) -> Bool {
        let place = firstRun(endingAtOrAfter: id)
        guard runs[place].low > id else { return false }
        let joinsNext = Self.follows(id, runs[place].low)
        let joinsPrevious = place > 0 && Self.follows(runs[place - 1].high, id)
        switch (joinsPrevious, joinsNext) {
        case (true, true):
            runs[place - 1].high = runs[place].high
            runs.remove(at: place)
        case (true, false): runs[place - 1].high = id
        case (false, true): runs[place].low = id
        case (false, false): runs.insert(Run(low: id, high: id), at: place)
        }
        return true
    }

    private func firstRun(endingAtOrAfter id: EventID) -> Int {
        var (low, high) = (0, runs.count)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].high < id { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Whether no ID can lie between the two.
    private static func follows(_ earlier: EventID, _ later: EventID) -> Bool {
        earlier.sequence < .max && later.sequence == earlier.sequence + 1
            && earlier.milliseconds <= later.milliseconds
    }
}
