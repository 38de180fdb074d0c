// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire
import Testing

@testable import Verification

/// A stream that can be broken on purpose, and what a client made of it.
private struct Stream {
    struct Event {
        var id: EventID
        var data: [UInt8]
        var place: Truth.Place?
    }

    static let partitions: Int64 = 3

    /// In the order of the IDs, spread over partitions.
    var events: [Event]

    init(_ count: Int, hasPlaces: Bool = false) {
        events = (0..<count).map { number in
            let place = Stream.place(number)
            return Event(
                id: EventID(milliseconds: 1_000 + UInt64(number / 7), sequence: UInt64(number) + 1),
                data: Array("{\"n\": \(number), \"camera\":\"c\(number % 2)\"}".utf8),
                place: hasPlaces ? place : nil)
        }
    }

    static func place(_ number: Int) -> Truth.Place {
        Truth.Place(
            topic: "town", partition: Int32(Int64(number) % partitions),
            offset: Int64(number) / partitions)
    }

    /// What was published: always the whole stream, with its places where `inKafka`.
    static func audit(
        of count: Int, inKafka: Bool = true, isOwed: (Int) -> Bool = { _ in true },
        visibleTopics: Set<String>? = nil
    ) throws -> Audit {
        var truth = Truth(eventsMax: count)
        for (number, event) in Stream(count).events.enumerated() {
            try truth.add(
                event.data.span, at: inKafka ? place(number) : nil, isOwed: isOwed(number))
        }
        return Audit(truth: truth, visibleTopics: visibleTopics)
    }
}

extension Audit {
    fileprivate mutating func take(_ stream: Stream, of name: String) {
        let number = client(named: name)
        for event in stream.events {
            take(
                Verification.Receipt(
                    .event, id: event.id, data: event.data.span, place: event.place),
                of: number)
        }
    }

    /// The only offences of the whole verdict, as `word: count`.
    fileprivate func offences(owed span: OwedSpan = .all) -> [String] {
        let verdict = verdict(owed: span)
        return Offence.allCases.filter { verdict.total($0) > 0 }
            .map { "\($0.rawValue): \(verdict.total($0))" }
    }
}

@Suite("Audit")
struct AuditTests {
    private let count = 3_000

    @Test("a whole stream is clean, with and without places", arguments: [true, false])
    func whole(hasPlaces: Bool) throws {
        var audit = try Stream.audit(of: count, inKafka: true)
        audit.take(Stream(count, hasPlaces: hasPlaces), of: "a")
        audit.take(Stream(count, hasPlaces: hasPlaces), of: "b")
        let verdict = audit.verdict(owed: .all)
        #expect(verdict.isClean)
        #expect(verdict.received == 2 * count)
        #expect(audit.clients[0].ranges.runs.count == 1)
    }

    @Test("every 1,000th event dropped for one client is lost, with its IDs")
    func dropped() throws {
        var audit = try Stream.audit(of: count)
        audit.take(Stream(count), of: "whole")
        var broken = Stream(count)
        for index in [2_999, 1_999, 999] { broken.events.remove(at: index) }
        audit.take(broken, of: "broken")
        let verdict = audit.verdict(owed: .all)
        #expect(verdict.clients[0].offences.isEmpty)
        let tally = try #require(verdict.clients[1].offences[.lost])
        #expect(tally.count == 3)
        #expect(tally.first == ["1142-1000", "1285-2000", "1428-3000"])
    }

    @Test("an event that nobody received is lost, by its place in Kafka")
    func unseen() throws {
        var audit = try Stream.audit(of: count)
        var broken = Stream(count)
        broken.events.remove(at: 999)
        audit.take(broken, of: "a")
        let verdict = audit.verdict(owed: .between)
        #expect(verdict.unseen == 1)
        #expect(verdict.clients[0].offences[.lost]?.first == ["town[0]@333"])
    }

    @Test("an event that nobody received is lost in a publisher's log too")
    func unseenInLog() throws {
        var audit = try Stream.audit(of: count, inKafka: false)
        var broken = Stream(count)
        broken.events.remove(at: 999)
        audit.take(broken, of: "a")
        #expect(audit.verdict(owed: .all).clients[0].offences[.lost]?.first == ["line 1000"])
    }

    @Test("a repeated event is repeated and nothing else")
    func repeated() throws {
        var audit = try Stream.audit(of: count)
        var broken = Stream(count)
        broken.events.insert(broken.events[500], at: 900)
        audit.take(broken, of: "a")
        #expect(audit.offences() == ["repeated: 1"])
    }

    @Test("two swapped events are out of order and nothing else")
    func swapped() throws {
        var audit = try Stream.audit(of: count)
        var broken = Stream(count)
        broken.events.swapAt(700, 701)
        audit.take(broken, of: "a")
        #expect(audit.offences() == ["out_of_order: 1"])
        let first = audit.clients[0].offences[.outOfOrder]?.first
        #expect(first == ["1100-701 after 1100-702"])
    }

    @Test("an event appended twice, and an ID given twice, contradict")
    func contradictory() throws {
        var audit = try Stream.audit(of: count)
        var broken = Stream(count)
        var again = broken.events[5]
        again.id = EventID(milliseconds: 9_999, sequence: UInt64(count) + 1)
        broken.events.append(again)
        audit.take(broken, of: "a")
        var other = Stream(count)
        other.events[8].data = other.events[9].data
        other.events.removeSubrange(9...)
        audit.take(other, of: "b")
        #expect(audit.offences(owed: .between) == ["contradictory: 2"])
    }

    @Test("partitions whose IDs do not follow their offsets are named")
    func partitionOrder() throws {
        var audit = try Stream.audit(of: 30)
        var broken = Stream(30)
        let earlier = broken.events[3].data
        broken.events[3].data = broken.events[6].data
        broken.events[6].data = earlier
        audit.take(broken, of: "a")
        let verdict = audit.verdict(owed: .all)
        #expect(verdict.partitionDisorder.count == 1)
        #expect(!verdict.isClean)
    }

    @Test("what the subscription does not ask for is wrongly filtered, and not lost")
    func wronglyFiltered() throws {
        var audit = try Stream.audit(of: count, isOwed: { $0 % 2 == 0 })
        var broken = Stream(count)
        let stray = broken.events[77]
        broken.events = broken.events.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        broken.events.insert(stray, at: 39)
        audit.take(broken, of: "a")
        #expect(audit.offences() == ["wrongly_filtered: 1"])
    }

    @Test("topics that a client may not see")
    func unauthorised() throws {
        var audit = try Stream.audit(of: 10, visibleTopics: ["village"])
        audit.take(Stream(10), of: "a")
        #expect(audit.offences() == ["unauthorised: 10"])
        #expect(audit.verdict(owed: .all).judgesAuthority)
    }

    @Test("a gap that was told is no loss, one told elsewhere is")
    func gaps() throws {
        for (from, isTold) in [(99, true), (150, false)] {
            var audit = try Stream.audit(of: count)
            audit.take(Stream(count), of: "whole")
            var broken = Stream(count)
            let gap = broken.events[100..<103].map(\.id)
            broken.events.removeSubrange(100..<103)
            audit.take(broken, of: "b")
            let start = Stream(count).events[from].id
            let end = isTold ? gap[2] : Stream(count).events[160].id
            let nothing: [UInt8] = []
            audit.take(
                Verification.Receipt(.gap(from: start, to: end), data: nothing.span), of: 1)
            let verdict = audit.verdict(owed: .all)
            #expect(verdict.toldLosses[1] == (isTold ? 3 : 0))
            #expect(verdict.clients[1].count(.lost) == (isTold ? 0 : 3))
            #expect(verdict.gapsTold == 1)
        }
    }

    @Test("a client is owed from its first receipt, or up to its last")
    func spans() throws {
        for (span, lost) in [(OwedSpan.all, 20), (.afterFirst, 10), (.between, 0)] {
            var audit = try Stream.audit(of: 100)
            audit.take(Stream(100), of: "whole")
            var late = Stream(100)
            late.events = Array(late.events[10..<90])
            audit.take(late, of: "late")
            #expect(audit.verdict(owed: span).clients[1].count(.lost) == lost, "\(span)")
        }
    }

    @Test("equal events count one by one")
    func equalEvents() throws {
        var truth = Truth(eventsMax: 3)
        let data = Array("{}".utf8)
        for _ in 0..<3 { try truth.add(data.span, at: nil, isOwed: true) }
        var audit = Audit(truth: truth)
        let number = audit.client(named: "a")
        for sequence in 1...2 {
            let id = EventID(milliseconds: 1, sequence: UInt64(sequence))
            audit.take(Verification.Receipt(.event, id: id, data: data.span), of: number)
        }
        #expect(audit.offences() == ["lost: 1"])
    }

    @Test("more events than are to be held are refused")
    func bound() throws {
        var truth = Truth(eventsMax: 1)
        let data = Array("{}".utf8)
        try truth.add(data.span, at: nil, isOwed: true)
        #expect(throws: VerificationError.self) {
            try truth.add(data.span, at: nil, isOwed: true)
        }
    }

    @Test("receipts from before a truncated truth are nobody's fault, later strangers are")
    func truncated() throws {
        var truth = Truth(eventsMax: 10)
        truth.isTruncated = true
        for event in Stream(6).events.dropFirst(2) {
            try truth.add(event.data.span, at: nil, isOwed: true)
        }
        var audit = Audit(truth: truth)
        var stream = Stream(6)
        stream.events[4].data = Array("{\"n\":99}".utf8)
        audit.take(stream, of: "a")
        let verdict = audit.verdict(owed: .between)
        #expect(verdict.unjudged == 2)
        #expect(verdict.total(.unknown) == 1)
    }
}

@Suite("Event ID ranges")
struct EventIDRangesTests {
    private func id(_ sequence: UInt64, _ milliseconds: UInt64 = 5) -> EventID {
        EventID(milliseconds: milliseconds, sequence: sequence)
    }

    private func insert(_ id: EventID, into ranges: inout EventIDRanges, isNew: Bool) {
        let wasNew = ranges.insert(id)
        #expect(wasNew == isNew, "\(id)")
    }

    @Test("any order of insertion ends in the same runs")
    func orders() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<50 {
            var ranges = EventIDRanges()
            let members = (1...40).filter { $0 % 7 != 0 }.map { UInt64($0) }
            for member in members.shuffled(using: &generator) {
                insert(id(member), into: &ranges, isNew: true)
            }
            for member in members { insert(id(member), into: &ranges, isNew: false) }
            #expect(ranges.runs.count == 6)
            #expect(
                (1...41).allSatisfy { ranges.contains(id(UInt64($0))) == ($0 < 41 && $0 % 7 != 0) })
        }
    }

    @Test("numbers that begin again under a later time are other IDs")
    func secondEra() {
        var ranges = EventIDRanges()
        insert(id(10), into: &ranges, isNew: true)
        insert(id(4, 9), into: &ranges, isNew: true)
        insert(id(5, 9), into: &ranges, isNew: true)
        #expect(ranges.runs.count == 2)
        #expect(!ranges.contains(id(4)))
    }
}
