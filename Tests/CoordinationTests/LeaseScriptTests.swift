// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Glibc
import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import Coordination

/// Members on one loop, before a redis-server of their own.
final class LeaseScene: Sendable {
    let server: RedisServerProcess
    let loop: EventLoop
    private let views = Lock<[String: ClusterView]>([:])
    private let parts = Lock<[String: LoopBound<Parts>]>([:])

    struct Parts {
        let connection: RedisConnection
        let member: ClusterMember
    }

    init() throws {
        server = try RedisServerProcess()
        loop = try EventLoop(name: "cluster")
        loop.start()
    }

    deinit {
        let parts = parts.withLock { $0 }
        loop.post {
            for part in parts.values {
                part.value.member.stop()
                part.value.connection.stop()
            }
        }
        loop.stop()
        _ = loop.join(within: .seconds(10))
    }

    /// - Parameter name: What the test calls it; another may have the same `id`.
    func start(_ name: String, id: String, reading: [TopicPartition] = []) throws {
        let made: LoopBound<Parts>? = loop.answer { [self] in
            var settings = RedisSettings(address: .unix(path: server.socketPath))
            settings.reconnectDelayMax = .milliseconds(50)
            let log = Logger("test", sink: { _ in })
            let connection = RedisConnection(
                loop: loop, settings: settings, purpose: "cluster",
                scripts: [LeaseScripts.renew, LeaseScripts.leave], log: log)
            let member = ClusterMember(
                loop: loop, connection: connection, keys: ClusterKeys(prefix: "t"), nodeID: id,
                settings: LeaseSettings(renewal: .milliseconds(50), length: .milliseconds(400)),
                metrics: ClusterMetrics(in: MetricsRegistry()), log: log,
                report: {
                    NodeReport(
                        state: .up, address: "\(name):1", version: "1", started: 1,
                        partitions: reading)
                },
                onView: { [weak self] view in self?.views.withLock { $0[name] = view } })
            connection.onStateChange = { if $0 == .ready { member.renewSoon() } }
            connection.start()
            member.start()
            return LoopBound(Parts(connection: connection, member: member), on: loop)
        }
        let part = try #require(made)
        parts.withLock { $0[name] = part }
    }

    /// Ends it without a word.
    func kill(_ name: String) {
        guard let part = parts.withLock({ $0.removeValue(forKey: name) }) else { return }
        loop.answer {
            part.value.member.stop()
            part.value.connection.stop()
        }
    }

    func leave(_ name: String) {
        guard let part = parts.withLock({ $0.removeValue(forKey: name) }) else { return }
        loop.answer { part.value.member.leave { part.value.connection.stop() } }
    }

    func view(_ name: String) -> ClusterView { views.withLock { $0[name] } ?? ClusterView() }

    func states(_ name: String) -> [String: String] {
        Dictionary(view(name).members.map { ($0.id, $0.stateWord) }) { $1 }
    }

    func comesAbout(_ condition: () -> Bool) -> Bool {
        let deadline = MonotonicTime.now + .seconds(30)
        while !condition() {
            guard MonotonicTime.now < deadline else { return false }
            _ = poll(nil, 0, 2)
        }
        return true
    }
}

@Suite("Leases in Redis", .timeLimit(.minutes(2)))
struct LeaseScriptTests {
    private let partitions = [TopicPartition("t", 0), TopicPartition("t", 1)]

    @Test("all see all, a death with what it read, and a leave as one")
    func lifeAndDeath() throws {
        let scene = try LeaseScene()
        for id in ["a", "b", "c"] {
            try scene.start(id, id: id, reading: id == "b" ? partitions : [])
        }
        let up = ["a": "up", "b": "up", "c": "up"]
        #expect(
            scene.comesAbout { ["a", "b", "c"].allSatisfy { scene.states($0) == up } },
            "\(scene.states("a"))")
        scene.leave("c")
        #expect(scene.comesAbout { scene.states("a") == ["a": "up", "b": "up"] })
        scene.kill("b")
        #expect(scene.comesAbout { scene.states("a")["b"] == "unreachable" })
        let dead = try #require(scene.view("a").members.first { $0.id == "b" })
        #expect(dead.report.partitions == partitions)
        #expect(
            OrphanPlan.orphans(of: scene.view("a"), readBy: "a", reading: []) == Set(partitions))
    }

    @Test("a second process of one name is refused until the lease of the first has ended")
    func twoOfOneName() throws {
        let scene = try LeaseScene()
        try scene.start("watcher", id: "a")
        try scene.start("first", id: "b", reading: partitions)
        #expect(scene.comesAbout { scene.states("watcher")["b"] == "up" })
        try scene.start("second", id: "b")
        let holder = try #require(
            scene.view("watcher").members.first { $0.id == "b" }?.incarnation)
        #expect(scene.comesAbout { scene.view("second").standing == .refused(holder: holder) })
        #expect(scene.view("first").standing == .member)
        scene.kill("first")
        #expect(scene.comesAbout { scene.view("second").standing == .member })
        // What the first read is not forgotten with its name.
        #expect(
            scene.comesAbout {
                OrphanPlan.orphans(of: scene.view("watcher"), readBy: "a", reading: [])?.isEmpty
                    == false
            }, "\(scene.states("watcher"))")
        let all = ["a", "b"].compactMap {
            OrphanPlan.orphans(of: scene.view("watcher"), readBy: $0, reading: [])
        }
        #expect(all.reduce(into: Set()) { $0.formUnion($1) } == Set(partitions))
    }

    @Test("Redis away: the last view stays and is marked; back again nobody is taken for dead")
    func redisAway() throws {
        let scene = try LeaseScene()
        for id in ["a", "b"] { try scene.start(id, id: id) }
        #expect(scene.comesAbout { scene.states("a") == ["a": "up", "b": "up"] })
        scene.server.kill()
        #expect(scene.comesAbout { scene.view("a").isStale })
        #expect(scene.states("a") == ["a": "up", "b": "up"])
        try scene.server.start()
        #expect(scene.comesAbout { !scene.view("a").isStale && !scene.view("b").isStale })
        #expect(scene.comesAbout { scene.states("a") == ["a": "up", "b": "up"] })
    }
}
