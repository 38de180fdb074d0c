// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Glibc
import Observability
import PosixIO
import Reactor
import RedisClient
import Synchronization
import Testing

@testable import Coordination

/// Nodes on one loop, before a redis-server of their own, whose clients come on another.
private final class BudgetScene: Sendable {
    static let length = Duration.milliseconds(400)
    let server: RedisServerProcess
    let loop: EventLoop
    let clients: EventLoop
    let settings: BudgetLedger.Settings
    private let parts = Lock<[String: LoopBound<Parts>]>([:])
    private let ledgers = Lock<[String: BudgetLedger]>([:])
    /// What is admitted anywhere, and the most it ever was.
    private let admitted = Atomic<Int>(0)
    private let most = Atomic<Int>(0)
    private let answered = Atomic<Int>(0)

    struct Parts {
        let connection: RedisConnection
        let member: ClusterMember
        let keeper: BudgetKeeper
    }

    init(_ settings: BudgetLedger.Settings) throws {
        self.settings = settings
        server = try RedisServerProcess()
        loop = try EventLoop(name: "cluster")
        clients = try EventLoop(name: "clients")
        loop.start()
        clients.start()
    }

    deinit {
        let parts = parts.withLock { $0 }
        loop.post { for part in parts.values { Self.stop(part.value) } }
        for loop in [loop, clients] {
            loop.stop()
            _ = loop.join(within: .seconds(10))
        }
    }

    private static func stop(_ parts: Parts) {
        parts.keeper.stop()
        parts.member.stop()
        parts.connection.stop()
    }

    func start(_ id: String, levers: [(BudgetName, Int, any RateLever)] = []) throws {
        let ledger = BudgetLedger(settings, metrics: BudgetMetrics(in: MetricsRegistry()))
        let made: LoopBound<Parts>? = loop.answer { [self] in
            var redis = RedisSettings(address: .unix(path: server.socketPath))
            redis.reconnectDelayMax = .milliseconds(50)
            redis.commandTimeout = Self.length
            let log = Logger("test", sink: { _ in })
            let connection = RedisConnection(
                loop: loop, settings: redis, purpose: "cluster",
                scripts: [LeaseScripts.renew, LeaseScripts.leave, BudgetScripts.share], log: log)
            let keys = ClusterKeys(prefix: "t")
            let member = ClusterMember(
                loop: loop, connection: connection, keys: keys, nodeID: id,
                settings: LeaseSettings(renewal: .milliseconds(50), length: Self.length),
                metrics: ClusterMetrics(in: MetricsRegistry()), log: log,
                report: { NodeReport(state: .up, address: "\(id):1", version: "1", started: 1) },
                onView: { _ in })
            let keeper = BudgetKeeper(
                loop: loop, connection: connection, keys: keys, ledger: ledger,
                interval: .milliseconds(50), log: log, identity: { member.identity })
            connection.onStateChange = {
                if $0 == .ready {
                    member.renewSoon()
                    keeper.askSoon()
                }
            }
            connection.start()
            member.start()
            keeper.start()
            for (name, perSecond, lever) in levers {
                keeper.share(name, perSecond: perSecond, through: lever)
            }
            return LoopBound(
                Parts(connection: connection, member: member, keeper: keeper), on: loop)
        }
        let part = try #require(made)
        parts.withLock { $0[id] = part }
        ledgers.withLock { $0[id] = ledger }
        // Without a lease there is nobody to ask for.
        try #require(comesAbout { self.loop.answer { part.value.member.identity != nil } ?? false })
    }

    /// Ends a node without a word, and its clients with it.
    func kill(_ id: String) {
        guard let part = parts.withLock({ $0.removeValue(forKey: id) }) else { return }
        loop.answer { Self.stop(part.value) }
        guard let ledger = ledgers.withLock({ $0.removeValue(forKey: id) }) else { return }
        admitted.wrappingSubtract(ledger.connections?.held ?? 0, ordering: .relaxed)
    }

    func share(_ id: String, _ name: BudgetName, _ perSecond: Int, _ lever: any RateLever) {
        guard let part = parts.withLock({ $0[id] }) else { return }
        loop.answer { part.value.keeper.share(name, perSecond: perSecond, through: lever) }
    }

    func held(_ id: String) -> Int { ledgers.withLock { $0[id] }?.connections?.held ?? 0 }

    /// `count` clients want to connect at once.
    func storm(_ id: String, _ count: Int, as principal: String = "p") {
        guard let ledger = ledgers.withLock({ $0[id] }) else { return }
        let names = ledger.names(for: principal)
        clients.post { [self] in
            for _ in 0..<count {
                let verdict = ledger.acquire(names[0], on: clients) { self.settle($0) }
                if verdict != .wait { settle(verdict) }
            }
        }
    }

    private func settle(_ verdict: LeasedBudget.Verdict) {
        if verdict == .admitted {
            let now = admitted.wrappingAdd(1, ordering: .relaxed).newValue
            most.max(now, ordering: .relaxed)
        }
        answered.wrappingAdd(1, ordering: .relaxed)
    }

    func end(_ id: String, _ count: Int, as principal: String = "p") {
        guard let ledger = ledgers.withLock({ $0[id] }) else { return }
        let names = ledger.names(for: principal)
        clients.answer { [self] in
            for _ in 0..<count {
                admitted.wrappingSubtract(1, ordering: .relaxed)
                ledger.release([names[0]])
            }
        }
    }

    var admittedCount: Int { admitted.load(ordering: .relaxed) }
    var mostAdmitted: Int { most.load(ordering: .relaxed) }
    var answeredCount: Int { answered.load(ordering: .relaxed) }

    func comesAbout(_ condition: () -> Bool) -> Bool {
        let deadline = MonotonicTime.now + .seconds(30)
        while !condition() {
            guard MonotonicTime.now < deadline else { return false }
            _ = poll(nil, 0, 2)
        }
        return true
    }
}

/// A rate whose demand the test says.
private final class TestLever: RateLever {
    private let state = Lock<(perSecond: Double, rate: Int)>((0, 0))

    func takeDemand(over span: Duration) -> (perSecond: Double, wasShort: Bool)? {
        guard !hasLeft.withLock({ $0 }) else { return nil }
        return state.withLock { ($0.perSecond, $0.perSecond * 1000 > Double($0.rate)) }
    }
    private let hasLeft = Lock(false)

    /// Nobody is connected whom it concerns.
    func leave() { hasLeft.withLock { $0 = true } }
    func set(thousandths: Int) { state.withLock { $0.rate = thousandths } }
    func want(_ perSecond: Double) { state.withLock { $0.perSecond = perSecond } }
    var rate: Int { state.withLock { $0.rate } }
}

@Suite("Budgets in Redis", .timeLimit(.minutes(3)))
struct BudgetScriptTests {
    private let nodes = ["a", "b", "c"]

    @Test("a storm on all nodes fills the cluster exactly, and never goes beyond")
    func storm() throws {
        let scene = try BudgetScene(.init(connections: 500, lease: BudgetScene.length))
        for id in nodes { try scene.start(id) }
        for _ in 0..<20 { for id in nodes { scene.storm(id, 33) } }
        #expect(scene.comesAbout { scene.answeredCount == 1980 }, "\(scene.answeredCount)")
        #expect(scene.admittedCount == 500)
        #expect(scene.mostAdmitted == 500)
        // Clients leave one node, and others come to another: the places follow.
        let left = scene.held("a")
        scene.end("a", left)
        var asked = 0
        #expect(
            scene.comesAbout {
                scene.storm("b", 50)
                asked += 50
                return scene.comesAbout { scene.answeredCount == 1980 + asked }
                    && scene.admittedCount == 500
            })
        #expect(scene.mostAdmitted == 500)
        #expect(scene.held("a") == 0)
    }

    @Test("what a dead node held is there for the others once its lease has ended")
    func death() throws {
        let scene = try BudgetScene(.init(connections: 90, lease: BudgetScene.length))
        for id in nodes { try scene.start(id) }
        for id in nodes { scene.storm(id, 30) }
        #expect(scene.comesAbout { scene.admittedCount == 90 }, "\(scene.admittedCount)")
        scene.kill("b")
        #expect(scene.admittedCount == 60)
        var asked = 0
        #expect(
            scene.comesAbout {
                scene.storm("a", 1)
                asked += 1
                return scene.comesAbout { scene.answeredCount == 90 + asked }
                    && scene.admittedCount == 90
            })
        #expect(scene.mostAdmitted == 90)
    }

    @Test("Redis emptied: nobody gets more until all have said again what they hold")
    func emptied() throws {
        let scene = try BudgetScene(.init(connections: 60, lease: BudgetScene.length))
        for id in nodes { try scene.start(id) }
        for id in nodes { scene.storm(id, 20) }
        #expect(scene.comesAbout { scene.admittedCount == 60 })
        scene.server.kill()
        try scene.server.start()
        for id in nodes { scene.storm(id, 40) }
        #expect(scene.comesAbout { scene.answeredCount == 180 }, "\(scene.answeredCount)")
        #expect(scene.admittedCount == 60 && scene.mostAdmitted == 60)
    }

    @Test("Redis away: the places at hand are given out and no more, and all is right afterwards")
    func away() throws {
        let scene = try BudgetScene(.init(connections: 300, lease: BudgetScene.length))
        for id in nodes { try scene.start(id) }
        for id in nodes { scene.storm(id, 20) }
        #expect(scene.comesAbout { scene.admittedCount == 60 })
        scene.server.pause()
        for id in nodes { scene.storm(id, 200) }
        #expect(scene.comesAbout { scene.answeredCount == 660 }, "\(scene.answeredCount)")
        #expect(scene.admittedCount <= 300 && scene.mostAdmitted <= 300)
        scene.server.resume()
        var asked = 0
        #expect(
            scene.comesAbout {
                scene.storm("c", 10)
                asked += 10
                return scene.comesAbout { scene.answeredCount == 660 + asked }
                    && scene.admittedCount == 300
            }, "\(scene.admittedCount)")
        #expect(scene.mostAdmitted == 300)
    }

    @Test("a principal has so many connections on all nodes together, another has its own")
    func principals() throws {
        let scene = try BudgetScene(.init(principalConnections: 5, lease: BudgetScene.length))
        for id in nodes { try scene.start(id) }
        for id in nodes { scene.storm(id, 4, as: "one") }
        #expect(scene.comesAbout { scene.answeredCount == 12 })
        #expect(scene.admittedCount == 5)
        for id in nodes { scene.storm(id, 1, as: "two") }
        #expect(scene.comesAbout { scene.answeredCount == 15 })
        #expect(scene.admittedCount == 8)
    }

    @Test("a rate that nobody uses is given back, and whoever comes next has it at once")
    func succession() throws {
        let scene = try BudgetScene(.init(lease: BudgetScene.length))
        let name = BudgetName(.eventRate, of: "one")
        let first = TestLever()
        first.want(1000)
        try scene.start("a", levers: [(name, 50, first)])
        #expect(scene.comesAbout { first.rate > 40_000 }, "\(first.rate)")
        // It goes, and another comes before anybody has been told.
        first.leave()
        let second = TestLever()
        second.want(1000)
        scene.share("a", name, 50, second)
        #expect(scene.comesAbout { second.rate > 40_000 }, "\(second.rate)")
        second.leave()
        #expect(scene.comesAbout { second.rate == 0 })
        let third = TestLever()
        third.want(1000)
        scene.share("a", name, 50, third)
        #expect(scene.comesAbout { third.rate > 40_000 }, "\(third.rate)")
    }

    @Test("a rate is shared by what the nodes need, and never more than all of it is in use")
    func rates() throws {
        let scene = try BudgetScene(.init(lease: BudgetScene.length))
        let levers = nodes.map { ($0, TestLever()) }
        for (id, lever) in levers {
            try scene.start(id, levers: [(BudgetName(.eventRate), 500, lever)])
        }
        func rates() -> [Int] {
            let rates = levers.map(\.1.rate)
            #expect(rates.reduce(0, +) <= 500_000, "\(rates)")
            return rates
        }
        levers[0].1.want(10_000)
        #expect(scene.comesAbout { rates()[0] > 480_000 }, "\(rates())")
        for (_, lever) in levers { lever.want(10_000) }
        #expect(scene.comesAbout { rates().allSatisfy { $0 > 165_000 } }, "\(rates())")
        levers[0].1.want(20)
        #expect(
            scene.comesAbout { rates()[1] > 230_000 && rates()[2] > 230_000 }, "\(rates())")
        scene.kill("b")
        #expect(scene.comesAbout { levers[2].1.rate > 470_000 }, "\(rates())")
    }
}
