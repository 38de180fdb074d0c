// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO
import Testing

extension Cluster {
    /// Goal: a limit of the cluster is exact on all nodes together, in storms and over kills. By
    /// default a small cluster; CLUSTER_STORM=20000 makes so many attempts in a second against a
    /// quarter as many places, and ten kills, and prints how long things took.
    @Suite("keeps limits", .serialized)
    struct Limits {
        private static let long = unsafe getenv("CLUSTER_STORM").flatMap {
            unsafe Int(String(cString: $0))
        }
        private let attempts = long ?? 1200
        private var places: Int { attempts / 4 }
        private let kills = long == nil ? 2 : 10

        private func tell(_ text: String) {
            if Self.long != nil { print("limits: \(text)") }
        }

        private func connections(_ port: UInt16, _ field: String) -> Int? {
            let page = try? LoopbackHTTP.get("/cluster", port: port, within: .seconds(5))
            let parts = page?.text.split(separator: "\"limits\":{\"connections\":{", maxSplits: 1)
            let value = parts?.last?.split(separator: "\"\(field)\":", maxSplits: 1).last
            return value.flatMap { Int($0.prefix { $0.isNumber }) }
        }

        @Test("of connections: a storm fills it exactly, and a dead node's share comes back")
        func storm() throws {
            let cluster = try TestCluster(
                nodes: 3,
                settings: [
                    "limits.cluster_connections": "\(places)", "kafka.session_timeout": "60s",
                ])
            let storm = ConnectionStorm(path: Cluster.detections)
            // Before the nodes know each other for the length of a lease, everybody waits, and this
            // process has no more descriptors than it wants to make attempts.
            storm.attempt(1, at: cluster.ports)
            try #require(Waiting.until(within: .seconds(30)) { storm.tally.open == 1 })
            let began = MonotonicTime.now
            storm.attempt(attempts - 1, at: cluster.ports, over: .seconds(1))
            try #require(
                Waiting.until(within: .seconds(60)) { storm.tally.areAllAnswered },
                "\(storm.tally)\n\(cluster.diagnosis)")
            let first = storm.tally
            tell(
                "\(attempts) attempts, \(first.admitted) admitted, answered within "
                    + "\((MonotonicTime.now - began).inSeconds) s: \(first.refused), \(first.lost) lost"
            )
            #expect(first.admitted == places, "\(first)\n\(cluster.diagnosis)")
            #expect(first.refused == [503: attempts - places], "\(first)")
            #expect(first.lastRefusal.contains("Retry-After: "))
            #expect(
                first.lastRefusal.contains(
                    "\"limit\":\"limits.cluster_connections\",\"maximum\":\(places)"),
                "\(first.lastRefusal)")
            for round in 1...kills {
                // In turn; a node that nobody has come to since it came back is passed over.
                let open = storm.tally.openAt
                let turn = (0..<3).map { cluster.nodes[(round + $0) % 3] }
                let victim = try #require(turn.first { open[$0.port, default: 0] > 0 })
                let others = cluster.ports.filter { $0 != victim.port }
                let killed = MonotonicTime.now
                victim.kill()
                #expect(Waiting.until(within: .seconds(20)) { storm.tally.open < places })
                let left = storm.tally.open
                var firstBack: Duration?
                let isFull = Waiting.until(within: .seconds(30)) {
                    if storm.tally.areAllAnswered {
                        storm.attempt(min(500, places / 4), at: others)
                    }
                    if firstBack == nil, storm.tally.open > left { firstBack = .now - killed }
                    return storm.tally.open == places
                }
                let took = MonotonicTime.now - killed
                #expect(isFull, "kill \(round): \(storm.tally)\n\(cluster.diagnosis)")
                tell(
                    "kill \(round) of \(victim.id): \(places - left) places, the first again after "
                        + "\(firstBack?.inSeconds ?? 0) s, all after \(took.inSeconds) s")
                victim.start()
                try victim.waitUntilReady()
            }
            _ = Waiting.until(within: .seconds(20)) { storm.tally.areAllAnswered }
            #expect(storm.tally.mostOpen == places, "\(storm.tally)")
            let isRight = Waiting.until(within: .seconds(20)) {
                cluster.ports.allSatisfy { connections($0, "held") == places }
            }
            #expect(isRight, "\(cluster.ports.map { connections($0, "held") ?? -1 })")
            // Who leaves makes room, wherever the next one comes.
            storm.close(places / 2)
            let isRefilled = Waiting.until(within: .seconds(20)) {
                let tally = storm.tally
                if tally.areAllAnswered { storm.attempt(places / 8, at: [cluster.ports[0]]) }
                return tally.open == places
            }
            #expect(isRefilled, "\(storm.tally)")
            #expect(storm.tally.mostOpen == places, "\(storm.tally)")
        }

        @Test("of one client: 429 beyond it, on all nodes together")
        func principal() throws {
            let cluster = try TestCluster(
                nodes: 2,
                settings: [
                    "limits.principal_connections": "5", "server.trusted_proxies": "127.0.0.1",
                ])
            let storm = ConnectionStorm(path: Cluster.detections)
            storm.attempt(12, at: cluster.ports)
            try #require(
                Waiting.until(within: .seconds(30)) { storm.tally.areAllAnswered },
                "\(storm.tally)")
            #expect(storm.tally.admitted == 5 && storm.tally.refused == [429: 7], "\(storm.tally)")
            #expect(storm.tally.lastRefusal.contains("limits.principal_connections"))
        }

        /// Goal: a rate of the cluster holds over any two seconds, on all nodes together.
        @Test("of events a second, whatever becomes of the others", arguments: ["shed", "delay"])
        func rate(_ policy: String) throws {
            let limit = 500
            let seconds = Self.long == nil ? 3 : 15
            let cluster = try TestCluster(
                nodes: 3,
                settings: [
                    "limits.cluster_events_per_second": "\(limit)", "limits.on_limit": policy,
                ])
            let clients = SubscriberSet(
                count: Self.long == nil ? 60 : 300, path: Cluster.detections, targets: cluster.ports
            )
            try #require(clients.waitUntilStreaming(within: .seconds(30)), "\(cluster.diagnosis)")
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            producer.startPace(perSecond: 50)
            // From here on every node has its part.
            try #require(
                Waiting.until(within: .seconds(60)) { clients.progress.totalEvents > limit * 3 },
                "\(clients.progress)\n\(cluster.diagnosis)")
            let from = MonotonicTime.now
            _ = Waiting.until(within: .seconds(seconds)) { false }
            let to = MonotonicTime.now
            try producer.stopPace()
            let arrivals = clients.timeline.filter { $0.at >= from && $0.at <= to }
            let span = try #require(arrivals.last).at - arrivals[0].at
            let count = arrivals[arrivals.count - 1].count - arrivals[0].count
            // One burst of each node may lie at its end.
            let most = (span.inSeconds + 0.2) * Double(limit)
            #expect(Double(count) <= most, "\(count) in \(span)")
            #expect(count > limit / 2, "\(count) in \(span)")
            if Self.long != nil { tellRates(arrivals, limit, policy) }
            let records = clients.stop()
            // Fair: nobody is left out.
            #expect(records.allSatisfy { !$0.receipts.isEmpty })
            for record in records {
                let ids = record.receipts.map(\.id)
                #expect(zip(ids, ids.dropFirst()).allSatisfy { $0 < $1 }, "\(record.name)")
            }
            let told = records.reduce(0) {
                $0 + $1.complaints.count { $0.hasPrefix("rate_limited") }
            }
            #expect(policy == "shed" ? told > 0 : told == 0)
            let (matched, sent, shed) = (
                sum(cluster, "rivulet_rate_matched_events_total"),
                sum(cluster, "rivulet_rate_sent_events_total"),
                sum(cluster, "rivulet_rate_shed_events_total")
            )
            #expect(matched >= sent + shed && sent > 0)
            if policy == "shed" { #expect(matched == sent + shed) }
        }

        private func sum(_ cluster: TestCluster, _ metric: String) -> Int {
            Int(cluster.nodes.reduce(0) { $0 + $1.metric(metric) })
        }

        private func tellRates(
            _ arrivals: [SubscriberSet.Arrivals], _ limit: Int, _ policy: String
        ) {
            var rates: [Double] = []
            var end = 0
            for start in arrivals.indices {
                let until = arrivals[start].at + .seconds(2)
                while end < arrivals.count, arrivals[end].at < until { end += 1 }
                guard end < arrivals.count else { break }
                let before = start == 0 ? arrivals[0].count : arrivals[start - 1].count
                rates.append(Double(arrivals[end - 1].count - before) / 2)
            }
            rates.sort()
            tell(
                "\(policy): over any 2 s \(rates.first ?? 0) to \(rates.last ?? 0) events/s, median "
                    + "\(rates.isEmpty ? 0 : rates[rates.count / 2]), limit \(limit)")
        }
    }
}
