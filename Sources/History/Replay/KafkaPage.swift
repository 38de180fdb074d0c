// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import KafkaClient

/// Batches read back from Kafka, as they were when they were new.
struct KafkaPage: Sendable {
    var batches: [EventBatch] = []
    var through: EventID
    /// Gaps among ``batches``.
    var gaps: [GapNotice] = []
    var events = 0
    /// Bytes of the records, for the budget.
    var bytes = 0
}

/// Makes one page after the other out of records.
///
/// View: one reader of a node. Threads: one at a time; it waits for the records.
final class KafkaPageBuilder {
    private let source: any RecordSource
    private let encoder: BatchEncoder
    private let bytesMax: Int
    private var layout = BatchLayout()

    /// What the page that is being made consists of so far.
    private struct Progress {
        var page: KafkaPage
        /// Lost events in a row, of whatever topics: told once.
        var loss: GapNotice?
        /// The events of one entry that lie together.
        var run: BatchEncoding
        var runRow = 0
    }

    /// - Parameter bytesMax: Bytes of records that end a page; the entry that reaches them is its
    ///   last one.
    init(source: any RecordSource, encoder: BatchEncoder, bytesMax: Int) {
        self.source = source
        self.encoder = encoder
        self.bytesMax = bytesMax
    }

    /// Reads the page. Where Kafka stops answering in the middle, what there is of whole entries is
    /// a page too.
    ///
    /// - Throws: Why there is not even one entry.
    func page(_ plan: ReplayPlan, topics: [String], routes: [TopicRoute]) throws(KafkaError)
        -> KafkaPage
    {
        var progress = Progress(
            page: KafkaPage(through: plan.through), run: BatchEncoding(base: 0))
        if !plan.entries.isEmpty {
            try source.place(
                plan.positions().map { (TopicPartition(topics[$0.topic], $0.partition), $0.offset) }
            )
        }
        for (index, entry) in plan.entries.enumerated() {
            let topic = topics[entry.topic]
            let problem = read(entry, topic, routes[entry.topic], after: plan.cursor, &progress)
            if let problem {
                guard index > 0 else { throw problem }
                progress.page.through = plan.entries[index - 1].lastID
                break
            }
            if progress.page.bytes >= bytesMax, index + 1 < plan.entries.count {
                progress.page.through = entry.lastID
                break
            }
        }
        tellLoss(&progress)
        return progress.page
    }

    /// Adds the events of one entry; returns why it could not, and then has added nothing.
    private func read(
        _ entry: IndexEntry, _ topic: String, _ route: TopicRoute, after cursor: EventID,
        _ progress: inout Progress
    ) -> KafkaError? {
        if let loss = entry.loss {
            tellLoss(&progress)
            if let notice = loss.notice(at: entry.lastID, route: route) {
                progress.page.batches.append(notice)
                progress.page.gaps.append(
                    GapNotice(
                        from: entry.place(beforeRow: 0), to: entry.lastID, reason: .retention))
            }
            return nil
        }
        guard let offsets = entry.offsets() else {
            lose(entry, row: entry.count - 1, events: entry.count, .unreadable, &progress)
            return nil
        }
        let before = progress
        let partition = TopicPartition(topic, entry.partition)
        // What the client already has of the entry is not read again.
        let firstRow =
            entry.place(beforeRow: 0) >= cursor
            ? 0 : Int(min(UInt64(entry.count), cursor.sequence - entry.firstSequence + 1))
        if entry.isOfEarlierTopic {
            lose(
                entry, row: entry.count - 1, events: entry.count - firstRow, .kafkaLost, &progress)
            return nil
        }
        progress.run = BatchEncoding(base: offsets[min(firstRow, entry.count - 1)])
        progress.runRow = firstRow
        for row in firstRow..<entry.count {
            switch source.append(recordAt: offsets[row], of: partition, to: &progress.run) {
            case .appended: if progress.run.count == 1 { progress.runRow = row }
            case .lost(let reason):
                finishRun(entry, topic, route, &progress)
                lose(entry, row: row, events: 1, reason, &progress)
                progress.run = BatchEncoding(base: row + 1 < entry.count ? offsets[row + 1] : 0)
            case .unavailable(let error):
                progress = before
                return error
            }
        }
        finishRun(entry, topic, route, &progress)
        return nil
    }

    private func finishRun(
        _ entry: IndexEntry, _ topic: String, _ route: TopicRoute, _ progress: inout Progress
    ) {
        let count = progress.run.count
        guard count > 0 else { return }
        tellLoss(&progress)
        let bytes = progress.run.writer.bytes
        let span = bytes.span
        let window = WindowEntry(
            lastID: entry.id(ofRow: progress.runRow + count - 1), partition: entry.partition,
            base: progress.run.base, count: count)
        let batch = WindowEntry.encode(
            span, window, topic: topic, route: route, with: encoder, layout: &layout,
            isReplay: true
        ) { error in preconditionFailure("a batch of our own cannot be read: \(error)") }
        progress.page.bytes += bytes.count
        progress.run = BatchEncoding(base: 0)
        guard let batch else { return }
        progress.page.events += count
        progress.page.batches.append(batch)
    }

    /// Counts `events` events up to `row` as lost.
    private func lose(
        _ entry: IndexEntry, row: Int, events: Int, _ reason: GapNotice.Reason,
        _ progress: inout Progress
    ) {
        let to = entry.id(ofRow: row)
        if let loss = progress.loss, loss.reason == reason {
            progress.loss = GapNotice(
                from: loss.from, to: to, reason: reason,
                lost: (loss.lost ?? 0) + UInt64(events))
            return
        }
        tellLoss(&progress)
        progress.loss = GapNotice(
            from: entry.place(beforeRow: row + 1 - events), to: to, reason: reason,
            lost: UInt64(events))
    }

    private func tellLoss(_ progress: inout Progress) {
        guard let loss = progress.loss else { return }
        progress.loss = nil
        progress.page.gaps.append(loss)
        progress.page.batches.append(loss.batch)
    }
}
