// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Compression
import EventStreamWire
import NodeConfiguration
import Observability
import PosixIO
import Testing

@testable import BrokerCore

/// Lets `count` events pass, and the next one after a quarter of an hour.
private func gate(_ count: Int, _ cause: ShedCause = .connection) -> MeteredGate {
    MeteredGate(RateGate(thousandths: 1, burst: .seconds(1000 * count)), cause)
}

@Suite("Connections with a rate")
struct MeterTests {
    /// The first `rate_limited` of a sink, and how many there were.
    private func notices(_ bench: HubBench, _ sink: Int) -> [String] {
        bench.value { parts in
            parts.sinks[sink].messages.filter { $0.event == "rate_limited" }.map {
                String(decoding: $0.data, as: UTF8.self)
            }
        }
    }

    /// Matched is sent, shed or waiting, whatever has happened.
    private func isBalanced(_ bench: HubBench, waiting: Int = 0) -> Bool {
        bench.value { parts in
            let metrics = parts.hub.metrics
            let shed = metrics.rateShed.values.reduce(0) { $0 + $1.value }
            return metrics.rateMatched.value == metrics.rateSent.value + shed + UInt64(waiting)
        }
    }

    @Test("shed: what passes is sent, the client is told of the rest, and can fetch it")
    func shed() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let limit = gate(3)
        let sink = bench.subscribe("shed", through: [limit])
        bench.publish("readings", count: 5)
        #expect(bench.ids(sink) == [1, 2, 3])
        let told = notices(bench, sink)
        #expect(
            told == [
                #"{"count":2,"from":"1000-3","to":"1000-5","causes":{"connection":2}}"#
            ], "\(told)")
        #expect(isBalanced(bench))
        // Its cursor has not moved by what it was told.
        let last = bench.value { $0.sinks[0].messages.last?.lastEventID }
        #expect(last == "1000-3")
        // Not again within a second; what is shed meanwhile is told together.
        bench.publish("readings", count: 2)
        bench.publish("readings", count: 2)
        #expect(notices(bench, sink).count == 1)
        limit.gate.set(thousandths: 1_000_000_000)
        bench.publish("readings", count: 1)
        #expect(bench.ids(sink) == [1, 2, 3, 10])
        #expect(isBalanced(bench))
        let again = bench.subscribe("shed", after: EventID(milliseconds: 1000, sequence: 3))
        #expect(bench.settledIDs(again, Array(4...10)) == Array(4...10))
    }

    @Test("shed: what is told late is told by the clock, without another event")
    func toldLate() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let sink = bench.subscribe("shed", through: [gate(1)])
        bench.publish("readings", count: 2)
        bench.publish("readings", count: 3)
        #expect(notices(bench, sink).count == 1)
        let deadline = MonotonicTime.now + .seconds(10)
        while notices(bench, sink).count < 2, MonotonicTime.now < deadline {}
        let told = notices(bench, sink)
        #expect(told.last?.contains(#""count":3,"from":"1000-2","to":"1000-5""#) == true, "\(told)")
    }

    @Test("delay: what does not pass waits, in order, and nothing is lost")
    func delay() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let limit = gate(2)
        let sink = bench.subscribe("cameras", through: [limit])
        bench.publish("cams", count: 5)
        bench.publish("detections", count: 2)
        #expect(bench.ids(sink) == [1, 2])
        #expect(bench.value { $0.hub.metrics.delayed.value } == 1)
        limit.gate.set(thousandths: 1_000_000_000)
        // A connection's own gate is looked at by its timer, which is far off; it is moved by
        // nothing but time, so another one shows that what waits is served in order.
        bench.step { $0.hub.pull($0.hub.subscribers[$0.sinks[0].key!.slab]!) }
        #expect(bench.settledIDs(sink, Array(1...7)) == Array(1...7))
        #expect(notices(bench, sink).isEmpty)
        #expect(isBalanced(bench))
        #expect(bench.value { $0.hub.metrics.delayed.value } == 0)
    }

    @Test("delay: a gate that others use too serves those who wait in turn")
    func turns() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let shared = MeteredGate(RateGate(thousandths: 0, burst: .milliseconds(50)), .cluster)
        let sinks = (0..<3).map { _ in bench.subscribe("cameras", through: [shared]) }
        bench.publish("cams", count: 20)
        #expect(sinks.allSatisfy { bench.ids($0).isEmpty })
        #expect(shared.gate.takeDemand().wasShort)
        shared.gate.set(thousandths: 2_000_000)
        for sink in sinks {
            #expect(bench.settledIDs(sink, Array(1...20)) == Array(1...20))
        }
        #expect(isBalanced(bench))
    }

    @Test("delay: old events are served at the rate, from pages that nobody holds meanwhile")
    func catchingUp() throws {
        let bench = try HubBench(windowBytes: 1)
        for _ in 0..<10 { bench.publish("readings", count: 30) }
        let limit = MeteredGate(RateGate(thousandths: 3_000_000, burst: .milliseconds(1)), .cluster)
        let sink = bench.subscribe(
            "shed", after: EventID(milliseconds: 1000, sequence: 0), through: [limit])
        // A channel whose rule is to shed loses nothing of what its clients come back for.
        #expect(bench.settledIDs(sink, Array(1...300)) == Array(1...300))
        #expect(isBalanced(bench))
    }

    @Test("conflate: the newest of each key waits, in the order of events")
    func conflate() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let limit = MeteredGate(RateGate(thousandths: 0, burst: .milliseconds(50)), .cluster)
        let sink = bench.subscribe("conflate", through: [limit])
        bench.publish("readings", count: 20)
        #expect(bench.ids(sink).isEmpty)
        #expect(isBalanced(bench, waiting: 3))
        limit.gate.set(thousandths: 1_000_000_000)
        #expect(bench.settledIDs(sink, [18, 19, 20]) == [18, 19, 20])
        bench.publish("readings", count: 2)
        #expect(bench.settledIDs(sink, [18, 19, 20, 21, 22]) == [18, 19, 20, 21, 22])
        #expect(notices(bench, sink).first?.contains(#""conflated":17"#) == true)
        #expect(isBalanced(bench))
    }

    @Test("conflate: what waits when a connection ends is counted")
    func endedWhileWaiting() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let closed = MeteredGate(RateGate(burst: .milliseconds(50)), .cluster)
        _ = bench.subscribe("conflate", through: [closed])
        bench.publish("readings", count: 20)
        bench.step { $0.hub.sinkEnded($0.sinks[0].key!) }
        #expect(isBalanced(bench))
        #expect(bench.value { $0.hub.metrics.rateShed[.ended]!.value } == 3)
    }

    @Test("who goes while waiting for a gate that never opens is forgotten")
    func goneWhileWaiting() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let closed = MeteredGate(RateGate(burst: .milliseconds(50)), .principal)
        _ = bench.subscribe("cameras", through: [closed])
        bench.publish("cams", count: 3)
        #expect(bench.value { $0.hub.gateQueues.count } == 1)
        bench.step { $0.hub.sinkEnded($0.sinks[0].key!) }
        let deadline = MonotonicTime.now + .seconds(10)
        while bench.value({ $0.hub.gateQueues.count }) > 0, MonotonicTime.now < deadline {}
        #expect(bench.value { $0.hub.gateQueues.isEmpty })
        #expect(isBalanced(bench))
    }

    @Test("urgent events pass before others are shed")
    func urgency() throws {
        var limits = LimitsSection()
        limits.connectionEventRate = 1
        limits.priorityField = "camera_id"
        limits.urgentPriorities = ["cam0"]
        let bench = try HubBench(windowBytes: 1 << 20, limits: limits)
        let sink = bench.subscribe("shed", through: [gate(2)])
        bench.publish("readings", count: 7)
        // Numbers 3 and 6 are of cam0.
        #expect(bench.ids(sink) == [3, 6])
        #expect(isBalanced(bench))
    }

    @Test("a part of the burst is for urgent events alone")
    func reserve() throws {
        let gate = RateGate(thousandths: 1, burst: .seconds(10_000))
        #expect(gate.take(upTo: 100, at: .now, isUrgent: false) == 8)
        #expect(gate.take(upTo: 100, at: .now, isUrgent: false) == 0)
        #expect(gate.take(upTo: 100, at: .now) == 2)
    }

    @Test("of several gates the narrowest decides, and the others keep what it stopped")
    func severalGates() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let own = gate(5)
        let cluster = gate(2, .cluster)
        let sink = bench.subscribe("shed", through: [own, cluster])
        bench.publish("readings", count: 4)
        #expect(bench.ids(sink) == [1, 2])
        #expect(notices(bench, sink).first?.contains(#""causes":{"cluster":2}"#) == true)
        #expect(own.gate.take(upTo: 100, at: .now) == 3)
    }

    @Test(
        "compressed and over a full socket the same events arrive",
        arguments: ContentCoding.allCases)
    func compressed(_ coding: ContentCoding) throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let limit = MeteredGate(RateGate(thousandths: 0, burst: .milliseconds(50)), .cluster)
        let sink = bench.subscribe("cameras", as: .coded(coding), through: [limit])
        bench.publish("cams", count: 40, padding: 100)
        bench.step { $0.sinks[0].allowance = 100 }
        limit.gate.set(thousandths: 1_000_000_000)
        let deadline = MonotonicTime.now + .seconds(10)
        while bench.value({ $0.hub.metrics.lagging.value }) == 0, MonotonicTime.now < deadline {}
        bench.step {
            $0.sinks[0].allowance = .max
            $0.hub.sinkIsWritable($0.sinks[0].key!)
        }
        #expect(bench.settledIDs(sink, Array(1...40)) == Array(1...40))
        #expect(isBalanced(bench))
    }

    @Test("one that its rate keeps behind is moved ahead where its rule says so, and is told")
    func skipped() throws {
        let bench = try HubBench(
            windowBytes: 1 << 20, lagRule: LagRule(policy: .skip, eventsMax: 100))
        let limit = MeteredGate(RateGate(thousandths: 0, burst: .milliseconds(50)), .cluster)
        let sink = bench.subscribe("cameras", through: [limit])
        bench.publish("cams", count: 300)
        let deadline = MonotonicTime.now + .seconds(10)
        func gaps() -> [String] {
            bench.value { parts in
                parts.sinks[0].messages.filter { $0.event == "gap" }.map {
                    String(decoding: $0.data, as: UTF8.self)
                }
            }
        }
        while gaps().isEmpty, MonotonicTime.now < deadline {}
        #expect(
            gaps().first?.contains(#""from":"1000-0""#) == true
                && gaps().first?.contains(#""reason":"rate_limited""#) == true, "\(gaps())")
        limit.gate.set(thousandths: 1_000_000_000)
        bench.publish("cams", count: 3)
        #expect(bench.settledIDs(sink, [301, 302, 303]) == [301, 302, 303])
        #expect(isBalanced(bench))
    }

    @Test("a stream with an end tells it after everything that waited")
    func bounded() throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { 100_000 })
        bench.publish("cams", count: 100, at: 5000)
        let limit = MeteredGate(RateGate(thousandths: 5_000_000, burst: .milliseconds(1)), .cluster)
        var span = StreamSpan(start: .after(.zero))
        span.end = StreamSpan.boundary(before: 6000)
        let sink = bench.subscribe("cameras", over: span, through: [limit])
        #expect(bench.settledIDs(sink, Array(1...100)) == Array(1...100))
        let deadline = MonotonicTime.now + .seconds(10)
        while !bench.value({ $0.sinks[0].hasEnded }), MonotonicTime.now < deadline {}
        let last = bench.value { parts in
            parts.sinks[0].messages.last.map {
                "\($0.event) \(String(decoding: $0.data, as: UTF8.self))"
            }
        }
        #expect(last?.hasPrefix("end {") == true, "\(last ?? "")")
        #expect(last?.contains("\"count\":100") == true, "\(last ?? "")")
    }

    @Test("over any two seconds no more passes than the rate says, and hardly less")
    func window() {
        let gate = RateGate(
            thousandths: 500_000, burst: .milliseconds(50), window: .seconds(2))
        var now = MonotonicTime.now
        var passed: [(at: UInt64, count: Int)] = []
        var random = UInt64(7)
        // Demand in bursts of 30 every 17 to 43 milliseconds.
        let end = now + .seconds(20)
        while now < end {
            passed.append((now.nanoseconds, gate.take(upTo: 30, at: now)))
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            now = now + .milliseconds(17 + Int64((random >> 33) % 27))
        }
        let start = passed[0].at
        for offset in stride(from: UInt64(0), through: 18_000, by: 10) {
            let from = start + offset * 1_000_000
            let count = passed.reduce(0) {
                $1.at >= from && $1.at < from + 2_000_000_000 ? $0 + $1.count : $0
            }
            #expect((950...1000).contains(count), "\(count) from \(offset) ms on")
        }
    }
}
