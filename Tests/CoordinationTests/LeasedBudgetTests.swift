// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import Coordination

/// The value under test, whose steps an expectation can take.
@dynamicMemberLookup
private final class Subject<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
    subscript<Part>(dynamicMember path: KeyPath<Value, Part>) -> Part { value[keyPath: path] }
}

extension Subject<LeasedBudget> {
    func acquire(at now: MonotonicTime) -> LeasedBudget.Verdict { value.acquire(at: now) }
    func release(at now: MonotonicTime) -> Bool { value.release(at: now) }
    func ask() -> BudgetAsk? { value.ask() }
    func failed() -> LeasedBudget.Admissions { value.failed() }
    func take(_ answer: BudgetAnswer, at now: MonotonicTime) -> LeasedBudget.Admissions {
        value.take(answer, at: now)
    }
}

extension Subject<LeasedRate> {
    func ask(offered: Int, wasShort: Bool) -> BudgetAsk? {
        value.ask(offered: offered, wasShort: wasShort, isIdle: false)
    }
    func take(_ answer: BudgetAnswer, at now: MonotonicTime) { value.take(answer, at: now) }
    func failed() { value.failed() }
}

@Suite("A leased budget")
struct LeasedBudgetTests {
    private static let lease = Duration.milliseconds(1500)
    private let start = MonotonicTime(nanoseconds: 1_000_000_000)

    private func budget(_ maximum: Int = 100, chunkMax: Int = 256) -> Subject<LeasedBudget> {
        Subject(LeasedBudget(.init(maximum: maximum, chunkMax: chunkMax, lease: Self.lease)))
    }

    /// What Redis says to one of two nodes of which the other has `elsewhere` and uses `used` of it.
    private func answer(_ ask: BudgetAsk, elsewhere: Int = 0, used: Int = 0) -> BudgetAnswer {
        let wanted = min(ask.need + ask.spare, ask.maximum - elsewhere)
        let granted = max(ask.claim, wanted)
        return BudgetAnswer(
            granted: granted, target: max(ask.need, wanted),
            free: ask.maximum - elsewhere - granted,
            idleElsewhere: elsewhere - used, nodes: 2, leased: granted + elsewhere,
            held: ask.held + used)
    }

    @Test("asks for those who wait, admits as many as were granted, then keeps a few at hand")
    func growth() throws {
        let budget = budget(1000)
        for _ in 0..<3 { #expect(budget.acquire(at: start) == .wait) }
        #expect(budget.isAskDue)
        let first = try #require(budget.ask())
        #expect(first.need == 3 && first.claim == 0 && first.spare == 0)
        #expect(budget.ask() == nil, "one ask at a time")
        // Who comes meanwhile waits as well.
        #expect(budget.acquire(at: start) == .wait)
        #expect(budget.take(answer(first), at: start) == .init(admitted: 3))
        #expect(budget.held == 3 && budget.waiting == 1)
        let second = try #require(budget.ask())
        #expect(budget.take(answer(second), at: start) == .init(admitted: 1))
        let third = try #require(budget.ask())
        // A quarter of an equal part of the 996 that are free.
        #expect(third.spare == 124)
        _ = budget.take(answer(third), at: start)
        #expect(budget.idle == 124)
        #expect(budget.acquire(at: start) == .admitted, "without asking")
    }

    @Test("when nothing is left the chunk is one, and with nothing anywhere the answer is no")
    func exhaustion() throws {
        let budget = budget(10)
        for _ in 0..<4 { _ = budget.acquire(at: start) }
        let ask = try #require(budget.ask())
        // Others hold 8: two are left for four.
        let admissions = budget.take(
            BudgetAnswer(
                granted: 2, target: 4, free: 0, idleElsewhere: 0, nodes: 2, leased: 10, held: 8),
            at: start)
        #expect(ask.need == 4)
        #expect(admissions == .init(admitted: 2, refusal: .full))
        #expect(budget.acquire(at: start) == .refused(.full), "nobody is asked for a moment")
        #expect(budget.acquire(at: start + .milliseconds(20)) == .wait)
        let next = try #require(budget.ask())
        #expect(next.spare == 0 && next.need == 3)
    }

    @Test("as long as another has places that it does not use, those who want one wait")
    func idleElsewhere() throws {
        let budget = budget(10)
        _ = budget.acquire(at: start)
        let ask = try #require(budget.ask())
        #expect(ask.need == 1)
        var none = answer(ask, elsewhere: 10, used: 7)
        none.granted = 0
        #expect(budget.take(none, at: start) == .init())
        #expect(budget.waiting == 1 && budget.isAskDue)
        let again = try #require(budget.ask())
        #expect(budget.take(answer(again, elsewhere: 9, used: 7), at: start).admitted == 1)
    }

    @Test("who has more than its part stops using it before Redis hears so")
    func givingBack() throws {
        let budget = budget(100)
        _ = budget.acquire(at: start)
        let ask = try #require(budget.ask())
        _ = budget.take(
            BudgetAnswer(
                granted: 40, target: 40, free: 60, idleElsewhere: 0, nodes: 1, leased: 40, held: 1),
            at: start)
        #expect(ask.need == 1 && budget.leased == 40)
        _ = try #require(budget.ask())
        _ = budget.take(
            BudgetAnswer(
                granted: 16, target: 3, free: 0, idleElsewhere: 0, nodes: 3, leased: 100, held: 87),
            at: start)
        #expect(budget.leased == 3 && budget.isAskDue)
        let claim = try #require(budget.ask())
        #expect(claim.claim <= 3 && claim.held == 1)
    }

    @Test("what is held is never given back")
    func heldStays() throws {
        let budget = budget(10)
        for _ in 0..<5 { _ = budget.acquire(at: start) }
        let ask = try #require(budget.ask())
        _ = budget.take(answer(ask), at: start)
        _ = try #require(budget.ask())
        // Somebody else has been given this node's places while it slept.
        let admissions = budget.take(
            BudgetAnswer(
                granted: 5, target: 2, free: 0, idleElsewhere: 0, nodes: 2, leased: 15, held: 15),
            at: start)
        #expect(admissions == .init() && budget.held == 5 && budget.leased == 5)
    }

    @Test("Redis away: what is at hand is given out, the rest is refused, and that is said")
    func away() throws {
        let budget = budget(1000)
        _ = budget.acquire(at: start)
        let ask = try #require(budget.ask())
        var more = answer(ask)
        more.granted = 3
        more.target = 3
        _ = budget.take(more, at: start)
        // The lease is over: another may have got what was at hand, if Redis is there.
        let later = start + .seconds(2)
        #expect(budget.acquire(at: later) == .wait)
        #expect(budget.acquire(at: later) == .wait)
        #expect(budget.acquire(at: later) == .wait)
        _ = try #require(budget.ask())
        #expect(budget.failed() == .init(admitted: 2, refusal: .unreachable))
        #expect(budget.acquire(at: later) == .wait, "Redis may be back")
        _ = try #require(budget.ask())
        #expect(budget.failed() == .init(refusal: .unreachable))
        #expect(!budget.release(at: later))
        #expect(budget.acquire(at: later) == .admitted, "its last part is still its own")
    }

    @Test("a place that is given back goes to the first who waits")
    func release() throws {
        let budget = budget(1)
        _ = budget.acquire(at: start)
        let ask = try #require(budget.ask())
        #expect(budget.take(answer(ask), at: start).admitted == 1)
        #expect(budget.acquire(at: start) == .wait)
        #expect(budget.release(at: start))
        #expect(budget.held == 1 && budget.waiting == 0)
    }

    @Test("a node that slept does not give out what it had at hand before it has asked")
    func slept() throws {
        let budget = budget(1000)
        _ = budget.acquire(at: start)
        let ask = try #require(budget.ask())
        var more = answer(ask)
        more.granted = 50
        more.target = 50
        _ = budget.take(more, at: start)
        #expect(budget.idle == 49)
        #expect(budget.acquire(at: start + .seconds(30)) == .wait)
        #expect(!budget.release(at: start + .seconds(30)))
    }

    @Test("rates: more than the part is given back first, who was short asks for all")
    func rates() throws {
        let share = Subject(LeasedRate(perSecond: 500, lease: Self.lease))
        let first = try #require(share.ask(offered: 10_000, wasShort: false))
        #expect(first.need == 10_000 && first.spare == 500_000 && first.maximum == 500_000)
        share.take(
            BudgetAnswer(
                granted: 500_000, target: 500_000, free: 0, idleElsewhere: 0, nodes: 1,
                leased: 500_000, held: 0), at: start)
        #expect(share.leased == 500_000 && !share.isAskDue)
        _ = try #require(share.ask(offered: 10_000, wasShort: true))
        share.take(
            BudgetAnswer(
                granted: 500_000, target: 250_000, free: 0, idleElsewhere: 0, nodes: 2,
                leased: 500_000, held: 0), at: start)
        #expect(share.leased == 250_000 && share.owesClaim)
        let claim = try #require(share.ask(offered: 10_000, wasShort: true))
        #expect(claim.claim == 250_000 && claim.need == 500_000)
        share.failed()
        #expect(share.leased == 250_000, "Redis away: it goes on at the rate it has")
    }
}
