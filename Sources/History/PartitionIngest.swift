// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// A batch on its way to Redis. Its content follows from topic, partition and offsets alone.
package struct AppendRequest: Sendable {
    package let topic: String
    package let partition: Int32
    /// The first and the last Kafka offset that the batch accounts for; offsets in between that
    /// hold no event (compacted, or sent to the dead-letter topic) are accounted for too.
    package let base: Int64
    package let last: Int64
    /// The high-water offset that the sender knows Redis had, -1 where it knows none.
    package let expectedHighWater: Int64
    package let count: Int
    package let bytes: [UInt8]
    /// The events' offsets, LEB128 differences, where they are not simply consecutive.
    package let sparseOffsets: [UInt8]
    /// Set where the request is about records that are lost: its ``count`` is 1 then, and it has no
    /// bytes.
    package let loss: HistoryLoss?

    package init(
        topic: String, partition: Int32, base: Int64, last: Int64, expectedHighWater: Int64,
        count: Int, bytes: [UInt8], sparseOffsets: [UInt8] = [], loss: HistoryLoss? = nil
    ) {
        self.topic = topic
        self.partition = partition
        self.base = base
        self.last = last
        self.expectedHighWater = expectedHighWater
        self.count = count
        self.bytes = bytes
        self.sparseOffsets = sparseOffsets
        self.loss = loss
    }
}

/// What became of an ``AppendRequest``.
package enum AppendOutcome: Sendable, Equatable {
    case appended(lastMilliseconds: UInt64, lastSequence: UInt64)
    /// All of it had been appended before.
    case alreadyThere(highWater: Int64)
    /// Its beginning had been appended before.
    case overlaps(highWater: Int64)
    /// Redis has less than it had: it lost data.
    case redisLostData(highWater: Int64)
    /// Nothing was done: the sender has to attach to the present epoch of history first.
    case otherEpoch
}

/// The ingest of one partition: collects records, lets one batch at a time go to Redis.
///
/// View: node. Does no input or output: what happened goes in, what to do comes out. Batches adapt
/// by themselves: a record that arrives while nothing is under way goes at once; what arrives
/// while a batch is under way makes the next one.
///
/// Offsets that are missing between two records are a *jump*. Compaction and the markers of
/// transactions leave holes, and so would a retention that overtook the reader. Only the
/// partition's low watermark tells them apart, so nothing behind a jump becomes history before
/// ``judgeJumps(low:)`` has: what was lost has to have its place there.
package struct PartitionIngest {
    package enum Action: Equatable, Sendable {
        case none
        /// Offsets below this one are in history; Kafka may be told.
        case stored(nextOffset: Int64)
        /// Read Kafka again from this offset.
        case rewind(to: Int64)
    }

    /// Limits of a batch, from the configuration.
    package struct Limits: Sendable {
        package var batchEvents: Int
        package var batchBytes: Int
        package init(batchEvents: Int, batchBytes: Int) {
            self.batchEvents = batchEvents
            self.batchBytes = batchBytes
        }
    }

    /// After Redis has lost everything there is no telling which of the newest events some node
    /// had not seen yet. Reading this many again repeats events rather than losing one.
    package static let rewindAfterTotalLoss: Int64 = 1000

    /// At most what an event takes in a batch besides its own bytes: numbers, flags and lengths.
    private static let eventOverhead = 36

    private struct Jump {
        let missing: ClosedRange<Int64>
        var isAsked = false
    }

    private struct Open {
        var encoding: BatchEncoding
        var offsets: [Int64] = []
        var last: Int64
        var isSparse = false
        /// Ascending; judged before the batch is sent.
        var jumps: [Jump] = []
        /// Set where this is no batch but a stretch from `encoding.base` to `last` that is lost.
        var loss: HistoryLoss.Reason?
    }

    package let topic: String
    package let partition: Int32
    /// The highest offset known to be in history; -1 for none.
    package private(set) var highWater: Int64
    /// The highest offset read; records at or below it are old ones.
    private var read: Int64
    /// The highest offset that was in history before Redis lost it: what Kafka no longer holds of
    /// what is read again has been served, and is no loss of records nobody had read.
    private var hadThrough: Int64 = -1
    /// True where the record after ``read`` is to be the next one, so that a later one is a jump.
    private var isPlaced: Bool
    /// True while there are jumps that ``askingAboutJumps()`` has not returned.
    package private(set) var hasNewJumps = false
    private var open: [Open] = []
    /// The bytes of all open batches, because their sum is asked for with every record.
    private var openBytes = 0
    package private(set) var inFlight: AppendRequest?
    private let limits: Limits
    /// Dead letters whose delivery Kafka has not confirmed. The offsets they stand for may not
    /// become history's before that.
    package private(set) var deadLettersOutstanding = 0

    /// - Parameter start: The offset that Kafka is read from; `nil` where Kafka chooses it.
    package init(
        topic: String, partition: Int32, highWater: Int64, startingAt start: Int64? = nil,
        limits: Limits
    ) {
        self.topic = topic
        self.partition = partition
        self.highWater = highWater
        read = start.map { max($0, highWater + 1) - 1 } ?? highWater
        isPlaced = start != nil || highWater >= 0
        self.limits = limits
    }

    /// Bytes collected or under way.
    package var heldBytes: Int { openBytes + (inFlight?.bytes.count ?? 0) }

    /// True where a record at `offset` is new to this partition.
    package func isNew(_ offset: Int64) -> Bool { offset > read }

    /// Collects one valid event. Call ``isNew(_:)`` first.
    package mutating func collect(
        offset: Int64, timestamp: Int64, key: borrowing Span<UInt8>, hasKey: Bool,
        headers: [(name: [UInt8], value: [UInt8])], value: borrowing Span<UInt8>
    ) {
        var size = value.count + key.count
        for header in headers { size += header.name.count + header.value.count + 10 }
        let index = openBatch(for: offset, adding: size + Self.eventOverhead)
        let before = open[index].encoding.writer.count
        if offset != open[index].encoding.base + Int64(open[index].offsets.count) {
            open[index].isSparse = true
        }
        noteJump(before: offset, in: index)
        open[index].encoding.append(
            offset: offset, timestamp: timestamp, key: key, hasKey: hasKey, headers: headers,
            value: value)
        open[index].offsets.append(offset)
        open[index].last = offset
        openBytes += open[index].encoding.writer.count - before
        read = offset
    }

    /// Accounts for a record that makes no event: a tombstone, or a dead letter.
    package mutating func skip(offset: Int64, awaitingDeadLetter: Bool) {
        let index = openBatch(for: offset, adding: 0)
        noteJump(before: offset, in: index)
        open[index].last = offset
        open[index].isSparse = true
        read = offset
        if awaitingDeadLetter { deadLettersOutstanding += 1 }
    }

    /// Accounts for everything before `offset` without having read it.
    package mutating func passOver(upTo offset: Int64) {
        guard offset > highWater + 1 else { return }
        open.append(Open(encoding: BatchEncoding(base: highWater + 1), last: offset - 1))
        openBytes += open[open.count - 1].encoding.writer.count
        read = max(read, offset - 1)
        isPlaced = true
    }

    package mutating func deadLetterSettled() { deadLettersOutstanding -= 1 }

    /// The next batch to send, once nothing is under way.
    package mutating func takeBatch() -> AppendRequest? {
        guard inFlight == nil, deadLettersOutstanding == 0, open.first?.jumps.isEmpty == true
        else { return nil }
        let batch = open.removeFirst()
        openBytes -= batch.encoding.writer.count
        guard batch.loss == nil else {
            inFlight = lossRequest(of: batch)
            return inFlight
        }
        var sparse = ByteWriter()
        if batch.isSparse {
            var previous = batch.encoding.base
            for offset in batch.offsets {
                sparse.appendVarint(UInt64(offset - previous))
                previous = offset
            }
        }
        let request = AppendRequest(
            topic: topic, partition: partition, base: batch.encoding.base, last: batch.last,
            expectedHighWater: highWater, count: batch.offsets.count,
            bytes: batch.encoding.writer.bytes, sparseOffsets: sparse.bytes)
        inFlight = request
        return request
    }

    /// Takes the answer to the batch under way. After `.none` with ``inFlight`` still set, send
    /// that again: it is the rest of a batch that overlapped.
    package mutating func finished(_ outcome: AppendOutcome) -> Action {
        guard let request = inFlight else { return .none }
        switch outcome {
        case .appended:
            inFlight = nil
            highWater = request.last
            return .stored(nextOffset: highWater + 1)
        case .alreadyThere(let mark):
            inFlight = nil
            highWater = max(request.last, mark)
            return .stored(nextOffset: highWater + 1)
        case .overlaps(let mark):
            highWater = mark
            inFlight = rest(of: request, after: mark)
            return .none
        case .redisLostData(let mark): return fellBack(to: mark)
        case .otherEpoch: return .none
        }
    }

    /// Redis was found to hold less than it did. Call it only while no answer is awaited.
    package mutating func fellBack(to mark: Int64) -> Action {
        let lostFrom = mark >= 0 ? mark : max(-1, highWater - Self.rewindAfterTotalLoss)
        inFlight = nil
        dropOpen()
        if mark < 0 { hadThrough = max(hadThrough, highWater) }
        highWater = mark
        read = lostFrom
        isPlaced = true
        return .rewind(to: lostFrom + 1)
    }

    /// Forgets everything collected and starts again at `offset`, which Kafka will be read from.
    package mutating func restart(at offset: Int64, highWater: Int64) {
        inFlight = nil
        dropOpen()
        self.highWater = highWater
        hadThrough = -1
        read = offset - 1
        isPlaced = true
    }

    // MARK: - Jumps and losses

    /// True where there are jumps that nobody has asked about. They count as asked from here on:
    /// ask Kafka for the partition's low watermark and pass it to ``judgeJumps(low:)``.
    package mutating func askingAboutJumps() -> Bool {
        guard hasNewJumps else { return false }
        hasNewJumps = false
        for index in open.indices {
            for place in open[index].jumps.indices { open[index].jumps[place].isAsked = true }
        }
        return true
    }

    /// The question that ``askingAboutJumps()`` was about got no answer; it is asked again.
    package mutating func jumpsWereNotJudged() {
        hasNewJumps = hasNewJumps || open.contains { !$0.jumps.isEmpty }
    }

    /// Judges the jumps that were asked about. `low` is the first offset that Kafka still held
    /// some time after it had sent the records around the jumps.
    ///
    /// What is missing below it may have been deleted before it was read, and becomes a loss.
    /// What is missing from it on cannot have been: nothing was there to read.
    package mutating func judgeJumps(low: Int64) {
        var judged: [Open] = []
        judged.reserveCapacity(open.count)
        for var batch in open {
            let lost = batch.jumps.filter { $0.isAsked && low > $0.missing.lowerBound }
            batch.jumps.removeAll { $0.isAsked }
            guard !lost.isEmpty else {
                judged.append(batch)
                continue
            }
            // Rare enough to encode what lies around it again.
            let later = batch.jumps
            batch.jumps = []
            for jump in lost {
                let missing = jump.missing.lowerBound...min(jump.missing.upperBound, low - 1)
                if batch.encoding.base < missing.lowerBound {
                    judged.append(
                        part(of: batch, from: batch.encoding.base, to: missing.lowerBound - 1))
                }
                judged.append(Self.lost(missing))
                batch = part(
                    of: batch, from: max(batch.encoding.base, missing.upperBound + 1),
                    to: batch.last)
            }
            batch.jumps = later
            judged.append(batch)
        }
        open = judged
        openBytes = open.reduce(0) { $0 + $1.encoding.writer.count }
    }

    /// Kafka says that it holds nothing before `low` although `asked` was to be read. What was
    /// collected stays; the loss follows it.
    ///
    /// - Returns: The offsets that are lost; `nil` where those have been accounted for.
    package mutating func retentionPassed(asked: Int64, low: Int64) -> ClosedRange<Int64>? {
        // Offsets between the last record and the one asked for were markers.
        let next = isPlaced ? max(read + 1, asked) : max(asked, highWater + 1)
        let first = max(next, hadThrough + 1)
        guard low > first else {
            if low > next { read = low - 1 }
            return nil
        }
        open.append(Self.lost(first...(low - 1)))
        openBytes += open[open.count - 1].encoding.writer.count
        read = low - 1
        isPlaced = true
        return first...read
    }

    private mutating func noteJump(before offset: Int64, in index: Int) {
        defer { isPlaced = true }
        let first = max(read, hadThrough) + 1
        guard isPlaced, offset > first else { return }
        open[index].jumps.append(Jump(missing: first...(offset - 1)))
        hasNewJumps = true
    }

    private static func lost(_ missing: ClosedRange<Int64>) -> Open {
        Open(
            encoding: BatchEncoding(base: missing.lowerBound), last: missing.upperBound,
            loss: .retention)
    }

    private func lossRequest(of batch: Open) -> AppendRequest {
        lossRequest(
            base: batch.encoding.base, last: batch.last, batch.loss ?? .retention, highWater)
    }

    private func lossRequest(
        base: Int64, last: Int64, _ reason: HistoryLoss.Reason, _ expected: Int64
    ) -> AppendRequest {
        AppendRequest(
            topic: topic, partition: partition, base: base, last: last,
            expectedHighWater: expected, count: 1, bytes: [],
            loss: HistoryLoss(last: last, lost: last - base + 1, reason: reason))
    }

    /// The events of `batch` with offsets from `first` to `last`, as a batch that accounts for
    /// these offsets.
    private func part(of batch: Open, from first: Int64, to last: Int64) -> Open {
        var part = Open(encoding: BatchEncoding(base: first), last: last)
        Self.forEachEvent(
            of: batch.encoding.writer.bytes, base: batch.encoding.base, count: batch.offsets.count
        ) { layout, row, bytes in
            let offset = layout.offsets[row]
            guard offset >= first, offset <= last else { return }
            if offset != first + Int64(part.offsets.count) { part.isSparse = true }
            part.encoding.append(layout, row: row, of: bytes)
            part.offsets.append(offset)
        }
        if part.offsets.last ?? (first - 1) < last { part.isSparse = true }
        return part
    }

    private static func forEachEvent(
        of bytes: [UInt8], base: Int64, count: Int,
        _ body: (BatchLayout, Int, borrowing Span<UInt8>) -> Void
    ) {
        var layout = BatchLayout()
        let span = bytes.span
        do throws(BatchCodecError) {
            try layout.read(span, base: base, count: count)
        } catch {
            preconditionFailure("a batch of our own cannot be read: \(error)")
        }
        for row in 0..<count { body(layout, row, span) }
    }

    private mutating func dropOpen() {
        open.removeAll()
        openBytes = 0
        hasNewJumps = false
    }

    private mutating func openBatch(for offset: Int64, adding bytes: Int) -> Int {
        if let last = open.indices.last, open[last].loss == nil,
            open[last].offsets.count < limits.batchEvents,
            open[last].offsets.isEmpty
                || open[last].encoding.writer.count + bytes <= limits.batchBytes
        {
            return last
        }
        // What follows a full batch will likely fill one too; growing step by step would copy it
        // and hold up to twice its bytes.
        let likely = open.isEmpty ? 0 : min(limits.batchBytes, openBytes / open.count)
        open.append(Open(encoding: BatchEncoding(base: offset, reserving: likely), last: offset))
        openBytes += open[open.count - 1].encoding.writer.count
        return open.count - 1
    }

    /// The part of `request` after `mark`. Overlaps are rare, so decoding it again is cheap enough.
    private func rest(of request: AppendRequest, after mark: Int64) -> AppendRequest {
        if let loss = request.loss {
            return lossRequest(base: mark + 1, last: request.last, loss.reason, mark)
        }
        var encoding = BatchEncoding(base: mark + 1)
        var sparse = ByteWriter()
        var previous = mark + 1
        Self.forEachEvent(of: request.bytes, base: request.base, count: request.count) {
            layout, row, bytes in
            guard layout.offsets[row] > mark else { return }
            encoding.append(layout, row: row, of: bytes)
            sparse.appendVarint(UInt64(layout.offsets[row] - previous))
            previous = layout.offsets[row]
        }
        return AppendRequest(
            topic: topic, partition: partition, base: mark + 1, last: request.last,
            expectedHighWater: mark, count: encoding.count, bytes: encoding.writer.bytes,
            sparseOffsets: encoding.count == Int(request.last - mark) ? [] : sparse.bytes)
    }
}
