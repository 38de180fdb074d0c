// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import Coordination

/// Nodes that ask their clients to move, and a balancer that puts those somewhere.
private struct RelevelledCluster {
    enum Balancer { case leastConnections, atRandom, backToTheSame }

    var now = MonotonicTime(nanoseconds: 1_000_000_000)
    var connections: [String: Int]
    var limits: [String: Int] = [:]
    var incarnation = "1"
    var machines: [String: Relevelling] = [:]
    var balancer = Balancer.leastConnections
    var random: UInt64 = 7
    /// What each node's lease says: older than the truth.
    var reported: [String: Int] = [:]
    var moved = 0
    /// The most that a node asked to move within a second.
    var mostInASecond = 0

    static let settings = Relevelling.Settings(
        rate: 50, tolerance: 0.1, arrival: .milliseconds(1500))

    init(_ connections: [String: Int]) {
        self.connections = connections
        for node in connections.keys { machines[node] = Relevelling(Self.settings) }
        reported = connections
        // Everybody has seen everybody for a while.
        run(.seconds(20))
        moved = 0
    }

    mutating func add(_ node: String) {
        connections[node] = 0
        machines[node] = Relevelling(Self.settings)
    }

    private var loads: [String: Relevelling.Load] {
        var loads: [String: Relevelling.Load] = [:]
        for node in connections.keys {
            loads[node] = .init(
                incarnation: incarnation, connections: reported[node] ?? 0,
                limit: limits[node] ?? 20_000)
        }
        return loads
    }

    private mutating func place() {
        let nodes = connections.keys.sorted()
        let least = nodes.min { connections[$0]! < connections[$1]! }!
        switch balancer {
        case .leastConnections: connections[least]! += 1
        case .atRandom:
            // Knuth's MMIX: the same course at each run.
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            connections[nodes[Int(random >> 33) % nodes.count]]! += 1
        case .backToTheSame: connections[nodes.max { connections[$0]! < connections[$1]! }!]! += 1
        }
    }

    mutating func run(_ span: Duration) {
        let end = now + span
        var recent: [String: [Int]] = [:]
        while now < end {
            now = now + .milliseconds(500)
            let loads = loads
            reported = connections
            var moving = 0
            for node in connections.keys.sorted() {
                let count = machines[node]!.step(
                    loads, node: node, connections: connections[node]!, at: now)
                connections[node]! -= count
                moving += count
                recent[node, default: []].append(count)
                mostInASecond = max(mostInASecond, recent[node]!.suffix(2).reduce(0, +))
            }
            moved += moving
            for _ in 0..<moving { place() }
        }
    }
}

@Suite("Re-levelling")
struct RelevellingTests {
    @Test("moves nobody while nobody has joined, however uneven it is")
    func quiet() {
        var cluster = RelevelledCluster(["a": 3000, "b": 1000])
        cluster.run(.seconds(60))
        // A node's first cluster is a change too: these two have just seen each other, and level.
        let settled = cluster.connections
        cluster.connections = ["a": 3000, "b": 1000]
        cluster.moved = 0
        cluster.run(.seconds(60))
        #expect(cluster.moved == 0, "\(settled)")
    }

    @Test("levels the connections after a node has joined, at its rate, and ends")
    func joins() {
        var cluster = RelevelledCluster(["a": 1500, "b": 1500])
        cluster.add("c")
        cluster.run(.seconds(4))
        #expect(cluster.moved == 0, "the cluster has to be calm first")
        cluster.run(.seconds(60))
        for (node, count) in cluster.connections {
            #expect(abs(count - 1000) <= 100, "\(node) has \(count)")
        }
        #expect(cluster.mostInASecond <= 50)
        #expect(cluster.mostInASecond > 40, "it does make use of its rate")
        let moved = cluster.moved
        cluster.run(.seconds(60))
        #expect(cluster.moved == moved, "it has ended")
        #expect(moved < 1500, "\(moved) moves")
    }

    @Test("gives a node with a smaller limit a smaller share")
    func limits() {
        var cluster = RelevelledCluster(["a": 1200, "b": 1200])
        cluster.limits = ["c": 10_000]
        cluster.add("c")
        cluster.run(.seconds(90))
        #expect(abs(cluster.connections["c"]! - 480) <= 100, "\(cluster.connections)")
    }

    @Test(
        "ends whatever the balancer does",
        arguments: [RelevelledCluster.Balancer.atRandom, .backToTheSame])
    fileprivate func ends(balancer: RelevelledCluster.Balancer) {
        var cluster = RelevelledCluster(["a": 1500, "b": 1500])
        cluster.balancer = balancer
        cluster.add("c")
        cluster.run(.seconds(300))
        let moved = cluster.moved
        #expect(moved <= 2000, "twice of what was too many: \(moved)")
        cluster.run(.seconds(300))
        #expect(cluster.moved == moved)
    }

    @Test("does nothing while a node joins or drains, or leases cannot be read")
    func unsettled() {
        func view(_ states: [NodeReport.State], isStale: Bool = false) -> ClusterView {
            var view = ClusterView()
            view.nodeID = "0"
            view.standing = .member
            view.isStale = isStale
            view.members = states.enumerated().map { index, state in
                MemberView(
                    id: "\(index)", incarnation: "1", isAlive: true,
                    report: NodeReport(
                        state: state, address: "", version: "", started: 0, connections: 7,
                        connectionsMax: 10), ends: MonotonicTime(nanoseconds: 0))
            }
            return view
        }
        #expect(Relevelling.loads(of: view([.up, .up])).count == 2)
        #expect(Relevelling.loads(of: view([.up, .draining])).isEmpty)
        #expect(Relevelling.loads(of: view([.up, .joining])).isEmpty)
        #expect(Relevelling.loads(of: view([.up, .up], isStale: true)).isEmpty)
    }
}
