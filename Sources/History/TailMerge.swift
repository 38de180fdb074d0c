// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// Puts the batches of several topic streams into the one order of their IDs.
///
/// View: node. Does no input or output. Sequence numbers are consecutive over all topics, so the
/// merge knows exactly when it has everything: a batch goes on once its first number follows the
/// last one given out. What is missing may still be on its way (another stream hit the read's
/// COUNT, or belongs to a topic this node has not heard of); only when every stream has been read
/// to its end twice, with the topics read anew in between, is it lost.
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
        /// Sequence numbers have fallen back: Redis lost its newest data and goes on from before.
        case regressed(from: EventID, to: EventID)
    }

    /// The ID of the last event given out.
    package private(set) var lastID: EventID
    private var waiting: [Entry] = []
    /// A read of every stream to its end has shown the present hole.
    private var holeIsConfirmed = false
    /// The topics were read after that.
    private var topicsAreFresh = false

    package init(after tip: EventID) { lastID = tip }

    /// True while batches wait for something before them.
    package var hasHole: Bool { !waiting.isEmpty }

    /// True once a read of every stream to its end has left a hole: read the set of topics, then
    /// call ``topicsWereRead()``.
    package var wantsTopics: Bool { holeIsConfirmed && !topicsAreFresh }

    /// The set of topics was read, and all of them are among the streams of the next read.
    package mutating func topicsWereRead() { topicsAreFresh = holeIsConfirmed }

    /// Takes what one read of the streams returned.
    ///
    /// - Parameter wasComplete: Every stream was read to its end at one instant.
    package mutating func take(_ entries: [Entry], wasComplete: Bool) -> [Output] {
        // A batch that is there already (a stream was read again) is not taken twice.
        for entry in entries where entry.lastID > lastID {
            let isKnown = waiting.contains { $0.lastID == entry.lastID }
            if !isKnown { waiting.append(entry) }
        }
        waiting.sort { $0.lastID < $1.lastID }
        var outputs: [Output] = []
        let before = lastID
        release(into: &outputs)
        if !hasHole || lastID != before { forgetHole() }
        guard wasComplete, let next = waiting.first else { return outputs }
        guard topicsAreFresh else {
            holeIsConfirmed = true
            return outputs
        }
        // What fills a hole was appended before the batch behind it, its topic's name included. It
        // would have been in this read of all topics.
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
        holeIsConfirmed = false
        topicsAreFresh = false
    }

    private mutating func release(into outputs: inout [Output]) {
        var released = 0
        for entry in waiting {
            guard entry.firstSequence == lastID.sequence &+ 1 else { break }
            outputs.append(.batch(entry))
            lastID = entry.lastID
            released += 1
        }
        waiting.removeFirst(released)
    }
}
