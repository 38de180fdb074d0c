// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Coordination
import PosixIO
import Testing

/// Several nodes whose clocks have nothing to do with each other. Canaries reach all whose leg is
/// whole, a moment later each; each node tells the others its age twice a second.
private struct Fleet {
    struct Node {
        let clock: UInt64
        var watch: CanaryWatch
        var receives = true
        var tells = true
        var verdict = CanaryVerdict.unknown
        /// What it told last, and when.
        var told: (age: Duration, at: Int)?
    }

    private(set) var nodes: [Node] = []
    private var milliseconds = 0

    init(_ count: Int) {
        for index in 0..<count {
            // Apart by days.
            let clock = UInt64(index + 1) * 100_000_000_000_000
            nodes.append(
                Node(
                    clock: clock,
                    watch: CanaryWatch(.init(), at: MonotonicTime(nanoseconds: clock))))
        }
    }

    subscript(index: Int) -> Node {
        get { nodes[index] }
        set { nodes[index] = newValue }
    }

    private func time(of index: Int, _ milliseconds: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: nodes[index].clock + UInt64(milliseconds) * 1_000_000)
    }

    /// Lets time pass; `inspect` sees the fleet four times a second.
    mutating func pass(seconds: Int, _ inspect: (Fleet) -> Void = { _ in }) {
        let end = milliseconds + seconds * 1000
        while milliseconds < end {
            milliseconds += 50
            for index in nodes.indices { turn(index) }
            if milliseconds % 250 == 0 { inspect(self) }
        }
    }

    private mutating func turn(_ index: Int) {
        let now = time(of: index, milliseconds)
        // One node's canary each 50 to 950 ms after the second, sent 30 ms ago.
        if nodes[index].receives, milliseconds % 1000 == 50 + index * 100 % 900 {
            nodes[index].watch.arrived(age: .milliseconds(30), at: now)
        }
        if nodes[index].tells, milliseconds % 500 == 100 + index * 50 % 400 {
            nodes[index].told = (nodes[index].watch.age(at: now), milliseconds)
        }
        for peer in nodes.indices where peer != index {
            guard let told = nodes[peer].told else { continue }
            nodes[index].watch.heard(
                "node-\(peer)", age: told.age, at: time(of: index, told.at))
        }
        if milliseconds % 250 == 0 { nodes[index].verdict = nodes[index].watch.verdict(at: now) }
    }

    var verdicts: [CanaryVerdict] { nodes.map(\.verdict) }
}

@Suite("Canaries of several nodes")
struct CanaryWatchTests {
    @Test("all is well: every node is fresh all the time")
    func well() {
        var fleet = Fleet(5)
        fleet.pass(seconds: 2)
        fleet.pass(seconds: 60) { fleet in
            #expect(fleet.verdicts.allSatisfy { $0 == .fresh }, "\(fleet.verdicts)")
        }
    }

    @Test("one node receives nothing more: it is sick within eleven seconds, and no other")
    func oneSick() {
        var fleet = Fleet(5)
        fleet.pass(seconds: 10)
        fleet[2].receives = false
        fleet.pass(seconds: 11) { fleet in
            for index in [0, 1, 3, 4] { #expect(fleet[index].verdict == .fresh) }
        }
        #expect(fleet[2].verdict == .sick)
        fleet.pass(seconds: 60) { fleet in
            #expect(fleet.verdicts.filter { $0 == .sick }.count == 1, "\(fleet.verdicts)")
        }
        fleet[2].receives = true
        fleet.pass(seconds: 2)
        #expect(fleet[2].verdict == .fresh, "and it is well as soon as it receives again")
    }

    @Test("nobody receives anything: all are stale, and nobody is ever sick")
    func sharedOutage() {
        var fleet = Fleet(5)
        fleet.pass(seconds: 10)
        for index in 0..<5 { fleet[index].receives = false }
        fleet.pass(seconds: 60) { fleet in
            #expect(!fleet.verdicts.contains(.sick), "\(fleet.verdicts)")
        }
        #expect(fleet.verdicts.allSatisfy { $0 == .stale }, "\(fleet.verdicts)")
    }

    @Test("after an outage of all, one that comes back some seconds later is not taken for sick")
    func comingBack() {
        var fleet = Fleet(3)
        fleet.pass(seconds: 10)
        for index in 0..<3 { fleet[index].receives = false }
        fleet.pass(seconds: 30)
        fleet[0].receives = true
        fleet.pass(seconds: 2)
        fleet[1].receives = true
        fleet.pass(seconds: 2) { fleet in
            #expect(!fleet.verdicts.contains(.sick), "\(fleet.verdicts)")
        }
        fleet[2].receives = true
        fleet.pass(seconds: 2)
        fleet.pass(seconds: 10) { fleet in
            #expect(fleet.verdicts.allSatisfy { $0 == .fresh }, "\(fleet.verdicts)")
        }
    }

    @Test("while nobody hears of the others, as with Redis away, nobody is sick")
    func noReports() {
        var fleet = Fleet(3)
        fleet.pass(seconds: 10)
        for index in 0..<3 {
            fleet[index].tells = false
            fleet[index].receives = false
        }
        fleet.pass(seconds: 60) { fleet in
            #expect(!fleet.verdicts.contains(.sick), "\(fleet.verdicts)")
        }
    }

    @Test("a node alone is stale at worst")
    func alone() {
        var fleet = Fleet(1)
        fleet.pass(seconds: 10)
        #expect(fleet.verdicts == [.fresh])
        fleet[0].receives = false
        fleet.pass(seconds: 60) { #expect($0.verdicts != [.sick]) }
        #expect(fleet.verdicts == [.stale])
    }

    @Test("a node that has never received anything is sick where its peers receive")
    func neverReceived() {
        var fleet = Fleet(3)
        fleet[1].receives = false
        fleet.pass(seconds: 3)
        #expect(fleet[1].verdict == .unknown || fleet[1].verdict == .fresh)
        fleet.pass(seconds: 12)
        #expect(fleet.verdicts == [.fresh, .sick, .fresh])
    }

    @Test("what a dead peer said last does not make its peers ahead of anybody for ever")
    func deadPeer() {
        var fleet = Fleet(2)
        fleet.pass(seconds: 10)
        fleet[1].tells = false
        fleet[0].receives = false
        fleet.pass(seconds: 60) { fleet in #expect(fleet[0].verdict != .sick) }
    }
}
