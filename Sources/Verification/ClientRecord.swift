// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// What became of one client, as far as its receipts were read.
package struct ClientRecord: Sendable {
    package let name: String
    /// Receipts of events, repeated ones too.
    package private(set) var received = 0
    /// Gaps that the server told it of.
    package private(set) var gapsTold = 0
    /// Receipts from before the truth begins, which nobody can judge.
    package private(set) var unjudged = 0
    package private(set) var first: EventID?
    package private(set) var last: EventID?
    package private(set) var offences: [Offence: OffenceTally] = [:]

    private(set) var ranges = EventIDRanges()
    private(set) var told: [(from: EventID, to: EventID)] = []
    private let examplesMax: Int

    init(name: String, examplesMax: Int) {
        self.name = name
        self.examplesMax = examplesMax
    }

    package func count(_ offence: Offence) -> Int { offences[offence]?.count ?? 0 }

    mutating func add(_ offence: Offence, _ example: @autoclosure () -> String) {
        offences[offence, default: OffenceTally()].add(example(), keeping: examplesMax)
    }

    mutating func takeGap(from: EventID, to: EventID) {
        gapsTold += 1
        told.append((from, to))
    }

    mutating func leaveUnjudged() { unjudged += 1 }

    /// An event of the truth: in its place, again, or late.
    mutating func take(_ id: EventID) {
        received += 1
        if !ranges.insert(id) {
            add(.repeated, "\(id)")
        } else if let last, id < last {
            add(.outOfOrder, "\(id) after \(last)")
        }
        if first == nil { first = id }
        last = max(last ?? id, id)
    }

    /// Whether a gap that was told covers an event whose ID lies somewhere after `low`, and before
    /// `high` where that is known.
    func wasTold(after low: EventID, before high: EventID?) -> Bool {
        told.contains { $0.from <= low && low < $0.to && (high ?? low) <= $0.to }
    }

    func wasTold(_ id: EventID) -> Bool {
        told.contains { $0.from < id && id <= $0.to }
    }
}

/// From where to where a client is owed every event.
package enum OwedSpan: String, Sendable, CaseIterable {
    /// Everything that was published.
    case all
    /// From its first receipt to the end of the truth.
    case afterFirst = "after-first"
    /// From its first receipt to its last.
    case between
}
