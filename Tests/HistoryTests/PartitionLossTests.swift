// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import History

@Suite("Jumps and losses of one partition")
struct PartitionLossTests {
    private func ingest(highWater: Int64 = 9, start: Int64? = nil) -> PartitionIngest {
        PartitionIngest(
            topic: "t", partition: 3, highWater: highWater, startingAt: start,
            limits: .init(batchEvents: 100, batchBytes: 10_000))
    }

    /// What is appended, as `from-to` for batches with their number of events and `!from-to` for
    /// losses.
    private func appended(_ ingest: inout PartitionIngest) throws -> [String] {
        var appended: [String] = []
        while let request = ingest.inFlight ?? ingest.takeBatch() {
            if let loss = request.loss {
                #expect(loss.lost == request.last - request.base + 1 && loss.last == request.last)
                #expect(
                    request.count == 1 && request.bytes.isEmpty && request.sparseOffsets.isEmpty)
                appended.append("!\(request.base)-\(request.last)")
            } else {
                let offsets = try request.events.map(\.offset)
                #expect(offsets.allSatisfy { $0 >= request.base && $0 <= request.last })
                appended.append("\(request.base)-\(request.last) \(offsets.count)")
            }
            let action = ingest.finished(
                .appended(lastMilliseconds: 1, lastSequence: UInt64(request.count)))
            #expect(action == .stored(nextOffset: request.last + 1))
        }
        return appended
    }

    @Test("nothing behind a jump is appended before the low watermark is known")
    func waits() throws {
        var ingest = ingest()
        ingest.collect(10, bytes("{}"))
        #expect(!ingest.hasNewJumps)
        ingest.collect(15, bytes("{}"))
        #expect(ingest.hasNewJumps)
        ingest.expectNothingToSend()
        ingest.ask()
        let isAskedTwice = ingest.askingAboutJumps()
        #expect(!isAskedTwice)
        ingest.expectNothingToSend()
        ingest.judgeJumps(low: 11)
        #expect(try appended(&ingest) == ["10-15 2"])
    }

    @Test("a jump from the low watermark on is a hole, one below it a loss in its place")
    func judges() throws {
        for (low, wanted) in [
            (Int64(0), ["10-15 2"]), (11, ["10-15 2"]), (12, ["10-10 1", "!11-11", "12-15 1"]),
            (15, ["10-10 1", "!11-14", "15-15 1"]), (900, ["10-10 1", "!11-14", "15-15 1"]),
        ] {
            var ingest = ingest()
            ingest.collect(10, bytes("{}"))
            ingest.collect(15, bytes("{}"))
            ingest.judge(low: low)
            #expect(try appended(&ingest) == wanted, "low \(low)")
        }
    }

    @Test("a jump to the first record after the mark counts, whether it is an event or not")
    func first() throws {
        var event = ingest()
        event.collect(20, bytes("{}"))
        event.judge(low: 15)
        #expect(try appended(&event) == ["!10-14", "20-20 1"])
        var tombstone = ingest()
        tombstone.skip(offset: 20, awaitingDeadLetter: false)
        tombstone.judge(low: 500)
        #expect(try appended(&tombstone) == ["!10-19", "20-20 0"])
    }

    @Test("where Kafka chooses the start its first record is no jump")
    func unplaced() throws {
        var ingest = ingest(highWater: -1)
        ingest.collect(700, bytes("{}"))
        #expect(!ingest.hasNewJumps)
        ingest.collect(702, bytes("{}"))
        #expect(ingest.hasNewJumps)
        var placed = self.ingest(highWater: -1, start: 600)
        placed.collect(700, bytes("{}"))
        placed.judge(low: 650)
        #expect(try appended(&placed) == ["!600-649", "700-700 1"])
    }

    @Test("a jump seen after the question was asked waits for the next one")
    func later() throws {
        var ingest = ingest()
        ingest.collect(12, bytes("{}"))
        ingest.ask()
        ingest.collect(15, bytes("{}"))
        ingest.judgeJumps(low: 5)
        #expect(ingest.hasNewJumps)
        ingest.expectNothingToSend()
        ingest.judge(low: 14)
        #expect(try appended(&ingest) == ["12-12 1", "!13-13", "14-15 1"])
    }

    @Test("a question without an answer is asked again")
    func unanswered() throws {
        var ingest = ingest()
        ingest.collect(12, bytes("{}"))
        ingest.ask()
        ingest.jumpsWereNotJudged()
        ingest.expectNothingToSend()
        ingest.judge(low: 12)
        #expect(try appended(&ingest) == ["!10-11", "12-12 1"])
    }

    @Test("retention that passes the reader leaves what was collected before it")
    func passed() throws {
        var ingest = ingest()
        for offset: Int64 in 10..<14 { ingest.collect(offset, bytes("{}")) }
        ingest.expectPassed(asked: 14, low: 40, lost: 14...39)
        // Said twice, it is one loss; where retention has moved on there is a second.
        ingest.expectPassed(asked: 14, low: 40, lost: nil)
        ingest.expectPassed(asked: 40, low: 50, lost: 40...49)
        #expect(!ingest.isNew(49))
        ingest.collect(50, bytes("{}"))
        #expect(!ingest.hasNewJumps)
        #expect(try appended(&ingest) == ["10-13 4", "!14-39", "!40-49", "50-50 1"])
        #expect(ingest.heldBytes == 0)
    }

    @Test("markers between the last record and the place asked for are no loss")
    func markers() throws {
        var ingest = ingest()
        ingest.collect(10, bytes("{}"))
        ingest.expectPassed(asked: 12, low: 20, lost: 12...19)
        #expect(try appended(&ingest) == ["10-10 1", "!12-19"])
        var old = self.ingest()
        old.expectPassed(asked: 3, low: 9, lost: nil)
        old.expectPassed(asked: 3, low: 12, lost: 10...11)
    }

    @Test("of a loss that another node has appended in part the rest is sent")
    func overlap() throws {
        var ingest = ingest()
        _ = ingest.retentionPassed(asked: 10, low: 50)
        _ = try ingest.nextBatch()
        let action = ingest.finished(.overlaps(highWater: 29))
        #expect(action == .none)
        let rest = try #require(ingest.inFlight)
        #expect((rest.base, rest.last, rest.expectedHighWater) == (30, 49, 29))
        #expect(rest.loss == HistoryLoss(last: 49, lost: 20, reason: .retention))
        #expect(try appended(&ingest) == ["!30-49"])
    }

    @Test("a Redis that went back makes losses be found again")
    func rewind() throws {
        var ingest = ingest()
        ingest.collect(10, bytes("{}"))
        _ = try ingest.nextBatch()
        _ = ingest.retentionPassed(asked: 11, low: 50)
        ingest.collect(55, bytes("{}"))
        let action = ingest.finished(.redisLostData(highWater: 4))
        #expect(action == .rewind(to: 5))
        #expect(!ingest.hasNewJumps)
        #expect(ingest.heldBytes == 0)
        ingest.expectPassed(asked: 5, low: 50, lost: 5...49)
        #expect(try appended(&ingest) == ["!5-49"])
    }

    /// Goal: whatever is read and whatever is missing, every offset is accounted for once, in
    /// order, as an event, a hole or a loss; a loss exactly where the low watermark says so.
    /// Method: random records, holes, skips and answers; what is appended is laid side by side.
    @Test("every offset is accounted for once", arguments: 0..<200 as Range<UInt64>)
    func everyOffset(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        var ingest = PartitionIngest(
            topic: "t", partition: 0, highWater: 0,
            limits: .init(batchEvents: 5, batchBytes: 400))
        var events: [Int64] = []
        var next: Int64 = 1
        var low: Int64 = 0
        var unjudged: [ClosedRange<Int64>] = []
        var asked: [ClosedRange<Int64>]?
        var lost: Set<Int64> = []
        for _ in 0..<120 {
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                if ingest.askingAboutJumps() {
                    asked = (asked ?? []) + unjudged
                    unjudged = []
                }
            case 1:
                guard let ranges = asked else { continue }
                asked = nil
                low = max(low, Int64.random(in: max(0, next - 30)...next, using: &random))
                for range in ranges { lost.formUnion(range.filter { $0 < low }) }
                ingest.judgeJumps(low: low)
            case 2 where asked == nil && unjudged.isEmpty:
                low = max(low, next + Int64.random(in: 0...5, using: &random))
                let missing = ingest.retentionPassed(asked: next, low: low)
                #expect(missing == (low > next ? next...(low - 1) : nil))
                lost.formUnion(next..<max(next, low))
                next = max(next, low)
            default:
                if Int.random(in: 0..<4, using: &random) == 0 {
                    let end = next + Int64.random(in: 1...6, using: &random)
                    unjudged.append(next...(end - 1))
                    next = end
                }
                if Int.random(in: 0..<5, using: &random) == 0 {
                    ingest.skip(offset: next, awaitingDeadLetter: false)
                } else {
                    ingest.collect(next, content("t", 0, next))
                    events.append(next)
                }
                next += 1
            }
        }
        ingest.judgeJumps(low: low)
        if let asked { for range in asked { lost.formUnion(range.filter { $0 < low }) } }
        if ingest.askingAboutJumps() { ingest.judgeJumps(low: low) }
        for range in unjudged { lost.formUnion(range.filter { $0 < low }) }
        var through: Int64 = 0
        var found: [Int64] = []
        var foundLost: [Int64] = []
        while let request = ingest.takeBatch() {
            #expect(request.base > through && request.last >= request.base)
            if request.loss != nil {
                foundLost += Array(request.base...request.last)
            } else {
                for event in try request.events {
                    #expect(event.value == content("t", 0, event.offset))
                    found.append(event.offset)
                }
            }
            through = request.last
            _ = ingest.finished(.appended(lastMilliseconds: 1, lastSequence: 1))
        }
        #expect(found == events)
        #expect(foundLost == lost.sorted())
        #expect(through == next - 1)
        #expect(ingest.heldBytes == 0)
    }
}

extension PartitionIngest {
    /// Kafka's answer to the jumps that nobody has asked about.
    mutating func judge(low: Int64) {
        ask()
        judgeJumps(low: low)
    }

    mutating func ask() {
        let isNew = askingAboutJumps()
        #expect(isNew)
    }

    mutating func expectNothingToSend() {
        let batch = takeBatch()
        #expect(batch == nil)
    }

    mutating func expectPassed(asked: Int64, low: Int64, lost: ClosedRange<Int64>?) {
        let missing = retentionPassed(asked: asked, low: low)
        #expect(missing == lost)
    }
}
