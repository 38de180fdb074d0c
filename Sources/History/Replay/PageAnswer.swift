// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire
import RedisClient

/// What ``HistoryScripts/page`` said, but for the bytes of the window.
struct PageAnswer {
    /// The newest ID there is.
    let tip: EventID
    /// Redis' clock, in milliseconds since 1970.
    let now: UInt64
    /// Where history last went on from before.
    let newestEnd: EpochEnd?
    /// The topics whose window no longer reaches back to the cursor.
    private(set) var older: [IndexPart] = []
    /// Up to here the windows of the other topics have been read.
    private(set) var windowThrough: EventID
    /// Why the cursor is none that was given out here, or that history has gone back behind;
    /// `nil` where nothing speaks against it.
    private(set) var doubt: GapNotice.Reason?

    /// Where the parts of the topics begin in the reply.
    static let partsStart = 4

    init(_ reply: RedisReplyView, _ question: ReplayQuestion) {
        tip = EventID(
            milliseconds: reply[0].text.flatMap { UInt64($0) } ?? 0,
            sequence: reply[1].text.flatMap { UInt64($0) } ?? 0)
        now = reply[2].text.flatMap { UInt64($0) } ?? 0
        newestEnd = reply[3].text.flatMap { EpochEnd.parse($0) }
        isBeyondTip = question.cursor > tip && question.cursor.sequence != .max
        windowThrough = tip
        for index in question.topics.indices {
            let part = reply[Self.partsStart + index]
            if part[3].integer == 1 {
                let read = Self.indexPart(part, topic: index)
                older.append(read)
                windowThrough = min(windowThrough, read.knownThrough)
            }
        }
        // A topic that has more holds everything back that lies behind what was read of it.
        for index in question.topics.indices {
            let part = reply[Self.partsStart + index]
            guard part[3].integer == 0, part[1].integer == 1 else { continue }
            let entries = part[2]
            if let last = try? EventID.parse(entries[entries.count - 1][0].bytes) {
                windowThrough = min(windowThrough, last)
            }
        }
        findDoubt(reply, question)
    }

    /// True where the cursor claims to be of an event newer than all there are.
    private(set) var isBeyondTip = false

    /// Why a cursor beyond the tip is none.
    func reasonBeyondTip(_ cursor: EventID) -> GapNotice.Reason {
        cursor.milliseconds > max(now, tip.milliseconds) ? .futureID : .unknownID
    }

    private static func indexPart(_ part: RedisReplyView, topic: Int) -> IndexPart {
        var read = IndexPart(
            topic: topic, entries: [], hasMore: part[1].integer == 1,
            floor: (try? EventID.parse(part[0].bytes)) ?? .zero,
            indexFloor: (try? EventID.parse(part[4].bytes)) ?? .zero)
        var anew: [Int32: EventID] = [:]
        for place in stride(from: 0, to: part[6].count - 1, by: 2) {
            guard let partition = part[6][place].text.flatMap({ Int32($0) }) else { continue }
            anew[partition] = try? EventID.parse(part[6][place + 1].bytes)
        }
        for place in 0..<part[2].count {
            if var entry = IndexEntry(part[2][place], topic: topic) {
                if let since = anew[entry.partition] {
                    entry.isOfEarlierTopic = entry.lastID <= since
                }
                read.entries.append(entry)
            } else if let id = try? EventID.parse(part[2][place][0].bytes) {
                read.damaged.append(id)
            }
        }
        return read
    }

    /// Numbers ascend with time. A cursor whose number lies elsewhere than its time does was not
    /// given out here; one that was, and is followed by lower numbers, is of what Redis has lost.
    ///
    /// What lies before the cursor and after it is known of the question's topics only, so a
    /// cursor may be foreign all the same. A time, and a number that is never given, claim nothing.
    private mutating func findDoubt(_ reply: RedisReplyView, _ question: ReplayQuestion) {
        let cursor = question.cursor
        guard cursor.sequence != .max, cursor.sequence != 0, cursor <= tip else { return }
        var isKnown = false
        var isForeign = false
        var fallsBack = false
        for index in question.topics.indices {
            let part = reply[Self.partsStart + index]
            if let before = try? EventID.parse(part[5].bytes) {
                if before == cursor { isKnown = true }
                if before.sequence > cursor.sequence { isForeign = true }
            }
            let first = part[2][0]
            guard let next = try? EventID.parse(first[0].bytes),
                let count = first[1][5].text.flatMap({ UInt64($0) }), count > 0,
                count <= next.sequence
            else { continue }
            let firstSequence = next.sequence - count + 1
            if next.milliseconds == cursor.milliseconds, firstSequence <= cursor.sequence {
                isKnown = true
            } else if firstSequence <= cursor.sequence {
                fallsBack = true
            }
        }
        if isKnown {
            doubt = fallsBack ? .historyLost : nil
        } else if isForeign || fallsBack {
            doubt = .unknownID
        }
    }
}
