// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Compression
import EventStreamWire
import Observability
import PosixIO
import Testing

/// Streams with an end, at a pace, or with a beginning that is found, on a hub without sockets.
/// What a stream waits for is a manual wall clock, or a pause that no test sits through.
@Suite("Passages")
struct PassageTests {
    static let forms: [StreamForm] = [.plain, .coded(.gzip), .coded(.zstd)]

    private func boundary(_ milliseconds: UInt64) -> EventID {
        StreamSpan.boundary(before: milliseconds)
    }

    @Test(
        "a bounded stream plays what lies before its end, says so, and closes",
        arguments: forms, [1, 1 << 20])
    func bounded(_ form: StreamForm, _ windowBytes: Int) throws {
        let bench = try HubBench(windowBytes: windowBytes, wallClock: { 10_000 })
        for time in 1...6 as ClosedRange<UInt64> { bench.publish("cams", count: 2, at: time * 100) }
        let span = StreamSpan(start: .after(boundary(200)), end: boundary(500))
        let sink = bench.subscribe("cameras", as: form, over: span)
        #expect(bench.ended(sink))
        #expect(bench.ids(sink) == [3, 4, 5, 6, 7, 8])
        let last = try #require(bench.value { $0.sinks[sink].messages.last })
        #expect(last.event == "end")
        #expect(last.lastEventID == "499-\(UInt64.max)")
        #expect(
            last.dataText
                == #"{"reason":"until","cursor":"499-18446744073709551615","#
                + #""until":"1970-01-01T00:00:00.500Z","count":6,"last":"400-8"}"#)
        #expect(bench.value { $0.hub.subscriberCount } == 0)
        bench.publish("cams", count: 1, at: 700)
        #expect(bench.ids(sink) == [3, 4, 5, 6, 7, 8])
    }

    @Test("filters hold in a bounded stream, and only what matches is counted", arguments: forms)
    func filtered(_ form: StreamForm) throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { 10_000 })
        for time in 1...4 as ClosedRange<UInt64> { bench.publish("cams", count: 3, at: time * 100) }
        let sink = bench.subscribe(
            "cameras", [("camera_ids", "cam1")], as: form,
            over: StreamSpan(start: .after(.zero), end: boundary(400)))
        #expect(bench.ended(sink))
        #expect(bench.ids(sink) == [1, 4, 7])
        #expect(bench.endText(sink).contains("\"count\":3"))
    }

    @Test("an end in the future: new events come until one lies behind it")
    func future() throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { 1_000 })
        bench.publish("cams", count: 1, at: 900)
        let sink = bench.subscribe(
            "cameras", over: StreamSpan(start: .live, end: boundary(5_000)))
        bench.publish("cams", count: 2, at: 2_000)
        bench.publish("cams", count: 1, at: 4_999)
        #expect(bench.ids(sink) == [2, 3, 4])
        #expect(bench.endText(sink) == "")
        bench.publish("cams", count: 1, at: 5_000)
        #expect(bench.ids(sink) == [2, 3, 4])
        #expect(bench.endText(sink).contains("\"count\":3"))
        #expect(bench.value { $0.hub.subscriberCount } == 0)
    }

    @Test("an end that has come is told only once history has confirmed that nothing is missing")
    func confirmed() throws {
        let clock = Lock<UInt64>(1_000)
        let bench = try HubBench(
            windowBytes: 1 << 20, wallClock: { clock.withLock { $0 } })
        bench.history.state.withLock { $0.isAway = true }
        let sink = bench.subscribe(
            "cameras", over: StreamSpan(start: .live, end: boundary(1_001)))
        #expect(bench.ids(sink) == [])
        // The grace passes on the loop's clock; history is away, so nobody can know.
        let asked = bench.eventually { bench.history.state.withLock { $0.requests } > 1 }
        #expect(asked)
        #expect(bench.endText(sink) == "")
        bench.history.state.withLock { $0.isAway = false }
        #expect(bench.ended(sink))
        #expect(bench.endText(sink).contains("\"count\":0"))
    }

    @Test("events that history has and the node has not seen yet come before the end")
    func behind() throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { 10_000 })
        bench.publish("cams", count: 2, at: 100)
        bench.appendUnseen("cams", count: 3, at: 200)
        let sink = bench.subscribe(
            "cameras", over: StreamSpan(start: .after(.zero), end: boundary(500)))
        #expect(bench.ended(sink))
        #expect(bench.ids(sink) == [1, 2, 3, 4, 5])
    }

    @Test("a full socket gets the end when it can", arguments: forms)
    func full(_ form: StreamForm) throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { 10_000 })
        bench.publish("cams", count: 3, at: 100)
        bench.publish("cams", count: 1, at: 900)
        let sink = bench.subscribe(
            "cameras", as: form, allowance: 0,
            over: StreamSpan(start: .after(.zero), end: boundary(500)))
        for _ in 0..<2_000 where !bench.value({ $0.sinks[sink].hasEnded }) {
            bench.step { parts in
                parts.sinks[sink].allowance = 7
                parts.hub.sinkIsWritable(parts.sinks[sink].key!)
            }
        }
        #expect(bench.ended(sink))
        #expect(bench.ids(sink) == [1, 2, 3])
        #expect(bench.endText(sink).contains("\"count\":3"))
        #expect(bench.value { $0.hub.metrics.lagging.value } == 0)
    }

    @Test("a gap that reaches over the end is told up to the end")
    func gapOverEnd() throws {
        let bench = try HubBench(windowBytes: 1, wallClock: { 10_000 })
        let from = EventID(milliseconds: 100, sequence: 0)
        let to = EventID(milliseconds: 900, sequence: 50)
        let gap = GapNotice(from: from, to: to, reason: .trimmed, lost: 50)
        bench.history.state.withLock { $0.batches = [gap.batch] }
        bench.step { $0.nextSequence = 51 }
        bench.publish("cams", count: 1, at: 950)
        bench.publish("cams", count: 1, at: 960)
        let sink = bench.subscribe(
            "cameras", over: StreamSpan(start: .after(from), end: boundary(500)))
        #expect(bench.ended(sink))
        let messages = bench.value { $0.sinks[sink].messages }
        #expect(messages.map(\.event) == ["gap", "end"])
        #expect(messages.first?.lastEventID == "499-\(UInt64.max)")
    }

    // MARK: - Pace

    @Test("paced events come in order, in their time, and the live ones at once", arguments: forms)
    func paced(_ form: StreamForm) throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        for time in 1...4 as ClosedRange<UInt64> {
            bench.publish("cams", count: 1, at: time * 5_000)
            bench.publish("detections", count: 1, at: time * 5_000)
        }
        let began = MonotonicTime.now
        let sink = bench.subscribe(
            "cameras", as: form, over: StreamSpan(start: .after(.zero), speed: 1_000))
        #expect(bench.settledIDs(sink, [1, 2, 3, 4, 5, 6, 7, 8]) == [1, 2, 3, 4, 5, 6, 7, 8])
        // Fifteen seconds of history at a thousand times the speed: never sooner.
        #expect(MonotonicTime.now - began >= .milliseconds(15))
        bench.publish("cams", count: 1, at: 90_000)
        bench.publish("cams", count: 1, at: 990_000)
        #expect(bench.settledIDs(sink, Array(1...10)) == Array(1...10))
    }

    @Test(
        "between two paced events the connection waits, stays alive, and holds no page",
        arguments: [1, 1 << 20])
    func pause(_ windowBytes: Int) throws {
        let bench = try HubBench(windowBytes: windowBytes, wallClock: { 99_000_000 })
        bench.publish("cams", count: 1, at: 1_000)
        bench.publish("cams", count: 1, at: 80_000_000)
        bench.publish("detections", count: 1, at: 80_000_000)
        let sink = bench.subscribe(
            "cameras",
            over: StreamSpan(start: .after(.zero), end: boundary(90_000_000), speed: 1))
        #expect(bench.settledIDs(sink, [1]) == [1])
        bench.publish("cams", count: 1, at: 80_000_001)
        #expect(bench.ids(sink) == [1])
        #expect(bench.value { $0.hub.subscriberCount } == 1)
        // Its socket goes while it waits.
        bench.step { $0.hub.sinkEnded($0.sinks[sink].key!) }
        #expect(bench.value { $0.hub.subscriberCount } == 0)
    }

    @Test("a paced stream with an end ends right after its last event")
    func pacedEnd() throws {
        let bench = try HubBench(windowBytes: 1, pageBatches: 2, wallClock: { 99_000_000 })
        for time in 1...5 as ClosedRange<UInt64> {
            bench.publish("cams", count: 2, at: time * 1_000)
        }
        let sink = bench.subscribe(
            "cameras",
            over: StreamSpan(start: .after(boundary(2_000)), end: boundary(5_000), speed: 1_000))
        #expect(bench.ended(sink))
        #expect(bench.ids(sink) == [3, 4, 5, 6, 7, 8])
        #expect(bench.endText(sink).contains("\"count\":6"))
    }

    // MARK: - The last N

    @Test(
        "the last N that match, then what is new, from the window or from history",
        arguments: forms, [1, 1 << 20])
    func last(_ form: StreamForm, _ windowBytes: Int) throws {
        let bench = try HubBench(windowBytes: windowBytes)
        for _ in 0..<10 { bench.publish("cams", count: 3) }
        bench.publish("detections", count: 2)
        let sink = bench.subscribe(
            "cameras", [("camera_ids", "cam1")], as: form, over: StreamSpan(start: .last(4)))
        #expect(bench.settledIDs(sink, [22, 25, 28, 31]) == [22, 25, 28, 31])
        bench.publish("cams", count: 3)
        #expect(bench.settledIDs(sink, [22, 25, 28, 31, 34]) == [22, 25, 28, 31, 34])
        let searches = bench.history.state.withLock { $0.searches }
        #expect(searches == (windowBytes == 1 ? 1 : 0))
    }

    @Test("with fewer than N there is all there is, and a search that was cut short is told")
    func fewer() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 4)
        let all = bench.subscribe("cameras", over: StreamSpan(start: .last(10)))
        #expect(bench.settledIDs(all, [1, 2, 3, 4]) == [1, 2, 3, 4])
        bench.history.state.withLock {
            $0.searchNotice = GapNotice(
                from: .zero, to: EventID(milliseconds: 1, sequence: 0), reason: .lookbackLimit)
        }
        let cut = bench.subscribe("cameras", over: StreamSpan(start: .last(10)))
        #expect(bench.settledIDs(cut, [1, 2, 3, 4]) == [1, 2, 3, 4])
        #expect(bench.value { $0.sinks[cut].messages.map(\.event).first } == "gap")
        #expect(
            bench.value { $0.sinks[cut].messages.first!.dataText }
                .contains("\"reason\":\"lookback_limit\""))
        let none = bench.subscribe("detections", over: StreamSpan(start: .last(3)))
        bench.publish("detections", count: 1)
        #expect(bench.settledIDs(none, [5]) == [5])
    }

    @Test("the last N before an end")
    func lastBeforeEnd() throws {
        for windowBytes in [1, 1 << 20] {
            let bench = try HubBench(windowBytes: windowBytes, wallClock: { 10_000 })
            for time in 1...6 as ClosedRange<UInt64> {
                bench.publish("cams", count: 2, at: time * 100)
            }
            let sink = bench.subscribe(
                "cameras", over: StreamSpan(start: .last(3), end: boundary(500)))
            #expect(bench.ended(sink))
            #expect(bench.ids(sink) == [6, 7, 8])
        }
    }

    @Test("where history is away the connection waits, and the window alone may do")
    func away() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 4)
        bench.history.state.withLock { $0.isAway = true }
        let enough = bench.subscribe("cameras", over: StreamSpan(start: .last(2)))
        #expect(bench.ids(enough) == [3, 4])
        let sink = bench.subscribe("cameras", over: StreamSpan(start: .last(10)))
        let asked = bench.eventually { bench.history.state.withLock { $0.searches } > 1 }
        #expect(asked)
        #expect(bench.ids(sink) == [])
        bench.history.state.withLock { $0.isAway = false }
        #expect(bench.settledIDs(sink, [1, 2, 3, 4]) == [1, 2, 3, 4])
    }
}

extension HubBench {
    func subscribe(
        _ channel: String, _ filter: [(String, String)] = [], as form: StreamForm = .plain,
        allowance: Int = .max, over span: StreamSpan
    ) -> Int {
        let directory = directory
        let subscription = try! directory.subscription(
            to: directory.channel(named: channel)!, parameters: filter)
        return value { parts in
            let sink = ScriptedSink()
            sink.form = form
            sink.allowance = allowance
            parts.sinks.append(sink)
            sink.key = parts.hub.subscribe(sink, to: subscription, as: form, over: span)
            return parts.sinks.count - 1
        }
    }

    func eventually(_ holds: () -> Bool) -> Bool {
        let deadline = MonotonicTime.now + .seconds(10)
        while !holds() { if MonotonicTime.now > deadline { return false } }
        return true
    }

    func ended(_ sink: Int) -> Bool { eventually { value { $0.sinks[sink].hasEnded } } }

    /// The data of the `end`, empty where none came.
    func endText(_ sink: Int) -> String {
        value { $0.sinks[sink].messages.last { $0.event == "end" }?.dataText ?? "" }
    }
}
