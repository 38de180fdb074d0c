// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Observability
import PosixIO
import Testing

@testable import Benchmarks

@Suite("Measuring")
struct MeasuringTests {
    @Test("a quantile is right to a part in 64, over twelve powers of ten")
    func quantiles() {
        for scale in [1, 1_000, 1_000_000, 1_000_000_000] as [UInt64] {
            var histogram = LatencyHistogram()
            for value in 1...1_000 { histogram.record(UInt64(value) * scale) }
            for share in [0.5, 0.99, 0.999] {
                let exact = share * 1_000 * Double(scale)
                let found = Double(histogram.quantile(share))
                #expect(abs(found - exact) <= exact / 64 + 1, "\(share) of \(scale)")
            }
            #expect(histogram.maximum == 1_000 * scale)
            #expect(histogram.quantile(1) <= histogram.maximum)
        }
    }

    @Test("an empty histogram has quantile 0, and the largest duration has a bucket")
    func edges() {
        var histogram = LatencyHistogram()
        #expect(histogram.quantile(0.99) == 0)
        histogram.record(.max)
        histogram.record(0)
        #expect(histogram.quantile(0.25) == 0)
        #expect(histogram.quantile(1) > .max / 2)
    }

    @Test("histograms add up")
    func sum() {
        var low = LatencyHistogram()
        var high = LatencyHistogram()
        for _ in 0..<99 { low.record(10) }
        high.record(1_000_000)
        low.add(high)
        #expect(low.count == 100)
        #expect(low.quantile(0.99) == 10)
        #expect(low.maximum == 1_000_000)
    }

    @Test("the median of an even number lies between the two in the middle")
    func median() {
        #expect(Spread([4, 1, 3, 2]).median == 2.5)
        #expect(Spread([3, 1, 2]).median == 2)
        #expect(Spread([]).median.isNaN)
    }
}

@Suite("Event scanner")
struct EventScannerTests {
    private static func scan(_ text: String) -> (used: Int, due: [UInt64], gaps: Int) {
        var due: [UInt64] = []
        var gaps = 0
        let bytes = Array(text.utf8)
        let used = unsafe bytes.withUnsafeBytes {
            unsafe EventScanner.scan($0) { event in
                due.append(event.due)
                if event.isGap { gaps += 1 }
            }
        }
        return (used, due, gaps)
    }

    private static func event(_ due: UInt64) -> String {
        var writer = ByteWriter()
        TimedEvent.append(
            due: MonotonicTime(nanoseconds: due), number: 7, bytes: 300, to: &writer)
        return "id: 1-1\nevent: message\ndata: \(String(decoding: writer.bytes, as: UTF8.self))\n\n"
    }

    @Test("reads when each event was due, and leaves an unfinished one")
    func due() {
        let whole = "retry: 1500\n" + Self.event(12_345) + ":\n" + Self.event(67_890)
        let found = Self.scan(whole + Self.event(1).dropLast())
        #expect(found.due == [12_345, 67_890])
        #expect(found.used == whole.utf8.count)
    }

    @Test("the same events come out wherever the stream is cut")
    func cuts() {
        let whole = Array((Self.event(1) + Self.event(2)).utf8)
        for cut in 0...whole.count {
            let first = Self.scan(String(decoding: whole[..<cut], as: UTF8.self))
            let rest = Self.scan(String(decoding: whole[first.used...], as: UTF8.self))
            #expect(first.due + rest.due == [1, 2], "cut at \(cut)")
        }
    }

    @Test("a gap counts as one, comments and data without a time count as no time")
    func others() {
        let found = Self.scan("event: gap\ndata: {\"from\":\"0\"}\n\n:\n\ndata: {}\n\nid: 5\n\n")
        #expect(found.due == [0, 0])
        #expect(found.gaps == 1)
    }
}

@Suite("Schedule")
struct ScheduleTests {
    @Test("what is due when follows from the schedule alone")
    func due() {
        let start = MonotonicTime(nanoseconds: 1_000)
        let schedule = Schedule(
            start: start, eventsPerSecond: 1_000, eventsPerBatch: 10, length: .seconds(2))
        #expect(schedule.intervalNanoseconds == 10_000_000)
        #expect(schedule.batches == 200)
        #expect(schedule.events == 2_000)
        #expect(schedule.due(3) == start + .milliseconds(30))
        #expect(schedule.end == start + .seconds(2))
    }

    @Test("a slow schedule is as long as its fewest batches need")
    func slow() {
        let schedule = Schedule(
            start: .now, eventsPerSecond: 1, eventsPerBatch: 1, length: .seconds(1))
        #expect(schedule.batches == 5)
        #expect(Schedule.none.batches == 0)
    }

    @Test("an event has the size that was asked for")
    func size() {
        for size in [TimedEvent.bytesMin, 300, 5_000] {
            var writer = ByteWriter()
            TimedEvent.append(due: .now, number: 123_456, bytes: size, to: &writer)
            #expect(writer.count == size)
        }
    }
}
