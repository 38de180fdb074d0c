// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// Puts the batches of several topic streams into the one order of their IDs.
///
/// View: node. Does no input or output. Sequence numbers are consecutive over all topics, so the
/// merge knows exactly when it has everything: a batch goes on once its first number follows the
/// last one given out.
///
/// A read returns at least the oldest unread batch of each stream, so with a stream that is read
/// the next batch is never missing. It is missing where it belongs to a topic that this node has
/// not heard of. Its topic's name was written before any batch behind it; so once the topics have
/// been read anew and the next read still does not bring it, it is gone. That takes two reads, and
/// bounds what waits.
package struct TailMerge<Payload> {
    package struct Entry {
        /// The ID of the batch's last event.
        package let lastID: EventID
        package let count: Int
        package let payload: Payload

        package init(lastID: EventID, count: Int, payload: Payload) {
            self.lastID = lastID
            self.count = count
            self.payload = payload
        }

        var firstSequence: UInt64 { lastID.sequence &- UInt64(count) &+ 1 }
    }

    package enum Output {
        case batch(Entry)
        /// Nothing between these two can be had from the window.
        case gap(from: EventID, to: EventID)
        /// Redis lost what was given out after `from` and goes on from there: what was lost comes
        /// again, after `to`.
        case regressed(from: EventID, to: EventID)
        /// History goes on after `to` as it did before `from`, which was the last given out.
        case passed(EpochEnd)
    }

    /// The ID of the last event given out.
    package private(set) var lastID: EventID {
        didSet { newestID = max(newestID, lastID) }
    }
    /// The newest ID that was ever read or given out, also where history went on from before it,
    /// also as the place of a notice. Nothing may be appended before it.
    package private(set) var newestID: EventID
    private var waiting: [Entry] = []
    /// A read has left the present hole.
    private var holeWasSeen = false
    /// The topics were read after that.
    private var topicsAreFresh = false
    /// Where history went on from before, newest first.
    package private(set) var ends: [EpochEnd] = []

    package init(after tip: EventID) {
        lastID = tip
        newestID = tip
    }

    /// True while batches wait for something before them.
    package var hasHole: Bool { !waiting.isEmpty }

    /// True once a read has left a hole: read the set of topics, then call ``topicsWereRead()``.
    package var wantsTopics: Bool { holeWasSeen && !topicsAreFresh }

    /// Takes what is known of ends. Where the last event given out lies in one, the merge goes
    /// back to where that began: read all streams from ``lastID`` again.
    package mutating func learn(_ ends: [EpochEnd]) -> Output? {
        self.ends = ends
        // What waits may have been lost before anything was given out of it.
        waiting.removeAll { ends.covering($0.lastID) != nil }
        if waiting.isEmpty { forgetHole() }
        // One that has given out more than the loss accounts for is waited with: the next attach
        // tells Redis, and history goes on after that.
        guard let end = ends.covering(lastID), lastID < end.to else { return nil }
        waiting = []
        forgetHole()
        lastID = end.from
        newestID = max(newestID, end.to)
        return .regressed(from: end.from, to: end.to)
    }

    /// The set of topics was read, and all of them are among the streams of the next read.
    package mutating func topicsWereRead() { topicsAreFresh = holeWasSeen }

    /// Takes what one read of all streams, at one instant, returned: of each of them the oldest
    /// batches after those that were read before, at least one where there is one.
    package mutating func take(_ entries: [Entry]) -> [Output] {
        // A batch that is there already (a stream was read again) is not taken twice.
        for entry in entries where entry.lastID > lastID {
            newestID = max(newestID, entry.lastID)
            let isKnown = waiting.contains { $0.lastID == entry.lastID }
            if !isKnown { waiting.append(entry) }
        }
        waiting.sort { $0.lastID < $1.lastID }
        var outputs: [Output] = []
        let before = lastID
        release(into: &outputs)
        if !hasHole || lastID != before { forgetHole() }
        guard let next = waiting.first else { return outputs }
        guard topicsAreFresh else {
            holeWasSeen = true
            return outputs
        }
        forgetHole()
        let resume = EventID(
            milliseconds: next.lastID.milliseconds, sequence: next.firstSequence &- 1)
        outputs.append(
            next.firstSequence <= lastID.sequence
                ? .regressed(from: lastID, to: resume) : .gap(from: lastID, to: resume))
        lastID = resume
        release(into: &outputs)
        return outputs
    }

    private mutating func forgetHole() {
        holeWasSeen = false
        topicsAreFresh = false
    }

    private mutating func release(into outputs: inout [Output]) {
        var released = 0
        for entry in waiting {
            // Somewhere history went on from just here, perhaps more than once.
            while entry.firstSequence > lastID.sequence &+ 1,
                let end = ends.first(where: {
                    $0.from.sequence == lastID.sequence && $0.to > lastID
                })
            {
                outputs.append(.passed(end))
                lastID = end.to
            }
            guard entry.firstSequence == lastID.sequence &+ 1 else { break }
            outputs.append(.batch(entry))
            lastID = entry.lastID
            released += 1
        }
        waiting.removeFirst(released)
    }
}
