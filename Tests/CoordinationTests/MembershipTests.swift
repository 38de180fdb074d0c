// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Coordination
import KafkaClient
import PosixIO
import Testing

/// What Redis would say, and a clock that stands until it is moved.
struct Leases {
    var now = MonotonicTime(nanoseconds: 1_000_000_000)
    var redis: UInt64 = 1_763_683_200_000
    var ends: [String: (incarnation: String, ends: UInt64, report: NodeReport)] = [:]

    static let length: UInt64 = 1500

    mutating func pass(_ milliseconds: UInt64) {
        now = now + .milliseconds(Int64(milliseconds))
        redis += milliseconds
    }

    mutating func renew(
        _ id: String, _ incarnation: String = "first", reading: [TopicPartition] = []
    ) {
        var report = NodeReport(state: .up, address: "\(id):1", version: "1", started: 1)
        report.partitions = reading
        ends[id] = (incarnation, redis + Self.length, report)
    }

    var answer: LeaseAnswer {
        .renewed(
            now: redis,
            ends.map { id, lease in
                Lease(
                    id: id, incarnation: lease.incarnation,
                    left: .milliseconds(Int64(lease.ends) - Int64(redis)), report: lease.report)
            })
    }
}

@Suite("Membership")
struct MembershipTests {
    private var leases = Leases()
    private var membership = Membership(id: "a", incarnation: "first", settings: LeaseSettings())

    /// One renewal of this node's, half a second after the one before.
    private mutating func turn(_ renewing: String...) -> [MembershipChange] {
        leases.pass(500)
        leases.renew("a")
        for id in renewing { leases.renew(id) }
        return membership.take(leases.answer, at: leases.now)
    }

    @Test("sees nodes come, and go on purpose")
    mutating func comeAndGo() {
        #expect(turn("b").isEmpty, "what was there before is no change")
        #expect(turn("b", "c") == [.joined("c")])
        leases.ends["c"] = nil
        #expect(turn("b") == [.left("c")])
        #expect(membership.members.keys.sorted() == ["a", "b"])
    }

    @Test("sees a node die when its lease ends, once, and remembers what it read")
    mutating func death() {
        for _ in 0..<4 { _ = turn("b") }
        #expect(turn().isEmpty)
        #expect(turn().isEmpty)
        #expect(turn() == [.died("b")])
        #expect(turn().isEmpty)
        #expect(membership.members["b"]?.isAlive == false)
        #expect(membership.members["b"]?.stateWord == "unreachable")
    }

    @Test("asks again when the next lease ends, so that a death is seen when it happens")
    mutating func nextRenewal() {
        for _ in 0..<4 { _ = turn("b") }
        #expect(membership.nextRenewal(after: leases.now) == .milliseconds(500))
        _ = turn()
        _ = turn()
        leases.pass(300)
        #expect(membership.nextRenewal(after: leases.now) == .milliseconds(205))
    }

    @Test("sees a node that was paused come back, and one that was started anew")
    mutating func comeBack() {
        for _ in 0..<4 { _ = turn("b") }
        for _ in 0..<4 { _ = turn() }
        #expect(turn("b") == [.returned("b")])
        for _ in 0..<4 { _ = turn() }
        leases.renew("b", "second")
        #expect(membership.take(leases.answer, at: leases.now) == [.restarted("b")])
        #expect(membership.members["b"]?.isAlive == true)
    }

    @Test("believes no deaths after Redis was away: everybody's lease has ended then")
    mutating func redisAway() {
        for _ in 0..<4 { _ = turn("b", "c") }
        leases.pass(30_000)
        #expect(membership.isStale(at: leases.now))
        #expect(turn().isEmpty, "b and c have not had a chance yet")
        #expect(membership.members["b"]?.isAlive == true)
        #expect(turn("b").isEmpty)
        #expect(turn("b").isEmpty)
        #expect(turn("b") == [.died("c")], "c had as long as a lease is")
        #expect(!membership.isStale(at: leases.now))
    }

    @Test("is refused while another process holds its name")
    mutating func refused() {
        let changes = membership.take(
            .refused(holder: "other", left: .seconds(1)), at: leases.now)
        #expect(changes.isEmpty)
        #expect(membership.standing == .refused(holder: "other"))
        _ = turn()
        #expect(membership.standing == .member)
    }
}

@Suite("The log of rebalances")
struct RebalanceLogTests {
    private let first = TopicPartition("t", 0)
    private let second = TopicPartition("t", 1)

    @Test("says when, why, which partitions moved, and how long each stood still")
    func death() throws {
        var log = RebalanceLog()
        log.take([first: "a", second: "b"], changes: [], lastHeard: { _ in 0 }, at: 10_000)
        #expect(log.rebalances.isEmpty, "what was so before is no move")
        log.take([first: "a"], changes: [.died("b")], lastHeard: { _ in 10_200 }, at: 12_000)
        #expect(log.unowned == [second: 10_200])
        log.take([first: "a", second: "a"], changes: [], lastHeard: { _ in 0 }, at: 17_000)
        #expect(log.unowned.isEmpty)
        for time in [18_000, 21_000] as [UInt64] {
            log.take([first: "a", second: "a"], changes: [], lastHeard: { _ in 0 }, at: time)
        }
        let rebalance = try #require(log.rebalances.first)
        #expect(log.rebalances.count == 1)
        #expect(rebalance.reasons == ["b died"])
        #expect(rebalance.began == 12_000)
        #expect(rebalance.ended == 17_000)
        #expect(
            rebalance.moves == [.init(partition: second, from: "b", to: "a", stoodStill: 6_800)])
    }

    @Test("keeps the last of them and no more")
    func bounded() {
        var log = RebalanceLog()
        for round in 0..<100 as Range<UInt64> {
            log.take(
                [first: round % 2 == 0 ? "a" : "b"], changes: [], lastHeard: { _ in 0 },
                at: round * 10_000)
            log.take(
                [first: round % 2 == 0 ? "a" : "b"], changes: [], lastHeard: { _ in 0 },
                at: round * 10_000 + 5000)
        }
        #expect(log.rebalances.count == RebalanceLog.kept)
        #expect(log.rebalances.allSatisfy { $0.moves.count == 1 })
        #expect(log.rebalances[0].began == 990_000)
    }
}
