// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Observability
import PosixIO
import Testing

@testable import BrokerCore

extension HubBench.Parts {
    /// Publishes batches of one event each from inside a turn.
    mutating func publishNow(_ directory: ChannelDirectory, _ topic: String, batches: Int) {
        for _ in 0..<batches {
            let bytes = Array("{\"camera_id\":\"cam0\",\"n\":\(nextSequence)}".utf8)
            let batch = encoder.encode(
                route: directory.route(for: topic),
                firstID: EventID(milliseconds: 1000, sequence: nextSequence), bytes: bytes.span,
                ranges: [0..<bytes.count], isReplay: false)!
            nextSequence += 1
            hub.publish([batch])
        }
    }
}

@Suite("A pass over the members")
struct PassTests {
    @Test("who has pulled ahead within the turn takes nothing from those after it")
    func pulledAhead() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let directory = bench.directory
        let other = bench.subscribe("cameras")
        let lagging = bench.subscribe("cameras")  // The last one is served first.
        bench.step { $0.sinks[lagging].allowance = 0 }
        bench.publish("cams", count: 1)
        #expect(bench.ids(other) == [1])
        bench.step { parts in
            parts.publishNow(directory, "cams", batches: 1)
            parts.sinks[lagging].allowance = .max
            parts.hub.sinkIsWritable(parts.sinks[lagging].key!)
            parts.publishNow(directory, "cams", batches: 1)
        }
        #expect(bench.ids(lagging) == [1, 2, 3])
        #expect(bench.ids(other) == [1, 2, 3])
    }

    @Test("a turn with more batches than one write takes reaches every member whole")
    func manyBatches() throws {
        let bench = try HubBench(windowBytes: 8 << 20)
        let directory = bench.directory
        let sinks = [bench.subscribe("cameras"), bench.subscribe("cameras")]
        let count = PieceList.countMax + 500
        bench.step { parts in parts.publishNow(directory, "cams", batches: count) }
        for sink in sinks { #expect(bench.ids(sink) == Array(1...UInt64(count))) }
        let delivered = bench.value { $0.hub.metrics.eventsDelivered.value }
        #expect(delivered == UInt64(count * sinks.count))
    }

    @Test("events that have to wait after a long pass come all the same, in order")
    func afterLongPass() throws {
        let bench = try HubBench(windowBytes: 1 << 20, batchWait: .milliseconds(5))
        let sink = bench.subscribe("cameras")
        bench.step { $0.sinks[sink].delay = .milliseconds(5) }
        for _ in 0..<4 { bench.publish("cams", count: 2) }
        #expect(bench.settledIDs(sink, Array(1...8)) == Array(1...8))
    }
}

@Suite("Pacing of passes")
struct PassPacingTests {
    private static func time(_ milliseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: milliseconds * 1_000_000)
    }

    @Test(
        "without load nobody waits: before the first pass, and once a pass is over for its length")
    func idle() {
        var pacing = PassPacing(waitMax: .milliseconds(2))
        #expect(pacing.wait(at: Self.time(100)) == .zero)
        pacing.passEnded(began: Self.time(100), ended: Self.time(108))
        #expect(pacing.wait(at: Self.time(110)) == .zero)
        #expect(pacing.wait(at: Self.time(500)) == .zero)
    }

    @Test("right after a pass the next one waits, as long as the pass took and within the bound")
    func load() {
        var pacing = PassPacing(waitMax: .milliseconds(2))
        pacing.passEnded(began: Self.time(100), ended: Self.time(180))
        #expect(pacing.wait(at: Self.time(180)) == .milliseconds(2))
        #expect(pacing.wait(at: Self.time(181)) == .milliseconds(1))
        pacing = PassPacing(waitMax: .milliseconds(50))
        pacing.passEnded(began: Self.time(100), ended: Self.time(103))
        #expect(pacing.wait(at: Self.time(103)) == .milliseconds(3))
    }

    @Test("short passes and a bound of zero make nobody wait")
    func never() {
        var pacing = PassPacing(waitMax: .milliseconds(2))
        pacing.passEnded(
            began: Self.time(100), ended: MonotonicTime(nanoseconds: 100_900_000))
        #expect(pacing.wait(at: MonotonicTime(nanoseconds: 100_900_000)) == .zero)
        pacing = PassPacing(waitMax: .zero)
        pacing.passEnded(began: Self.time(100), ended: Self.time(180))
        #expect(pacing.wait(at: Self.time(180)) == .zero)
    }
}
