// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import ClusterHarness
import Glibc
import PosixIO
import Testing

extension Cluster {
    /// Goal: whatever Redis loses while events are being written, no client misses one; they may see
    /// some again, and are told. Method: real servers, nodes and clients, and a producer that never
    /// pauses; the server dies with SIGKILL in the middle of it.
    @Suite("heals what Redis loses", .serialized)
    struct Healing {
        enum Fault: String, CaseIterable {
            /// Starts again with nothing.
            case emptied
            /// Starts again with a dump that is older than what was appended.
            case oldDump
            /// Starts again with its append-only file, written every second.
            case appendOnly
            /// A replica that is behind takes its place.
            case promoted

            var arguments: [String] {
                switch self {
                case .emptied, .oldDump, .promoted: []
                case .appendOnly: ["--appendonly", "yes", "--appendfsync", "everysec"]
                }
            }
        }

        /// Sends one command and reads the first line of the answer.
        private static func ask(_ port: UInt16, _ command: String) throws -> String {
            let socket = try StreamSocket.connect(to: .loopback(port: port))
            func isReady(_ events: CInt) -> Bool {
                var entry = pollfd(fd: socket.number, events: Int16(events), revents: 0)
                return unsafe poll(&entry, 1, 10_000) == 1
            }
            try #require(isReady(POLLOUT))
            let request = Array("\(command)\r\n".utf8)
            let sent = unsafe request.withUnsafeBytes {
                unsafe StreamSocket.write(socket.number, $0)
            }
            try #require(sent == .transferred(request.count) && isReady(POLLIN))
            var buffer = [UInt8](repeating: 0, count: 4096)
            let got = unsafe buffer.withUnsafeMutableBytes {
                unsafe StreamSocket.read(socket.number, into: $0)
            }
            guard case .transferred(let count) = got else { return "" }
            return String(decoding: buffer.prefix(count), as: UTF8.self)
        }

        @Test("no event is missed at any client while a producer writes", arguments: Fault.allCases)
        func whileWriting(_ fault: Fault) throws {
            let cluster = try TestCluster(nodes: 1, redisArguments: fault.arguments)
            let producer = try EventProducer(bootstrapServers: cluster.kafka.bootstrapServers)
            let clients = SubscriberSet(
                count: 10, path: Cluster.detections, targets: cluster.ports)
            try #require(
                clients.waitUntilStreaming(within: .seconds(20)), "\(cluster.diagnosis)")
            producer.startPace(perSecond: 200)
            try #require(
                clients.waitForEvents(100, within: .seconds(40)), "\(cluster.diagnosis)")
            let relay = try lose(fault, cluster, clients)
            let published = producer.count
            let isThere = clients.waitForNumbers(published + 200, within: .seconds(60))
            #expect(isThere, "\(fault): \(clients.progress) of \(producer.count)")
            try producer.stopPace()
            let isWhole = clients.waitForNumbers(producer.count, within: .seconds(60))
            #expect(isWhole, "\(fault): \(clients.progress) of \(producer.count)")
            let records = clients.stop()
            for record in records {
                #expect(record.streams == 1)
                let missing = (0..<UInt32(producer.count)).filter { !record.numbers.contains($0) }
                #expect(missing.isEmpty, "\(fault), \(record.name) misses \(missing.prefix(5))")
                // Repeats come under larger IDs, and never without a word.
                let repeats = record.receipts.count - record.numbers.count
                let isTold = record.complaints.contains { $0.contains("gap") }
                #expect(repeats == 0 || isTold, "\(fault), \(record.name): \(repeats) repeats")
            }
            if fault == .emptied || fault == .promoted {
                #expect(cluster.nodes[0].metric("rivulet_ingest_epochs_total") >= 1)
            }
            withExtendedLifetime(relay) {}
        }

        /// Lets the fault happen; what is returned has to live on.
        private func lose(_ fault: Fault, _ cluster: TestCluster, _ clients: SubscriberSet) throws
            -> (RedisServerProcess, LoopbackRelay)?
        {
            let redis = cluster.redis
            switch fault {
            case .emptied, .appendOnly: try redis.restart()
            case .oldDump:
                #expect(try Self.ask(redis.port, "SAVE").hasPrefix("+OK"))
                let before = clients.progress.fewestEvents
                try #require(clients.waitForEvents(before + 100, within: .seconds(40)))
                try redis.restart()
            case .promoted:
                let replica = try RedisServerProcess(
                    arguments: ["--replicaof", redis.host, "\(redis.port)"])
                let follows = Waiting.until(within: .seconds(20)) {
                    ((try? Self.ask(replica.port, "INFO replication")) ?? "")
                        .contains("master_link_status:up")
                }
                try #require(follows)
                // It falls behind, and the primary dies.
                replica.pause()
                let before = clients.progress.fewestEvents
                try #require(clients.waitForEvents(before + 100, within: .seconds(40)))
                redis.kill()
                replica.resume()
                #expect(try Self.ask(replica.port, "REPLICAOF NO ONE").hasPrefix("+OK"))
                return (replica, try LoopbackRelay(from: redis.port, to: replica.port))
            }
            return nil
        }
    }
}
