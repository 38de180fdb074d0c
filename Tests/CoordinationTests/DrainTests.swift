// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import Coordination

/// A drain in a world of its own: a clock that is moved by hand, and clients that go when told.
private struct DrainWorld {
    var now = MonotonicTime(nanoseconds: 1_000_000_000)
    var drain: Drain
    var clients: Int
    var others = Drain.Others.room(1_000_000)
    var isHandedOver = true
    /// Clients left after each step of a tenth of a second.
    var left: [Int] = []

    init(
        clients: Int, notice: Duration = .seconds(2), window: Duration = .seconds(10),
        arrival: Duration = .seconds(3)
    ) {
        self.clients = clients
        drain = Drain(
            Drain.Settings(notice: notice, window: window, arrival: arrival), at: now)
    }

    @discardableResult
    mutating func step(_ span: Duration = .milliseconds(100)) -> Int {
        let facts = Drain.Facts(
            clients: clients, connections: clients, others: others, isHandedOver: isHandedOver)
        let count = drain.step(facts, at: now)
        clients -= count
        left.append(clients)
        now = now + span
        return count
    }

    /// Steps until the phase is another, at most a thousand times.
    mutating func run(through phase: Drain.Phase) {
        for _ in 0..<1000 where drain.phase == phase { step() }
    }
}

@Suite("A drain")
struct DrainTests {
    @Test("sends nobody away before the notice is over and partitions are handed over")
    func announces() {
        var world = DrainWorld(clients: 3000)
        world.isHandedOver = false
        for _ in 0..<40 { #expect(world.step() == 0) }
        #expect(world.drain.phase == .announcing)
        world.isHandedOver = true
        world.step()
        #expect(world.drain.phase == .sendingAway)

        var early = DrainWorld(clients: 3000)
        for _ in 0..<20 { #expect(early.step() == 0) }
        #expect(early.drain.phase == .announcing, "two seconds are not over yet")
    }

    @Test("waits for partitions no longer than its limit")
    func handOverIsBounded() {
        var world = DrainWorld(clients: 3000)
        world.isHandedOver = false
        world.run(through: .announcing)
        #expect(world.left.count == 121, "2 s of notice and 10 s more")
    }

    @Test("spreads the clients evenly over the window")
    func even() {
        var world = DrainWorld(clients: 3000)
        world.run(through: .announcing)
        world.left = []
        world.run(through: .sendingAway)
        for (index, left) in world.left.enumerated() where index < 99 {
            #expect(left == 3000 - 30 * (index + 1), "after step \(index)")
        }
        #expect(world.clients == 0)
        #expect(world.drain.sentAway == 3000)
        #expect(world.drain.phase == .settling)
    }

    @Test("is quick where there are few clients, and quicker where the window is")
    func few() {
        var world = DrainWorld(clients: 50)
        world.run(through: .announcing)
        world.left = []
        world.run(through: .sendingAway)
        #expect(world.left.count <= 7, "a hundred a second: \(world.left)")

        var none = DrainWorld(clients: 3000, notice: .zero, window: .zero)
        #expect(none.step() == 3000)

        var empty = DrainWorld(clients: 0, notice: .zero)
        #expect(empty.step() == 0)
        empty.step()
        #expect(empty.drain.phase == .done)
    }

    @Test("counts those who leave by themselves for the pace")
    func leavers() {
        var world = DrainWorld(clients: 3000)
        world.run(through: .announcing)
        for _ in 0..<10 { world.step() }
        world.clients -= 600
        let before = world.clients
        for _ in 0..<19 { world.step() }
        #expect(world.clients == before, "the pace has been met for two seconds")
        world.step()
        world.step()
        #expect(world.clients < before)
    }

    @Test("sends no more than the others have room for, and all when the window is over")
    func room() {
        var world = DrainWorld(clients: 3000, arrival: .seconds(60))
        world.others = .room(500)
        world.run(through: .announcing)
        for _ in 0..<90 { world.step() }
        #expect(world.clients == 2500)
        #expect(world.drain.isHeldBack)
        // Somebody left there: a hundred have room.
        world.others = .room(600)
        world.step()
        #expect(world.clients == 2400)
        world.run(through: .sendingAway)
        #expect(world.clients == 0)
        #expect(world.left[world.left.count - 2] == 0, "all of them, in the last step")
    }

    @Test("believes the others' counts once clients have had time to arrive")
    func arrivals() {
        var world = DrainWorld(clients: 1000, arrival: .seconds(1))
        world.others = .room(100)
        world.run(through: .announcing)
        for _ in 0..<10 { world.step() }
        #expect(world.clients == 900)
        // They arrived, and as much room was made.
        for _ in 0..<10 { world.step() }
        #expect(world.clients < 900)
    }

    @Test("goes on evenly where nobody else is up, or nobody knows")
    func alone() {
        for others in [Drain.Others.none, .unknown] {
            var world = DrainWorld(clients: 3000)
            world.others = others
            world.run(through: .announcing)
            for _ in 0..<50 { world.step() }
            #expect(world.clients == 1500)
            #expect(!world.drain.isHeldBack)
        }
    }

    @Test("gives sockets time to deliver, and no more than that")
    func settles() {
        var world = DrainWorld(clients: 1, notice: .zero)
        world.step()
        world.step()
        world.step()
        #expect(world.drain.phase == .settling)
        let facts = Drain.Facts(clients: 0, connections: 1, others: .none, isHandedOver: true)
        _ = world.drain.step(facts, at: world.now + .seconds(4))
        #expect(world.drain.phase == .settling)
        _ = world.drain.step(facts, at: world.now + .seconds(6))
        #expect(world.drain.phase == .done)
    }

    @Test("knows from leases what room there is")
    func others() {
        func view(_ members: [MemberView], isStale: Bool = false) -> ClusterView {
            var view = ClusterView()
            view.nodeID = "a"
            view.isStale = isStale
            view.members = members
            return view
        }
        func member(
            _ id: String, _ state: NodeReport.State, connections: Int, of limit: Int,
            isAlive: Bool = true
        ) -> MemberView {
            let report = NodeReport(
                state: state, address: "", version: "", started: 0, connections: connections,
                connectionsMax: limit)
            return MemberView(
                id: id, incarnation: "1", isAlive: isAlive, report: report,
                ends: MonotonicTime(nanoseconds: 0))
        }
        let own = member("a", .draining, connections: 10, of: 1000)
        #expect(Drain.Others(view([own], isStale: true)) == .unknown)
        #expect(Drain.Others(view([own])) == .none)
        let rest = [
            member("b", .up, connections: 300, of: 1000),
            member("c", .up, connections: 50, of: 100),
            member("d", .draining, connections: 0, of: 1000),
            member("e", .up, connections: 0, of: 1000, isAlive: false),
            // A limit that was lowered leaves no room; it takes none from the others.
            member("f", .up, connections: 500, of: 100),
        ]
        #expect(Drain.Others(view([own] + rest)) == .room(750))
    }

    @Test("its progress goes through a lease, and nonsense is no progress")
    func progress() {
        let progress = DrainProgress(
            phase: .sendingAway, left: 120, sentAway: 2880, until: 1_795_256_312_073, others: "up",
            isHeldBack: true)
        #expect(DrainProgress(text: progress.text) == progress)
        for text in ["", "sending_away", "gone 1 2 3 up even", "settling -1 2 3 up even"] {
            #expect(DrainProgress(text: text) == nil, "\(text)")
        }
    }
}
