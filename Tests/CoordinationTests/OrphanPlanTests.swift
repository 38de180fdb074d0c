// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import PosixIO
import Testing

@testable import Coordination

@Suite("The plan for orphans")
struct OrphanPlanTests {
    private static let all = (0..<240).map { TopicPartition("t", Int32($0)) }

    private static func member(
        _ id: String, alive: Bool = true, state: NodeReport.State = .up,
        _ partitions: [TopicPartition] = [], orphans: [TopicPartition] = []
    ) -> MemberView {
        MemberView(
            id: id, incarnation: "1", isAlive: alive,
            report: NodeReport(
                state: state, address: "", version: "", started: 0, partitions: partitions,
                orphans: orphans), ends: .now)
    }

    private static func view(_ members: [MemberView]) -> ClusterView {
        var view = ClusterView()
        view.standing = .member
        view.isStale = false
        view.members = members
        return view
    }

    private static func plans(
        _ view: ClusterView, reading: [TopicPartition] = []
    ) -> [String: Set<TopicPartition>] {
        var plans: [String: Set<TopicPartition>] = [:]
        for member in view.members where member.isAlive {
            plans[member.id] = OrphanPlan.orphans(of: view, readBy: member.id, reading: reading)
        }
        return plans
    }

    @Test("each orphan has exactly one reader, and all have a share")
    func oneReader() {
        let view = Self.view([
            Self.member("a"), Self.member("b"), Self.member("c"),
            Self.member("dead", alive: false, Self.all),
        ])
        let plans = Self.plans(view)
        #expect(plans.values.reduce(0) { $0 + $1.count } == Self.all.count)
        #expect(plans.values.reduce(into: Set()) { $0.formUnion($1) } == Set(Self.all))
        #expect(plans.values.allSatisfy { $0.count > Self.all.count / 6 })
    }

    @Test("when a survivor dies too, only what it read changes hands")
    func secondDeath() throws {
        let dead = Self.member("dead", alive: false, Self.all)
        let before = Self.plans(Self.view(["a", "b", "c"].map { Self.member($0) } + [dead]))
        let read = try #require(before["c"])
        let after = Self.plans(
            Self.view([
                Self.member("a"), Self.member("b"),
                Self.member("c", alive: false, orphans: Array(read)), dead,
            ]))
        #expect(after["a"]?.isSuperset(of: try #require(before["a"])) == true)
        #expect(after["b"]?.isSuperset(of: try #require(before["b"])) == true)
        #expect(after.values.reduce(0) { $0 + $1.count } == Self.all.count)
    }

    @Test("what the group has given to somebody is no orphan any more")
    func reassigned() {
        let view = Self.view([
            Self.member("a", Array(Self.all.prefix(100))), Self.member("b"),
            Self.member("dead", alive: false, Self.all),
        ])
        let rest = Set(Self.all.dropFirst(100))
        #expect(Self.plans(view).values.reduce(into: Set()) { $0.formUnion($1) } == rest)
        // Its own lease does not say so yet.
        let own = OrphanPlan.orphans(of: view, readBy: "b", reading: Self.all)
        #expect(own?.isEmpty == true)
    }

    @Test("nodes that join or drain read nothing, and a node that is alive has no orphans")
    func standing() {
        let view = Self.view([
            Self.member("a"), Self.member("b", state: .joining), Self.member("c", state: .draining),
            Self.member("dead", alive: false, Self.all),
        ])
        let plans = Self.plans(view)
        #expect(plans["a"] == Set(Self.all))
        #expect(plans["b"]?.isEmpty == true)
        #expect(plans["c"]?.isEmpty == true)
        #expect(
            Self.plans(Self.view([Self.member("a"), Self.member("b", Self.all)]))["a"]?.isEmpty
                == true)
    }

    @Test("what a living node has lost and nobody got is read, after a moment, until somebody has")
    func lost() {
        var view = Self.view([Self.member("a"), Self.member("b", Array(Self.all.prefix(100)))])
        let lost = Set(Self.all.dropFirst(100))
        view.redisTime = 1_763_683_200_000
        for partition in lost { view.unowned[partition] = view.redisTime - 999 }
        #expect(Self.plans(view).values.allSatisfy { $0.isEmpty }, "the group may be about to")
        view.redisTime += 1
        let plans = Self.plans(view)
        #expect(plans.values.reduce(into: Set()) { $0.formUnion($1) } == lost)
        #expect(plans.values.reduce(0) { $0 + $1.count } == lost.count)

        // The leases name the readers now, so nothing is without one, and they read on.
        view.unowned = [:]
        view.members = ["a", "b"].map {
            Self.member(
                $0, $0 == "b" ? Array(Self.all.prefix(100)) : [],
                orphans: Array(plans[$0] ?? []))
        }
        #expect(Self.plans(view) == plans)
        // Until the group has given them to somebody.
        view.members[0] = Self.member("a", Array(lost), orphans: Array(plans["a"] ?? []))
        #expect(Self.plans(view).values.allSatisfy { $0.isEmpty })
    }

    @Test("what a node reads that drains is read on before it lets go, and until the group has it")
    func drains() {
        let (owned, read) = (Self.all.prefix(100), Self.all.dropFirst(100))
        var view = Self.view([
            Self.member("a"), Self.member("b"),
            Self.member("c", state: .draining, Array(owned), orphans: Array(read)),
        ])
        let plans = Self.plans(view)
        #expect(plans["c"]?.isEmpty == true)
        #expect(plans.values.reduce(0) { $0 + $1.count } == Self.all.count)
        #expect(plans.values.reduce(into: Set()) { $0.formUnion($1) } == Set(Self.all))
        // It has let go; the group has given nothing to anybody yet.
        view.members = ["a", "b"].map { Self.member($0, orphans: Array(plans[$0] ?? [])) }
        view.members.append(Self.member("c", state: .draining))
        #expect(Self.plans(view) == plans)
    }

    @Test("a node that joins takes no orphan from who reads it before it reads it itself")
    func joins() throws {
        let begun = Array(Self.all)
        var view = Self.view([Self.member("a", orphans: begun), Self.member("new")])
        #expect(Self.plans(view)["a"] == Set(Self.all))
        #expect(Self.plans(view)["new"]?.isEmpty == true, "nothing of it is abandoned")
        // Where the dead node is still known the new one takes its share, and then it is let go.
        view.members.append(Self.member("dead", alive: false, Self.all))
        let share = try #require(Self.plans(view)["new"])
        #expect(!share.isEmpty)
        #expect(Self.plans(view)["a"] == Set(Self.all))
        view.members[1] = Self.member("new", orphans: Array(share))
        #expect(Self.plans(view)["a"] == Set(Self.all).subtracting(share))
        #expect(Self.plans(view)["new"] == share)
    }

    @Test("without Redis the plan before goes on; a node without a lease reads nothing")
    func withoutRedis() {
        var view = Self.view([Self.member("a"), Self.member("dead", alive: false, Self.all)])
        view.isStale = true
        #expect(OrphanPlan.orphans(of: view, readBy: "a", reading: []) == nil)
        view.isStale = false
        view.standing = .refused(holder: "x")
        #expect(OrphanPlan.orphans(of: view, readBy: "a", reading: []) == [])
    }
}
