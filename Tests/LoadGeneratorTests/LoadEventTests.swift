// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@testable import LoadGenerator

@Suite("What a load reads")
struct LoadEventTests {
    private let scanner = LoadScanner(prefix: LoadEvent.prefix(run: "abc"))

    private func scan(_ text: String) -> (used: Int, found: [String]) {
        var found: [String] = []
        let bytes = Array(text.utf8)
        let used = scanner.scan(bytes.span) { found.append("\($0)") }
        return (used, found)
    }

    @Test("an event says when it was due, of this run only, and has the size it was asked to have")
    func events() {
        let mine = LoadEvent.text(run: "abc", due: 42, number: 7, key: 3, bytes: 300)
        let other = LoadEvent.text(run: "abd", due: 42, number: 7, key: 3, bytes: 300)
        #expect(mine.count == 300)
        let text =
            "id: 5-6\nevent: load\ndata: \(String(decoding: mine, as: UTF8.self))\n\n"
            + "id: 5-7\ndata: \(String(decoding: other, as: UTF8.self))\n\n"
        let (used, found) = scan(text)
        #expect(used == text.utf8.count)
        #expect(
            found == [
                "event(milliseconds: 5, sequence: 6, due: 42)",
                "other(milliseconds: 5, sequence: 7)",
            ])
    }

    @Test("cut anywhere, the same is found in the end")
    func cuts() {
        let event = String(
            decoding: LoadEvent.text(run: "abc", due: 9, number: 1, key: 1, bytes: 150),
            as: UTF8.self)
        let text =
            "retry: 1500\n:\nid: 1-1\ndata: \(event)\n\n:\n\nevent: gap\nid: 2-2\ndata: {}\n\n"
            + "event: rate_limited\ndata: {}\n\n"
        let whole = scan(text).found
        #expect(whole.count == 4)
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count {
            var found: [String] = []
            let head = Array(bytes[..<cut])
            let used = scanner.scan(head.span) { found.append("\($0)") }
            let rest = Array(bytes[used...])
            _ = scanner.scan(rest.span) { found.append("\($0)") }
            // A `retry:` may be read again with what follows it.
            let once = found.enumerated().filter {
                $0.offset == 0 || found[$0.offset - 1] != $0.element
            }
            #expect(once.map(\.element) == whole, "cut at \(cut)")
        }
    }

    @Test(
        "anything else is passed over",
        arguments: [
            "", "\n\n\n", "id\nda\n\n", "data: {\"run\":\"abc\",\"due_us\":\n\n",
            "id: -\ndata: x\n\n",
        ])
    func hostile(_ text: String) {
        let (used, found) = scan(text)
        #expect(used <= text.utf8.count && found.allSatisfy { $0.hasPrefix("other") })
    }
}

@Suite("The schedule of a load")
struct LoadScheduleTests {
    @Test(
        "each event is due at the part of the run that the shape says",
        arguments: LoadSchedule.Shape.allCases)
    func inverse(_ shape: LoadSchedule.Shape) {
        let schedule = LoadSchedule(shape: shape, rate: 100, length: .seconds(10))
        var last = 0.0
        for number in 0..<schedule.count {
            let part = schedule.part(of: number)
            #expect(part >= last && part <= 1)
            #expect(schedule.due(at: part) > number)
            last = part
        }
        #expect(schedule.due(at: 0) == 0)
    }

    @Test("the shapes add up")
    func sums() {
        func count(_ shape: LoadSchedule.Shape) -> Int {
            LoadSchedule(shape: shape, rate: 1000, length: .seconds(10)).count
        }
        #expect(count(.constant) == 10_000)
        #expect(count(.ramp) == 5000)
        #expect(count(.steps) == 6250)
        #expect((3599...3600).contains(count(.spike)))
        #expect((5499...5500).contains(count(.diurnal)))
    }
}

@Suite("The objectives of a load")
struct LoadObjectiveTests {
    @Test("are read, or refused as a whole")
    func parse() throws {
        let read = try #require(LoadObjective.parse("p99=50ms,loss=0,max=2s"))
        #expect(read.map(\.measure) == [.latency(0.99), .loss, .latency(1)])
        #expect(read.map(\.most) == [50, 0, 2000])
        for wrong in ["", "p99", "p99=", "p99=50", "p98=5ms", "loss=-1", "loss=x", "p99=5ms,"] {
            #expect(LoadObjective.parse(wrong) == nil, "\(wrong)")
        }
    }
}
