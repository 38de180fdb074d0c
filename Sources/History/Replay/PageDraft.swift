// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire

/// A page of replay in the making: what the windows had, what Kafka had, and what nobody has.
///
/// Does no input or output.
struct PageDraft: Sendable {
    let cursor: EventID
    var through: EventID
    var batches: [EventBatch] = []
    /// The gaps that the page tells of, but for those that windows had in them.
    private(set) var gaps: [GapNotice] = []
    private(set) var isOfKafka = false
    /// Gaps of single topics, beside events of others: they go first.
    private var front: [GapNotice] = []
    private var doubt: GapNotice.Reason?

    init(cursor: EventID, through: EventID) {
        self.cursor = cursor
        self.through = through
    }

    /// The cursor itself may be none.
    mutating func tellDoubts(_ answer: PageAnswer) { doubt = answer.doubt }

    mutating func add(_ page: KafkaPage, _ plan: ReplayPlan) {
        isOfKafka = true
        through = min(through, page.through)
        batches += page.batches
        gaps += page.gaps.filter { $0.to <= through }
        for gap in plan.gaps where gap.from < through {
            front.append(
                GapNotice(
                    from: cursor, to: min(gap.to, through), reason: gap.reason, lost: gap.lost))
        }
    }

    /// Puts everything into its order.
    mutating func close() {
        let end = through
        batches.removeAll { $0.lastID > end }
        batches.sort { $0.lastID < $1.lastID }
        if let doubt {
            let to = batches.first.map { Self.place(before: $0.firstID) } ?? through
            if to > cursor { front.append(GapNotice(from: cursor, to: to, reason: doubt)) }
        }
        // One for each reason, and the one that ends first in front.
        var told: [GapNotice] = []
        for gap in front {
            if let known = told.firstIndex(where: { $0.reason == gap.reason }) {
                told[known] = GapNotice(
                    from: cursor, to: max(told[known].to, gap.to), reason: gap.reason)
            } else {
                told.append(gap)
            }
        }
        front = []
        let first = batches.first?.firstID
        told.sort { $0.to < $1.to }
        var notices: [EventBatch] = []
        for gap in told {
            // Its place is its end, unless a client could be cut among events before that.
            let isApart = first.map { $0 > gap.to } ?? true
            notices.append(isApart && told.count == 1 ? gap.batch : gap.batchBeforeOthers)
        }
        gaps += told
        batches = notices + batches
    }

    private static func place(before id: EventID) -> EventID {
        EventID(milliseconds: id.milliseconds, sequence: max(1, id.sequence) - 1)
    }
}
