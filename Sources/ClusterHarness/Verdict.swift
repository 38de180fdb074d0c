// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// Whether subscribers got what they were promised: every event, once, in the same order and
/// under the same IDs everywhere.
package struct Verdict: Sendable, CustomStringConvertible {
    /// What is wrong, with the first IDs that show it. Empty where nothing is.
    package private(set) var offences: [String] = []

    private static let offenceLimit = 20

    package var isClean: Bool { offences.isEmpty }

    package var description: String {
        isClean ? "exactly once, in one order" : offences.joined(separator: "\n")
    }

    /// Judges subscribers that were there from the first event on.
    ///
    /// - Parameter count: How many events were published, numbered from 0.
    package static func onWholeRun(_ records: [SubscriberRecord], count: Int) -> Verdict {
        var verdict = Verdict()
        for record in records {
            verdict.checkAscent(record)
            verdict.checkCompleteness(record, count: count)
            verdict.report(record.complaints, of: record)
        }
        if let first = records.first {
            for record in records.dropFirst() {
                verdict.compare(record, with: first.receipts[...], of: first.name)
            }
        }
        return verdict
    }

    /// Judges subscribers that resumed after `cursor` on a stream whose whole course is known.
    package static func onResumption(
        _ records: [SubscriberRecord], of whole: [Receipt], after cursor: EventID
    ) -> Verdict {
        var verdict = Verdict()
        let start = whole.firstIndex { $0.id > cursor } ?? whole.endIndex
        for record in records {
            verdict.checkAscent(record)
            verdict.compare(record, with: whole[start...], of: "the whole stream")
            verdict.report(record.complaints, of: record)
        }
        return verdict
    }

    // MARK: - Parts

    private mutating func report(_ what: [String], of record: SubscriberRecord) {
        for text in what where offences.count < Self.offenceLimit {
            offences.append("\(record.name): \(text)")
        }
    }

    private mutating func checkAscent(_ record: SubscriberRecord) {
        for (earlier, later) in zip(record.receipts, record.receipts.dropFirst())
        where later.id <= earlier.id {
            return report(["\(later) came after \(earlier)"], of: record)
        }
    }

    private mutating func checkCompleteness(_ record: SubscriberRecord, count: Int) {
        var firstPlace = [Int?](repeating: nil, count: count)
        var repeats = 0
        for (place, receipt) in record.receipts.enumerated() {
            guard receipt.number < count else {
                return report(["\(receipt) was never published"], of: record)
            }
            if let first = firstPlace[Int(receipt.number)] {
                if repeats == 0 {
                    report(["\(receipt) repeats \(record.receipts[first])"], of: record)
                }
                repeats += 1
            } else {
                firstPlace[Int(receipt.number)] = place
            }
        }
        if repeats > 1 { report(["\(repeats) repeats in all"], of: record) }
        let lost = firstPlace.indices.filter { firstPlace[$0] == nil }
        guard let first = lost.first else { return }
        report(["\(lost.count) of \(count) events are lost, the first is \(first)"], of: record)
    }

    private mutating func compare(
        _ record: SubscriberRecord, with whole: ArraySlice<Receipt>, of other: String
    ) {
        for (own, expected) in zip(record.receipts, whole) where own != expected {
            return report(["\(own) where \(other) has \(expected)"], of: record)
        }
        guard record.receipts.count != whole.count else { return }
        report(["\(record.receipts.count) events where \(other) has \(whole.count)"], of: record)
    }
}
