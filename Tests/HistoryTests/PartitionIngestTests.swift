// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@testable import History

@Suite("Ingest of one partition")
struct PartitionIngestTests {
    private func ingest(
        highWater: Int64 = -1, batchEvents: Int = 100, batchBytes: Int = 10_000
    ) -> PartitionIngest {
        PartitionIngest(
            topic: "t", partition: 3, highWater: highWater,
            limits: .init(batchEvents: batchEvents, batchBytes: batchBytes))
    }

    private func appended(_ request: AppendRequest) -> AppendOutcome {
        .appended(lastMilliseconds: 1, lastSequence: UInt64(request.count))
    }

    @Test("one event goes at once; what comes while it is under way makes the next batch")
    func adapts() throws {
        var ingest = ingest()
        ingest.collect(0, bytes("{}"))
        let first = try ingest.nextBatch()
        #expect((first.base, first.last, first.count) == (0, 0, 1))
        #expect(first.expectedHighWater == -1)
        #expect((first.topic, first.partition) == ("t", 3))
        for offset in 1...5 { ingest.collect(Int64(offset), bytes("{\"o\":\(offset)}")) }
        #expect(ingest.takeBatch() == nil)
        #expect(ingest.finished(appended(first)) == .stored(nextOffset: 1))
        let second = try ingest.nextBatch()
        #expect((second.base, second.last, second.count) == (1, 5, 5))
        #expect(second.expectedHighWater == 0)
        #expect(second.sparseOffsets.isEmpty)
        #expect(try second.events.map(\.offset) == [1, 2, 3, 4, 5])
        #expect(ingest.finished(appended(second)) == .stored(nextOffset: 6))
        #expect(ingest.takeBatch() == nil)
        #expect(ingest.heldBytes == 0)
    }

    @Test("a batch ends at its number of events, and at its bytes with keys and headers counted")
    func limits() throws {
        var byCount = ingest(batchEvents: 3)
        for offset in 0..<8 { byCount.collect(Int64(offset), bytes("{}")) }
        #expect(try sizes(&byCount) == [3, 3, 2])

        var byBytes = ingest(batchBytes: 1000)
        for offset in 0..<6 {
            byBytes.collect(Int64(offset), [UInt8](repeating: 120, count: 300), key: [1, 2])
        }
        let batches = try drained(&byBytes)
        #expect(batches.map(\.count) == [3, 3])
        #expect(batches.allSatisfy { $0.bytes.count <= 1000 })

        var byHeaders = ingest(batchBytes: 1000)
        let headers = [(name: bytes("trace"), value: [UInt8](repeating: 7, count: 300))]
        for offset in 0..<6 {
            let value = bytes("{}")
            byHeaders.collect(
                offset: Int64(offset), timestamp: 0, key: value.span, hasKey: true,
                headers: headers, value: value.span)
        }
        let withHeaders = try drained(&byHeaders)
        #expect(withHeaders.map(\.count) == [3, 3])
        #expect(withHeaders.allSatisfy { $0.bytes.count <= 1000 })
    }

    @Test("an event larger than a batch may be goes alone")
    func oversized() throws {
        var ingest = ingest(batchBytes: 100)
        ingest.collect(0, bytes("{}"))
        ingest.collect(1, [UInt8](repeating: 120, count: 5000))
        ingest.collect(2, bytes("{}"))
        #expect(try sizes(&ingest) == [1, 1, 1])
    }

    @Test("holes in the offsets are kept as they are")
    func sparse() throws {
        var ingest = ingest(highWater: 9)
        for offset: Int64 in [12, 13, 20, 21, 500] { ingest.collect(offset, bytes("{}")) }
        ingest.judge(low: 0)
        let request = try ingest.nextBatch()
        #expect((request.base, request.last, request.count) == (12, 500, 5))
        #expect(try request.events.map(\.offset) == [12, 13, 20, 21, 500])
        var reader = ByteReader(request.sparseOffsets.span)
        var offset = request.base
        var offsets: [Int64] = []
        while !reader.isAtEnd {
            offset += Int64(try reader.readVarint())
            offsets.append(offset)
        }
        #expect(offsets == [12, 13, 20, 21, 500])
    }

    @Test("a record that was read before is not new")
    func old() {
        var ingest = ingest(highWater: 9)
        #expect(!ingest.isNew(9))
        #expect(ingest.isNew(10))
        ingest.collect(12, bytes("{}"))
        #expect(!ingest.isNew(11))
        #expect(!ingest.isNew(12))
        #expect(ingest.isNew(13))
    }

    @Test("tombstones are accounted for: a batch of nothing else moves the mark alone")
    func tombstones() throws {
        var ingest = ingest()
        for offset: Int64 in 0..<4 { ingest.skip(offset: offset, awaitingDeadLetter: false) }
        let empty = try ingest.nextBatch()
        #expect((empty.base, empty.last, empty.count) == (0, 3, 0))
        #expect(try empty.events.isEmpty)
        #expect(ingest.finished(appended(empty)) == .stored(nextOffset: 4))

        ingest.skip(offset: 4, awaitingDeadLetter: false)
        ingest.collect(5, bytes("{}"))
        ingest.skip(offset: 6, awaitingDeadLetter: false)
        ingest.collect(7, bytes("{}"))
        ingest.skip(offset: 8, awaitingDeadLetter: false)
        let mixed = try ingest.nextBatch()
        #expect((mixed.base, mixed.last, mixed.count) == (4, 8, 2))
        #expect(!mixed.sparseOffsets.isEmpty)
        #expect(try mixed.events.map(\.offset) == [5, 7])
        #expect(ingest.finished(appended(mixed)) == .stored(nextOffset: 9))
    }

    @Test("nothing passes a dead letter whose delivery is not confirmed")
    func deadLetters() throws {
        var ingest = ingest()
        ingest.collect(0, bytes("{}"))
        ingest.skip(offset: 1, awaitingDeadLetter: true)
        ingest.collect(2, bytes("{}"))
        ingest.skip(offset: 3, awaitingDeadLetter: true)
        #expect(ingest.takeBatch() == nil)
        ingest.deadLetterSettled()
        #expect(ingest.deadLettersOutstanding == 1)
        #expect(ingest.takeBatch() == nil)
        ingest.deadLetterSettled()
        let request = try ingest.nextBatch()
        #expect((request.base, request.last, request.count) == (0, 3, 2))
    }

    @Test("a dead letter from before a restart still counts when its answer comes, and only once")
    func deadLetterOverRestart() {
        var ingest = ingest()
        ingest.skip(offset: 0, awaitingDeadLetter: true)
        ingest.restart(at: 0, highWater: -1)
        ingest.skip(offset: 0, awaitingDeadLetter: true)
        ingest.deadLetterSettled()
        #expect(ingest.takeBatch() == nil)
        ingest.deadLetterSettled()
        #expect(ingest.takeBatch()?.last == 0)
    }

    /// Goal: what is left of a batch after an overlap is what a fresh ingest from the mark would
    /// have sent, byte for byte. Method: random holes, skips, keys and headers; every mark.
    @Test("an overlap is cut exactly", arguments: 0..<30 as Range<UInt64>)
    func overlap(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        var whole = ingest(batchEvents: 1000, batchBytes: 1 << 20)
        var kept: [(Int64, [UInt8]?, [(name: [UInt8], value: [UInt8])], [UInt8])] = []
        var offset: Int64 = 5
        var skipped: Set<Int64> = []
        for _ in 0..<20 {
            offset += Int64.random(in: 1...3, using: &random) > 1 ? 1 : 4
            if Int.random(in: 0..<5, using: &random) == 0 {
                whole.skip(offset: offset, awaitingDeadLetter: false)
                skipped.insert(offset)
                continue
            }
            let key: [UInt8]? = Bool.random(using: &random) ? bytes("k\(offset)") : nil
            let headers =
                Bool.random(using: &random) ? [(name: bytes("h"), value: bytes("v\(offset)"))] : []
            let value = content("t", 3, offset)
            let keyBytes = key ?? []
            whole.collect(
                offset: offset, timestamp: offset * 7, key: keyBytes.span, hasKey: key != nil,
                headers: headers, value: value.span)
            kept.append((offset, key, headers, value))
        }
        whole.judge(low: 0)
        let sent = try whole.nextBatch()
        for mark in sent.base..<sent.last {
            var copy = whole
            #expect(copy.finished(.overlaps(highWater: mark)) == .none)
            let rest = try #require(copy.inFlight)
            #expect(rest.base == mark + 1)
            #expect(rest.last == sent.last)
            #expect(rest.expectedHighWater == mark)
            let wanted = kept.filter { $0.0 > mark }.map {
                HistoryEvent(
                    offset: $0.0, timestamp: $0.0 * 7, key: $0.1, headers: $0.2, value: $0.3)
            }
            #expect(try rest.events == wanted)
            let isDense = wanted.count == Int(rest.last - mark)
            #expect(rest.sparseOffsets.isEmpty == (isDense || wanted.isEmpty))
            #expect(copy.finished(appended(rest)) == .stored(nextOffset: sent.last + 1))
        }
    }

    @Test("what another node has appended already counts as stored")
    func alreadyThere() throws {
        var ingest = ingest()
        for offset: Int64 in 0..<3 { ingest.collect(offset, bytes("{}")) }
        _ = try ingest.nextBatch()
        for offset: Int64 in 3..<6 { ingest.collect(offset, bytes("{}")) }
        #expect(ingest.finished(.alreadyThere(highWater: 4)) == .stored(nextOffset: 5))
        // The next batch begins before the mark, which Redis answers with an overlap.
        let next = try ingest.nextBatch()
        #expect((next.base, next.last, next.expectedHighWater) == (3, 5, 4))
        #expect(ingest.finished(.overlaps(highWater: 4)) == .none)
        #expect(try ingest.inFlight?.events.map(\.offset) == [5])
    }

    @Test("a Redis that went back makes Kafka be read again from there")
    func redisWentBack() throws {
        var ingest = ingest(highWater: 99)
        ingest.collect(100, bytes("{}"))
        _ = try ingest.nextBatch()
        ingest.collect(101, bytes("{}"))
        #expect(ingest.finished(.redisLostData(highWater: 49)) == .rewind(to: 50))
        #expect(ingest.inFlight == nil)
        #expect(ingest.takeBatch() == nil)
        #expect(ingest.heldBytes == 0)
        #expect(ingest.isNew(50))
        #expect(!ingest.isNew(49))
        ingest.collect(50, bytes("{}"))
        #expect(ingest.takeBatch()?.expectedHighWater == 49)
    }

    @Test(
        "a Redis that lost everything makes a bounded piece be read again", arguments: [20, 5000])
    func redisLostEverything(mark: Int64) throws {
        var ingest = ingest(highWater: mark)
        ingest.collect(mark + 1, bytes("{}"))
        _ = try ingest.nextBatch()
        let from = max(0, mark - PartitionIngest.rewindAfterTotalLoss + 1)
        #expect(ingest.finished(.redisLostData(highWater: -1)) == .rewind(to: from))
        #expect(ingest.isNew(from))
        ingest.collect(from, bytes("{}"))
        #expect(ingest.takeBatch()?.expectedHighWater == -1)
    }

    @Test("a restart forgets what was collected and begins where it says")
    func restart() throws {
        var ingest = ingest(highWater: 9)
        for offset: Int64 in 10..<14 { ingest.collect(offset, bytes("{}")) }
        _ = try ingest.nextBatch()
        ingest.collect(14, bytes("{}"))
        ingest.restart(at: 40, highWater: 9)
        #expect(ingest.heldBytes == 0)
        // The answer to what was under way comes late and changes nothing.
        #expect(ingest.finished(.alreadyThere(highWater: 13)) == .none)
        #expect(!ingest.isNew(39))
        ingest.collect(40, bytes("{}"))
        let request = try ingest.nextBatch()
        #expect((request.base, request.expectedHighWater) == (40, 9))
    }

    /// Goal: the bytes held are known at every step without being counted anew. Method: random
    /// steps, compared with the sum over what comes out in the end.
    @Test("held bytes are those collected and under way", arguments: 0..<20 as Range<UInt64>)
    func heldBytes(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        var ingest = ingest(batchEvents: 4, batchBytes: 500)
        var offset: Int64 = 0
        for _ in 0..<200 {
            switch Int.random(in: 0..<5, using: &random) {
            case 0: ingest.skip(offset: offset, awaitingDeadLetter: false)
            case 1:
                if let request = ingest.inFlight, request.last > request.base {
                    _ = ingest.finished(.overlaps(highWater: request.base))
                }
                continue
            case 2:
                if let request = ingest.inFlight { _ = ingest.finished(appended(request)) }
                _ = ingest.takeBatch()
                continue
            default:
                ingest.collect(
                    offset, [UInt8](repeating: 1, count: .random(in: 0...300, using: &random)))
            }
            offset += 1
            var copy = ingest
            let left = try drained(&copy).reduce(0) { $0 + $1.bytes.count }
            #expect(ingest.heldBytes == left)
        }
    }

    private func sizes(_ ingest: inout PartitionIngest) throws -> [Int] {
        try drained(&ingest).map(\.count)
    }

    /// Lets everything be appended, what is under way first; returns the batches.
    private func drained(_ ingest: inout PartitionIngest) throws -> [AppendRequest] {
        var batches: [AppendRequest] = []
        while let request = ingest.inFlight ?? ingest.takeBatch() {
            batches.append(request)
            guard case .stored = ingest.finished(appended(request)) else {
                Issue.record("an appended batch was not stored")
                break
            }
        }
        return batches
    }
}
