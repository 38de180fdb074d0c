// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import BrokerTestKit
import EventStreamWire
import Glibc
import PosixIO
import RedisClient
import Testing

@testable import History

/// A way in which Redis loses what it had confirmed.
enum RedisFault: String, CaseIterable, Sendable {
    /// The primary dies and a replica that is behind is promoted.
    case failover
    /// It starts again with nothing.
    case restartedEmpty
    /// It starts again with what its append-only file had.
    case restartedWithLog
    /// It starts again with a dump of some time before.
    case restartedWithDump
    case flushed
}

@Suite("Healing what Redis has lost", .serialized, .timeLimit(.minutes(3)))
struct HealingTests {
    /// What a client has that does as it is told: what it got after the `from` of a gap for lost
    /// history it gives up, because that comes again.
    private func kept(_ received: [Received]) throws -> [Received] {
        var kept: [Received] = []
        for message in received {
            if message.isGap {
                let gap = try message.gap()
                #expect(gap.reason == .historyLost)
                kept.removeAll { $0.id > gap.from }
            } else {
                kept.append(message)
            }
        }
        return kept
    }

    private func lose(_ fault: RedisFault, _ scene: IngestScene, _ replica: RedisServerProcess?)
        async throws
    {
        switch fault {
        case .failover:
            let replica = try #require(replica)
            scene.server.kill()
            replica.resume()
            // The same address leads to the other server from here on.
            let renamed = unsafe rename(replica.socketPath, scene.server.socketPath)
            try #require(renamed == 0)
            try scene.link.becomeReady()
            _ = try scene.link.send(RedisCommand("REPLICAOF").add("NO").add("ONE"))
        case .restartedEmpty, .restartedWithLog, .restartedWithDump:
            try scene.server.restart()
            try scene.link.becomeReady()
        case .flushed: _ = try scene.link.send(RedisCommand("FLUSHALL"))
        }
    }

    private func arguments(_ fault: RedisFault) -> [String] {
        fault == .restartedWithLog ? ["--appendonly", "yes", "--appendfsync", "everysec"] : []
    }

    /// Goal: no client misses an event, and no ID is given twice, whatever Redis loses. Method: a
    /// node's ingest and two nodes' tails; the fault comes while records are written, after some
    /// that a replica or a dump does not have. Nothing is written after it until the loss is
    /// healed, so it has to be found by a cluster that is idle.
    @Test("leaves no hole and repeats no ID", arguments: RedisFault.allCases)
    func heals(_ fault: RedisFault) async throws {
        let scene = try IngestScene(partitions: 2, redis: arguments(fault))
        var replica: RedisServerProcess?
        if fault == .failover {
            let server = try RedisServerProcess(
                arguments: ["--replicaof", "127.0.0.1", "\(scene.server.port)"])
            let link = try RedisLink(server)
            #expect(
                try await comesAbout {
                    try link.send(RedisCommand("INFO").add("replication")).text
                        .contains("master_link_status:up")
                })
            replica = server
        }
        let benches = [
            try TailBench(scene.server, scene.keys), try TailBench(scene.server, scene.keys),
        ]
        #expect(try await comesAbout { benches.allSatisfy(\.hasBegun) })
        let ingest = try IngestBench(scene)
        for partition: Int32 in 0..<2 { try scene.write(0..<150, to: partition) }
        try await scene.awaitHistory(through: 149, of: 0..<2)
        if fault == .failover {
            #expect(try await replicaHas(149, try #require(replica), scene))
            replica?.pause()
        } else if fault == .restartedWithDump {
            _ = try scene.link.send(RedisCommand("SAVE"))
        }
        for partition: Int32 in 0..<2 { try scene.write(150..<300, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 299, of: 0..<2)
        #expect(try await comesAbout { benches.allSatisfy { $0.count >= 600 } })

        try await lose(fault, scene, replica)
        try await scene.awaitHistory(through: 299, of: 0..<2)
        for partition: Int32 in 0..<2 { try scene.write(300..<400, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 399, of: 0..<2)
        try scene.expectExactlyOnce(400, of: 0..<2)

        let history = try scene.link.history(scene.keys).flatMap(\.received)
        for bench in benches {
            #expect(
                try await comesAbout { bench.received.last?.id == history.last?.id })
            let received = bench.received
            #expect(try kept(received) == history)
            let ids = received.map(\.id)
            #expect(ids == ids.sorted() && Set(ids).count == ids.count, "IDs ascend, each once")
        }
        try await ingest.stop()
    }

    private func replicaHas(_ mark: Int64, _ replica: RedisServerProcess, _ scene: IngestScene)
        async throws -> Bool
    {
        let link = try RedisLink(replica)
        return try await comesAbout {
            try (0..<2).allSatisfy {
                try link.highWater(scene.topic, Int32($0), scene.keys) == "\(mark)"
            }
        }
    }
}
