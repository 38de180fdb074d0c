// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import KafkaClient
import Observability
import Testing

@testable import History

@Suite("Ingest of orphans", .timeLimit(.minutes(2)))
struct OrphanIngestTests {
    private func orphans(_ scene: IngestScene, _ partitions: Int32...) -> Set<TopicPartition> {
        Set(partitions.map { TopicPartition(scene.topic, $0) })
    }

    /// Goal: partitions are read without a group, from where history ends, and given up again.
    @Test("reads what it is told to, from the high-water offset on, and nothing else")
    func readsWhatItIsTold() async throws {
        let scene = try IngestScene(partitions: 3)
        for partition: Int32 in 0..<3 { try scene.write(0..<100, to: partition) }
        scene.flush()
        // Somebody had appended half of partition 1 before.
        _ = try scene.link.append(scene.batch(partition: 1, 0..<50), scene.keys)
        var options = IngestBench.Options()
        options.joinsGroup = false
        let bench = try IngestBench(scene, options)
        bench.read(orphans: orphans(scene, 0, 1))
        try await scene.awaitHistory(through: 99, of: 0..<2)
        #expect(bench.metrics.duplicates.value == 0, "what was there is not read again")
        #expect(bench.metrics.events.value == 150)

        bench.read(orphans: orphans(scene, 1, 2))
        try await scene.awaitHistory(through: 99, of: 2..<3)
        #expect(try await comesAbout { bench.partitionCount == 2 })
        for partition: Int32 in 0..<3 { try scene.write(100..<200, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 199, of: 1..<3)
        #expect(try scene.highWater(0) == 99, "partition 0 was given up")

        bench.read(orphans: orphans(scene, 0))
        try await scene.awaitHistory(through: 199, of: 0..<1)
        try scene.expectExactlyOnce(200, of: 0..<3)
        bench.read(orphans: [])
        #expect(try await comesAbout { bench.partitionCount == 0 })
        try await bench.stop()
    }

    /// Goal: a reader of orphans and the owner that comes after it leave one copy. Method: both
    /// read the same partitions the whole time.
    @Test("beside an owner that has come back leaves one copy of each event")
    func besideAnOwner() async throws {
        let scene = try IngestScene(partitions: 2)
        var options = IngestBench.Options()
        options.joinsGroup = false
        options.batchEvents = 17
        let survivor = try IngestBench(scene, options)
        let owner = try IngestBench(scene)
        #expect(try await comesAbout { owner.partitionCount == 2 })
        survivor.read(orphans: orphans(scene, 0, 1))
        for partition: Int32 in 0..<2 { try scene.write(0..<2000, to: partition) }
        scene.flush()
        try await scene.awaitHistory(through: 1999, of: 0..<2)
        try scene.expectExactlyOnce(2000, of: 0..<2)
        #expect(survivor.metrics.events.value + owner.metrics.events.value >= 4000)
        for bench in [survivor, owner] { try await bench.stop() }
    }
}

extension IngestScene {
    /// A batch of the records that ``write(_:to:)`` writes.
    func batch(partition: Int32, _ offsets: Range<Int64>) -> AppendRequest {
        var ingest = PartitionIngest(
            topic: topic, partition: partition, highWater: -1,
            limits: .init(batchEvents: .max, batchBytes: .max))
        for offset in offsets { ingest.collect(offset, content(topic, partition, offset)) }
        return ingest.takeBatch()!
    }
}
