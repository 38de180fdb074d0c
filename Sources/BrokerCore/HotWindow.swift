// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire

/// The newest batches of a node, as one event loop holds them.
///
/// View: shard. Threads: its loop's. The batches themselves are shared by all loops; what a loop
/// owns is its list of references, so looking one up takes no lock.
///
/// A batch has an *ordinal*, which counts batches since the node started and stays the same when
/// older batches leave.
package struct HotWindow {
    private var batches = RingQueue<EventBatch>(reserving: 1024)
    /// What each batch counts for in ``bytes``.
    private var sizes = RingQueue<Int>(reserving: 1024)
    /// How many bytes had been appended before each batch.
    private var bytesBefore = RingQueue<UInt64>(reserving: 1024)
    private var bytesAppended: UInt64 = 0
    private let bytesMax: Int
    package private(set) var bytes = 0
    package private(set) var firstOrdinal: UInt64 = 0

    /// Every event after this cursor, up to the newest, is in the window.
    package private(set) var coveredAfter: EventID
    /// The ID of the newest batch, or where the window began.
    package private(set) var lastID: EventID

    package init(bytesMax: Int, startingAfter cursor: EventID) {
        self.bytesMax = bytesMax
        coveredAfter = cursor
        lastID = cursor
    }

    /// The ordinal of the batch that comes next.
    package var endOrdinal: UInt64 { firstOrdinal + UInt64(batches.count) }

    package var eventCount: Int {
        var count = 0
        for index in 0..<batches.count { count += batches[index].count }
        return count
    }

    package subscript(ordinal: UInt64) -> EventBatch { batches[Int(ordinal - firstOrdinal)] }

    package mutating func append(_ batch: EventBatch) {
        let size = batch.memoryBytes
        batches.append(batch)
        sizes.append(size)
        bytesBefore.append(bytesAppended)
        bytesAppended += UInt64(size)
        bytes += size
        lastID = batch.lastID
    }

    /// Counts a batch anew that may have been written in another format since.
    mutating func recount(_ ordinal: UInt64) {
        guard ordinal >= firstOrdinal, ordinal < endOrdinal else { return }
        let index = Int(ordinal - firstOrdinal)
        let size = batches[index].memoryBytes
        bytes += size - sizes[index]
        sizes[index] = size
    }

    /// Lets the oldest batches go until the bound holds. The newest stays, however large.
    package mutating func trim() {
        while bytes > bytesMax, batches.count > 1, let batch = batches.popFirst() {
            bytes -= sizes.popFirst() ?? 0
            bytesBefore.popFirst()
            coveredAfter = batch.lastID
            firstOrdinal += 1
        }
    }

    /// The bytes of the batches from `ordinal` on; all of the window for one that it let go.
    func bytes(from ordinal: UInt64) -> UInt64 {
        guard ordinal >= firstOrdinal else { return UInt64(bytes) }
        guard ordinal < endOrdinal else { return 0 }
        return bytesAppended - bytesBefore[Int(ordinal - firstOrdinal)]
    }

    /// The ordinal of the first batch that has anything after `cursor`, ``endOrdinal`` where none
    /// has. Ask only for cursors that the window covers.
    package func ordinal(after cursor: EventID) -> UInt64 {
        var low = 0
        var high = batches.count
        while low < high {
            let middle = (low + high) / 2
            if batches[middle].lastID > cursor { high = middle } else { low = middle + 1 }
        }
        return firstOrdinal + UInt64(low)
    }

    /// The ID before batch `ordinal`: the cursor of who has everything up to there.
    package func cursor(before ordinal: UInt64) -> EventID {
        ordinal <= firstOrdinal ? coveredAfter : self[ordinal - 1].lastID
    }
}
