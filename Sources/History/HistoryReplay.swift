// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
import Bytes
package import EventStreamWire
package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// What replay counts. Written by its loop, read by the metrics page.
package final class ReplayMetrics: Sendable {
    package let pages: Counter
    package let shared: Counter
    package let events: Counter
    package let gaps: Counter
    package let losses: Counter
    package let unknownCursors: Counter
    package let waiting: Gauge

    package init(in registry: MetricsRegistry) {
        pages = registry.counter("rivulet_replay_pages_total", "Pages read from the Redis window.")
        shared = registry.counter(
            "rivulet_replay_shared_total", "Requests answered by a page that another one asked for."
        )
        events = registry.counter("rivulet_replay_events_total", "Events read back from history.")
        gaps = registry.counter(
            "rivulet_replay_gaps_total", "Gaps told to clients, by reason.",
            [("reason", GapNotice.Reason.trimmed.rawValue)])
        unknownCursors = registry.counter(
            "rivulet_replay_gaps_total", "Gaps told to clients, by reason.",
            [("reason", GapNotice.Reason.unknownID.rawValue)])
        losses = registry.counter(
            "rivulet_replay_gaps_total", "Gaps told to clients, by reason.",
            [("reason", GapNotice.Reason.retention.rawValue)])
        waiting = registry.gauge("rivulet_replay_waiting", "Requests for a page that wait.")
    }
}

/// Serves cursors that the hot window no longer covers, from the Redis window.
///
/// View: node. Threads: requests come from any; the work is done on its loop. Requests for the
/// same topics and cursor share one read, which is what a crowd that lost its node asks for. The
/// number of reads under way is bounded, the others wait their turn.
package final class HistoryReplay: ReplaySource {
    private struct Question: Hashable {
        let topics: [String]
        let cursor: EventID
    }

    /// What only the loop touches.
    private final class State {
        var connection: RedisConnection
        var encoder: BatchEncoder
        var layout = BatchLayout()
        var waiting: [Question: [@Sendable (ReplayOutcome) -> Void]] = [:]
        var order = RingQueue<Question>()
        var underWay = 0
        var knownTopics: () -> [String]

        init(
            connection: RedisConnection, encoder: BatchEncoder,
            knownTopics: @escaping () -> [String]
        ) {
            self.connection = connection
            self.encoder = encoder
            self.knownTopics = knownTopics
        }
    }

    private let loop: EventLoop
    private let keys: HistoryKeys
    private let directory: ChannelDirectory
    private let pageBytes: Int
    private let concurrentReads: Int
    private let metrics: ReplayMetrics
    private let log: Logger
    private let state: LoopBound<State>

    /// Made on the loop, or before it starts.
    ///
    /// - Parameter knownTopics: The topics that have history, for subscriptions to everything;
    ///   called on the loop.
    package init(
        loop: EventLoop, connection: RedisConnection, keys: HistoryKeys,
        directory: ChannelDirectory, encoder: BatchEncoder, pageBytes: Int, concurrentReads: Int,
        metrics: ReplayMetrics, log: Logger, knownTopics: @escaping () -> [String]
    ) {
        self.loop = loop
        self.keys = keys
        self.directory = directory
        self.pageBytes = pageBytes
        self.concurrentReads = max(1, concurrentReads)
        self.metrics = metrics
        self.log = log
        state = LoopBound(
            State(connection: connection, encoder: encoder, knownTopics: knownTopics), on: loop)
    }

    package func readPage(
        of subscription: Subscription, after cursor: EventID,
        completion: @escaping @Sendable (ReplayOutcome) -> Void
    ) {
        let accepted = loop.post { [self] in ask(subscription, cursor, completion) }
        if !accepted { completion(.unavailable) }
    }

    private func ask(
        _ subscription: Subscription, _ cursor: EventID,
        _ completion: @escaping @Sendable (ReplayOutcome) -> Void
    ) {
        let state = state.value
        let topics = directory.topics(of: subscription, known: state.knownTopics()).sorted()
        let question = Question(topics: topics, cursor: cursor)
        if state.waiting[question] != nil {
            metrics.shared.add()
            state.waiting[question]!.append(completion)
            return
        }
        state.waiting[question] = [completion]
        state.order.append(question)
        metrics.waiting.set(state.waiting.count)
        readNext(state)
    }

    private func readNext(_ state: State) {
        while state.underWay < concurrentReads, let question = state.order.popFirst() {
            state.underWay += 1
            read(question, state)
        }
    }

    private func read(_ question: Question, _ state: State) {
        var scriptKeys = [keys.sequence]
        for topic in question.topics {
            scriptKeys.append(keys.window(topic))
            scriptKeys.append(keys.floor(topic))
        }
        var command = RedisCommand(script: HistoryScripts.page, keys: scriptKeys)
        command.append(question.cursor.milliseconds)
        command.append(question.cursor.sequence)
        command.append(max(4096, pageBytes / max(1, question.topics.count)))
        metrics.pages.add()
        state.connection.send(command) { [self] result in
            let outcome: ReplayOutcome
            switch result {
            case .failure(let error):
                log.debug("a page of history could not be read", LogField("error", error))
                outcome = .unavailable
            case .success(let reply): outcome = page(reply, question, state)
            }
            let completions = state.waiting.removeValue(forKey: question) ?? []
            metrics.waiting.set(state.waiting.count)
            for completion in completions { completion(outcome) }
            state.underWay -= 1
            readNext(state)
        }
    }

    private func page(_ reply: RedisReplyView, _ question: Question, _ state: State)
        -> ReplayOutcome
    {
        let tip = EventID(
            milliseconds: reply[0].text.flatMap { UInt64($0) } ?? 0,
            sequence: reply[1].text.flatMap { UInt64($0) } ?? 0)
        let cursor = question.cursor
        if cursor > tip {
            // A bare time is no ID that anybody claims to have received.
            guard cursor.sequence != .max else { return .page(batches: [], through: cursor) }
            metrics.unknownCursors.add()
            return .unknownCursor(tip: tip)
        }
        // A topic that has more holds everything back that lies behind what was read of it.
        var through = tip
        for (index, _) in question.topics.enumerated() where reply[index + 2][1].integer == 1 {
            let entries = reply[index + 2][2]
            if let last = try? EventID.parse(entries[entries.count - 1][0].bytes) {
                through = min(through, last)
            }
        }
        var batches: [EventBatch] = []
        var floor: EventID?
        for (index, topic) in question.topics.enumerated() {
            let part = reply[index + 2]
            if let mark = try? EventID.parse(part[0].bytes) { floor = max(floor ?? mark, mark) }
            let route = directory.route(for: topic)
            var previous = cursor
            for place in 0..<part[2].count {
                guard let lastID = try? EventID.parse(part[2][place][0].bytes) else { continue }
                guard lastID <= through else { break }
                defer { previous = lastID }
                guard let entry = WindowEntry(part[2][place]) else {
                    log.error(
                        "a history entry has no content", LogField("topic", topic),
                        LogField("id", lastID))
                    let notice = GapNotice(from: previous, to: lastID, reason: .unreadable)
                    batches.append(notice.batch)
                    continue
                }
                let batch = WindowEntry.encode(
                    part[2][place][1][7].bytes, entry, topic: topic, route: route,
                    with: state.encoder, layout: &state.layout, isReplay: true
                ) { error in
                    log.error(
                        "a history entry cannot be read", LogField("topic", topic),
                        LogField("id", entry.lastID), LogField("error", error))
                }
                guard let batch else { continue }
                if entry.loss != nil {
                    metrics.losses.add()
                } else {
                    metrics.events.add(batch.count)
                }
                batches.append(batch)
            }
        }
        batches.sort { $0.lastID < $1.lastID }
        if let floor, let end = Self.gapEnd(floor, batches, after: cursor, through: through) {
            metrics.gaps.add()
            batches.append(GapNotice(from: cursor, to: end, reason: .trimmed).batch)
            batches.sort { $0.lastID < $1.lastID }
        }
        return .page(batches: batches, through: through)
    }

    /// Where the notice of a gap belongs in a page; `nil` where the page misses nothing.
    ///
    /// That is the floor. Where the floor lies behind the page, a later page will tell of it; what
    /// this page misses ends at the latest before the last batch that does not follow the one
    /// before it, in a place that no event of the page has.
    private static func gapEnd(
        _ floor: EventID, _ batches: [EventBatch], after cursor: EventID, through: EventID
    ) -> EventID? {
        guard floor > through else { return floor }
        var end: EventID?
        var previous = cursor
        for batch in batches {
            let before = EventID(
                milliseconds: batch.firstID.milliseconds,
                sequence: max(1, batch.firstID.sequence) - 1)
            if before > previous, before.sequence != previous.sequence { end = before }
            previous = batch.lastID
        }
        return end
    }
}
