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
}

/// The ingest of one partition: collects records, lets one batch at a time go to Redis.
///
/// View: node. Does no input or output: what happened goes in, what to do comes out. Batches adapt
/// by themselves: a record that arrives while nothing is under way goes at once; what arrives
/// while a batch is under way makes the next one.
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

    private struct Open {
        var encoding: BatchEncoding
        var offsets: [Int64] = []
        var last: Int64
        var isSparse = false
    }

    package let topic: String
    package let partition: Int32
    /// The highest offset known to be in history; -1 for none.
    package private(set) var highWater: Int64
    /// The highest offset read; records at or below it are old ones.
    private var read: Int64
    private var open: [Open] = []
    /// The bytes of all open batches, because their sum is asked for with every record.
    private var openBytes = 0
    package private(set) var inFlight: AppendRequest?
    private let limits: Limits
    /// Dead letters whose delivery Kafka has not confirmed. The offsets they stand for may not
    /// become history's before that.
    package private(set) var deadLettersOutstanding = 0

    package init(topic: String, partition: Int32, highWater: Int64, limits: Limits) {
        self.topic = topic
        self.partition = partition
        self.highWater = highWater
        read = highWater
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
        open[index].last = offset
        open[index].isSparse = true
        read = offset
        if awaitingDeadLetter { deadLettersOutstanding += 1 }
    }

    package mutating func deadLetterSettled() { deadLettersOutstanding -= 1 }

    /// The next batch to send, once nothing is under way.
    package mutating func takeBatch() -> AppendRequest? {
        guard inFlight == nil, deadLettersOutstanding == 0, !open.isEmpty else { return nil }
        let batch = open.removeFirst()
        openBytes -= batch.encoding.writer.count
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
        case .redisLostData(let mark):
            let lostFrom = mark >= 0 ? mark : max(-1, highWater - Self.rewindAfterTotalLoss)
            inFlight = nil
            dropOpen()
            highWater = mark
            read = lostFrom
            return .rewind(to: lostFrom + 1)
        }
    }

    /// Forgets everything collected and starts again at `offset`, which Kafka will be read from.
    package mutating func restart(at offset: Int64, highWater: Int64) {
        inFlight = nil
        dropOpen()
        self.highWater = highWater
        read = offset - 1
    }

    private mutating func dropOpen() {
        open.removeAll()
        openBytes = 0
    }

    private mutating func openBatch(for offset: Int64, adding bytes: Int) -> Int {
        if let last = open.indices.last,
            open[last].offsets.count < limits.batchEvents,
            open[last].offsets.isEmpty
                || open[last].encoding.writer.count + bytes <= limits.batchBytes
        {
            return last
        }
        open.append(Open(encoding: BatchEncoding(base: offset), last: offset))
        openBytes += open[open.count - 1].encoding.writer.count
        return open.count - 1
    }

    /// The part of `request` after `mark`. Overlaps are rare, so decoding it again is cheap enough.
    private func rest(of request: AppendRequest, after mark: Int64) -> AppendRequest {
        var layout = BatchLayout()
        let span = request.bytes.span
        do throws(BatchCodecError) {
            try layout.read(span, base: request.base, count: request.count)
        } catch {
            preconditionFailure("a batch of our own cannot be read: \(error)")
        }
        var encoding = BatchEncoding(base: mark + 1)
        var sparse = ByteWriter()
        var previous = mark + 1
        for row in 0..<request.count where layout.offsets[row] > mark {
            let key = layout.keys[row]
            encoding.append(
                offset: layout.offsets[row], timestamp: layout.timestamps[row],
                key: span.extracting(key ?? 0..<0), hasKey: key != nil,
                headers: layout.headers(ofRow: row, in: span),
                value: span.extracting(layout.values[row]))
            sparse.appendVarint(UInt64(layout.offsets[row] - previous))
            previous = layout.offsets[row]
        }
        return AppendRequest(
            topic: topic, partition: partition, base: mark + 1, last: request.last,
            expectedHighWater: mark, count: encoding.count, bytes: encoding.writer.bytes,
            sparseOffsets: encoding.count == Int(request.last - mark) ? [] : sparse.bytes)
    }
}
