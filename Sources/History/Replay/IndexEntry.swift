// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import RedisClient

/// One entry of an index stream: where in Kafka the events of one batch lie.
///
/// `p` partition, `o` first offset, `c` count, `b` bytes in the window; and `x`, the offsets as LEB128
/// differences, where they are not consecutive, or `l` where the entry is about records that are lost.
struct IndexEntry: Sendable, Equatable {
    let lastID: EventID
    /// The place of the topic among those of the question.
    let topic: Int
    let partition: Int32
    let base: Int64
    let count: Int
    /// Empty where the offsets are consecutive.
    let sparse: [UInt8]
    let loss: HistoryLoss?
    /// True where the partition was made anew since: its records are gone, and others have their
    /// offsets.
    var isOfEarlierTopic = false

    /// True where Kafka is to be asked for the records.
    var isInKafka: Bool { loss == nil && !isOfEarlierTopic }

    init(
        lastID: EventID, topic: Int, partition: Int32, base: Int64, count: Int,
        sparse: [UInt8] = [], loss: HistoryLoss? = nil
    ) {
        self.loss = loss
        self.lastID = lastID
        self.topic = topic
        self.partition = partition
        self.base = base
        self.count = count
        self.sparse = sparse
    }

    /// `nil` where the reply is no such entry.
    init?(_ item: RedisReplyView, topic: Int) {
        let fields = item[1]
        guard let id = try? EventID.parse(item[0].bytes), fields.count >= 6,
            let partition = fields[1].text.flatMap({ Int32($0) }), partition >= 0,
            let base = fields[3].text.flatMap({ Int64($0) }), base >= 0,
            let count = fields[5].text.flatMap({ Int($0) }),
            count > 0, count <= Self.countMax, UInt64(count) <= id.sequence,
            base <= Int64.max - Int64(count)
        else { return nil }
        var sparse: [UInt8] = []
        var loss: HistoryLoss?
        for place in stride(from: 6, to: fields.count - 1, by: 2) {
            if fields[place].equals("x") {
                sparse = unsafe fields[place + 1].bytes.withUnsafeBufferPointer { unsafe Array($0) }
            } else if fields[place].equals("l") {
                guard let read = fields[place + 1].text.flatMap({ HistoryLoss($0) }) else {
                    return nil
                }
                loss = read
            }
        }
        self.init(
            lastID: id, topic: topic, partition: partition, base: base, count: count,
            sparse: sparse, loss: loss)
    }

    /// The most that the configuration allows in a batch, which is all that an entry may claim.
    private static let countMax = 10_000

    var firstSequence: UInt64 { lastID.sequence - UInt64(count) + 1 }

    func id(ofRow row: Int) -> EventID {
        EventID(milliseconds: lastID.milliseconds, sequence: firstSequence + UInt64(row))
    }

    /// The place in the order right before row `row`.
    func place(beforeRow row: Int) -> EventID {
        EventID(milliseconds: lastID.milliseconds, sequence: firstSequence + UInt64(row) - 1)
    }

    /// The offset of each event; `nil` where the entry is damaged.
    func offsets() -> [Int64]? {
        guard !sparse.isEmpty else { return (0..<count).map { base + Int64($0) } }
        var reader = ByteReader(sparse.span)
        var offsets: [Int64] = []
        offsets.reserveCapacity(count)
        var offset = base
        while !reader.isAtEnd {
            guard offsets.count < count, let step = try? reader.readVarint(),
                step <= UInt64(Int64.max - offset), offsets.isEmpty || step > 0
            else { return nil }
            offset += Int64(step)
            offsets.append(offset)
        }
        return offsets.count == count ? offsets : nil
    }
}
