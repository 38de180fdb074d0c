// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import ClusterHarness
import EventStreamWire
import Testing

@Suite("The verdict on what subscribers got")
struct VerdictTests {
    private func record(_ name: String, _ numbers: [UInt32], from sequence: UInt64 = 1)
        -> SubscriberRecord
    {
        var record = SubscriberRecord(name: name)
        record.receipts = numbers.enumerated().map { place, number in
            Receipt(
                id: EventID(milliseconds: 1000, sequence: sequence + UInt64(place)),
                number: number)
        }
        return record
    }

    @Test("is clean where all got everything in the same order")
    func clean() {
        let verdict = Verdict.onWholeRun(
            [record("a", [2, 0, 1]), record("b", [2, 0, 1])], count: 3)
        #expect(verdict.isClean, "\(verdict)")
    }

    @Test("names the first event that is lost")
    func loss() {
        let verdict = Verdict.onWholeRun([record("a", [0, 2])], count: 3)
        #expect(verdict.offences == ["a: 1 of 3 events are lost, the first is 1"])
    }

    @Test("names the first event that came twice, and what it repeats")
    func repeated() {
        let verdict = Verdict.onWholeRun([record("a", [0, 1, 0])], count: 2)
        #expect(verdict.offences == ["a: event 0 as 1000-3 repeats event 0 as 1000-1"])
    }

    @Test("finds IDs that do not ascend")
    func order() {
        var disordered = record("a", [0, 1])
        disordered.receipts.swapAt(0, 1)
        let verdict = Verdict.onWholeRun([disordered], count: 2)
        #expect(verdict.offences == ["a: event 0 as 1000-1 came after event 1 as 1000-2"])
    }

    @Test("finds events that have another ID, or another place, elsewhere")
    func disagreement() {
        let verdict = Verdict.onWholeRun(
            [record("a", [0, 1]), record("b", [0, 1], from: 7)], count: 2)
        #expect(verdict.offences == ["b: event 0 as 1000-7 where a has event 0 as 1000-1"])
    }

    @Test("reports what a stream said that is no event of the producer")
    func complaints() {
        var told = record("a", [0])
        told.complain("gap: {}")
        #expect(Verdict.onWholeRun([told], count: 1).offences == ["a: gap: {}"])
    }

    @Test("holds a resumed stream against the rest of the whole one")
    func resumption() {
        let whole = record("whole", [5, 6, 7, 8]).receipts
        let cursor = EventID(milliseconds: 1000, sequence: 2)
        let right = record("a", [7, 8], from: 3)
        #expect(Verdict.onResumption([right], of: whole, after: cursor).isClean)
        let short = record("b", [7], from: 3)
        #expect(
            Verdict.onResumption([short], of: whole, after: cursor).offences
                == ["b: 1 events where the whole stream has 2"])
        let early = record("c", [6, 7, 8], from: 2)
        #expect(!Verdict.onResumption([early], of: whole, after: cursor).isClean)
    }
}
