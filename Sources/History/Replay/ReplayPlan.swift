// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire

/// What the index says about one topic whose window no longer reaches back to a cursor.
struct IndexPart: Sendable {
    /// The place of the topic among those of the question.
    let topic: Int
    /// Ascending, the first one after the cursor.
    var entries: [IndexEntry]
    /// True where more entries follow up to the floor.
    var hasMore: Bool
    /// The newest batch that the window let go: from here on the window serves the topic.
    let floor: EventID
    /// The newest batch that the index let go; zero where it is whole.
    let indexFloor: EventID
    /// Entries that could not be read.
    var damaged: [EventID] = []

    /// Up to here the part knows everything.
    var knownThrough: EventID { hasMore ? entries.last?.lastID ?? floor : floor }
}

/// Which batches one page of replay reads back from Kafka, and what cannot be had.
///
/// Does no input or output. Where more follows than a page takes, the page ends at the roundest
/// sequence number within reach, so that readers that began anywhere soon ask for the same pages
/// and share them.
struct ReplayPlan: Sendable {
    let cursor: EventID
    /// In the order of their IDs; nothing is missing up to ``through`` but what ``gaps`` tell.
    private(set) var entries: [IndexEntry] = []
    private(set) var through: EventID
    /// What the index itself no longer knows. Each begins at the cursor or after an entry.
    private(set) var gaps: [GapNotice] = []

    /// - Parameters:
    ///   - parts: At least one.
    ///   - partitionsMax: How many partitions a page may touch.
    init(_ parts: [IndexPart], after cursor: EventID, partitionsMax: Int) {
        self.cursor = cursor
        through = parts.map(\.knownThrough).min() ?? cursor
        let known = through
        entries = parts.flatMap(\.entries).filter { $0.lastID <= known }
            .sorted { $0.lastID < $1.lastID }
        stopWhereNumbersFallBack()
        if parts.contains(where: \.hasMore) { endAtRoundNumber() }
        bound(partitions: partitionsMax)
        findGaps(parts)
    }

    /// The partitions of the entries, each with the lowest offset that is wanted.
    func positions() -> [(topic: Int, partition: Int32, offset: Int64)] {
        var seen: [Place: Int] = [:]
        var positions: [(topic: Int, partition: Int32, offset: Int64)] = []
        for entry in entries where entry.isInKafka {
            let place = Place(topic: entry.topic, partition: entry.partition)
            if let index = seen[place] {
                positions[index].offset = min(positions[index].offset, entry.base)
            } else {
                seen[place] = positions.count
                positions.append((entry.topic, entry.partition, entry.base))
            }
        }
        return positions
    }

    private struct Place: Hashable {
        let topic: Int
        let partition: Int32
    }

    /// After Redis has lost its newest entries numbers begin again from before. What follows is
    /// for the next page, so that one page has its numbers in order.
    private mutating func stopWhereNumbersFallBack() {
        for index in entries.indices.dropFirst()
        where entries[index].firstSequence <= entries[index - 1].lastID.sequence {
            cut(to: index)
            return
        }
    }

    private mutating func endAtRoundNumber() {
        guard let first = entries.first, let last = entries.last else { return }
        let end = Self.roundest(first.lastID.sequence, last.lastID.sequence)
        let count = entries.prefix { $0.lastID.sequence <= end }.count
        if count < entries.count { cut(to: count) }
    }

    private mutating func bound(partitions limit: Int) {
        var seen: Set<Place> = []
        for (index, entry) in entries.enumerated() {
            seen.insert(Place(topic: entry.topic, partition: entry.partition))
            if seen.count > limit {
                cut(to: index)
                return
            }
        }
    }

    private mutating func cut(to count: Int) {
        entries.removeSubrange(count...)
        through = entries[count - 1].lastID
    }

    private mutating func findGaps(_ parts: [IndexPart]) {
        var trimmed: EventID?
        for part in parts {
            if part.indexFloor > cursor {
                trimmed = max(trimmed ?? .zero, min(part.indexFloor, through))
            }
            for id in part.damaged where id <= through {
                gaps.append(GapNotice(from: cursor, to: id, reason: .unreadable))
            }
            // The floor is the ID of an entry. Where the index does not know it, it has been lost.
            let newest = part.entries.last?.lastID ?? cursor
            if !part.hasMore, part.floor <= through, newest < part.floor,
                part.indexFloor < part.floor, part.damaged.last != part.floor
            {
                gaps.append(
                    GapNotice(from: max(newest, cursor), to: part.floor, reason: .historyLost))
            }
        }
        if let trimmed { gaps.append(GapNotice(from: cursor, to: trimmed, reason: .trimmed)) }
    }

    /// The number of `low...high` with the most zero bits at its end.
    static func roundest(_ low: UInt64, _ high: UInt64) -> UInt64 {
        guard low < high else { return high }
        let shift = 63 - (low ^ high).leadingZeroBitCount
        // The numbers share all bits above `shift`; `high` has this one and `low` has not.
        let round = (high >> UInt64(shift)) << UInt64(shift)
        let shared = shift == 63 ? 0 : (low >> UInt64(shift + 1)) << UInt64(shift + 1)
        return shared == low && low != 0 ? low : round
    }
}
