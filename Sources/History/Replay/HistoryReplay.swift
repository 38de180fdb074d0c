// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
package import EventStreamWire
import KafkaClient
package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// Serves cursors that the hot window no longer covers: from the Redis window, and where that has
/// let the events go, from Kafka.
///
/// View: node. Threads: requests come from any; the work is done on its loop, and what has to wait
/// for Kafka on the threads of ``KafkaPageReaders``. Requests for the same topics and cursor share
/// one read, which is what a crowd that lost its node asks for. The number of reads under way is
/// bounded, and so are the bytes that clients hold and, for Kafka, the bytes a second; the others
/// wait their turn (``ReplayQueue``).
package final class HistoryReplay: ReplaySource {
    /// What bounds replay, from the configuration.
    package struct Limits: Sendable {
        package var pageBytes: Int
        package var concurrentReads: Int
        /// Bytes of pages that are being sent, kept for others, or read.
        package var heldBytes: Int
        /// Bytes of records a second that are read back from Kafka; 0 is no limit.
        package var kafkaBytesPerSecond: Int

        package init(
            pageBytes: Int, concurrentReads: Int, heldBytes: Int = 64 << 20,
            kafkaBytesPerSecond: Int = 0
        ) {
            self.pageBytes = pageBytes
            self.concurrentReads = max(1, concurrentReads)
            self.heldBytes = heldBytes
            self.kafkaBytesPerSecond = kafkaBytesPerSecond
        }
    }

    typealias Waiter = @Sendable (ReplayOutcome) -> Void

    /// What only the loop touches.
    final class State {
        let connection: RedisConnection
        let encoder: BatchEncoder
        var layout = BatchLayout()
        var queue = ReplayQueue<Waiter>()
        var windowReads = 0
        var kafkaReads = 0
        var cache: PageCache
        var budget: ByteBudget
        /// The newest floor seen of each topic: what lies before it is in Kafka.
        var floors: [String: EventID] = [:]
        /// Bytes of an event, as far as pages of Kafka have shown.
        var eventBytes = 512
        var waitsForTimer = false
        /// Where history went on from before, as of the last page; newest first.
        var ends: [EpochEnd] = []
        let knownTopics: () -> [String]
        let newestID: () -> EventID

        init(
            connection: RedisConnection, encoder: BatchEncoder, limits: Limits,
            knownTopics: @escaping () -> [String], newestID: @escaping () -> EventID
        ) {
            self.newestID = newestID
            self.connection = connection
            self.encoder = encoder
            self.knownTopics = knownTopics
            cache = PageCache(bytesMax: limits.heldBytes / 2)
            budget = ByteBudget(bytesPerSecond: limits.kafkaBytesPerSecond, now: .now)
        }
    }

    let loop: EventLoop
    let keys: HistoryKeys
    let directory: ChannelDirectory
    let limits: Limits
    let readers: KafkaPageReaders
    let account: ReplayAccount
    let metrics: ReplayMetrics
    let gaps: GapMetrics
    let log: Logger
    /// True where it is known that Kafka cannot be reached: nobody has to wait to find that out.
    private let kafkaIsAway: @Sendable () -> Bool
    private let state: LoopBound<State>

    /// Partitions that one page of Kafka touches at most.
    static let partitionsPerPage = 64
    /// Events of one page of Kafka at most, however small they are.
    static let eventsPerPage = 8192
    /// How soon it is looked again whether pages that clients held have been sent.
    private static let retryAfter: Duration = .milliseconds(20)

    /// Made on the loop, or before it starts.
    ///
    /// - Parameters:
    ///   - account: Counts what `encoder` and the encoders of `readers` make.
    ///   - knownTopics: The topics that have history, for subscriptions to everything; called on
    ///     the loop.
    ///   - newestID: The newest ID that this node has given out; called on the loop.
    ///   - kafkaIsAway: True where it is known that Kafka cannot be reached.
    package init(
        loop: EventLoop, connection: RedisConnection, keys: HistoryKeys,
        directory: ChannelDirectory, encoder: BatchEncoder, readers: KafkaPageReaders,
        account: ReplayAccount, limits: Limits, metrics: ReplayMetrics, gaps: GapMetrics,
        log: Logger, knownTopics: @escaping () -> [String],
        newestID: @escaping () -> EventID = { .zero },
        kafkaIsAway: @escaping @Sendable () -> Bool = { false }
    ) {
        self.kafkaIsAway = kafkaIsAway
        self.loop = loop
        self.keys = keys
        self.directory = directory
        self.readers = readers
        self.account = account
        self.limits = limits
        self.metrics = metrics
        self.gaps = gaps
        self.log = log
        state = LoopBound(
            State(
                connection: connection, encoder: encoder, limits: limits, knownTopics: knownTopics,
                newestID: newestID), on: loop)
    }

    package func readPage(
        of subscription: Subscription, after cursor: EventID,
        completion: @escaping @Sendable (ReplayOutcome) -> Void
    ) {
        let accepted = loop.post { [self] in ask(subscription, cursor, completion) }
        if !accepted { completion(.unavailable) }
    }

    private func ask(
        _ subscription: Subscription, _ cursor: EventID, _ completion: @escaping Waiter
    ) {
        let state = state.value
        let topics = directory.topics(of: subscription, known: state.knownTopics()).sorted()
        let question = ReplayQuestion(topics: topics, cursor: cursor)
        if let page = state.cache.page(for: question) {
            metrics.cached.add()
            completion(.page(batches: page.batches, through: page.through))
            readAhead(of: question.topics, from: page.through, state)
            return proceed(state)
        }
        let lane: ReplayQueue<Waiter>.Lane =
            topics.contains { state.floors[$0].map { $0 > cursor } ?? false } ? .kafka : .window
        if state.queue.ask(question, completion, in: lane) { metrics.shared.add() }
        metrics.waiting.set(state.queue.waiting)
        proceed(state)
    }

    /// Somebody has just been given a page that ends there; the next one is wanted soon.
    private func readAhead(of topics: [String], from through: EventID, _ state: State) {
        guard topics.contains(where: { state.floors[$0].map { $0 > through } ?? false }) else {
            return
        }
        let question = ReplayQuestion(topics: topics, cursor: through)
        if !state.cache.has(question) { state.queue.readAhead(question) }
    }

    // MARK: - Turns

    /// Begins as many reads as the limits allow.
    private func proceed(_ state: State) {
        while state.windowReads < limits.concurrentReads,
            state.queue.hasNext(in: .window, ahead: false), hasRoom(state),
            let question = state.queue.next(in: .window)
        {
            state.windowReads += 1
            read(question, .window, state)
        }
        while state.kafkaReads < readers.count,
            state.queue.hasNext(
                in: .kafka, ahead: state.kafkaReads + 1 < readers.count || readers.count == 1),
            hasRoom(state), isInBudget(state),
            let question = state.queue.next(in: .kafka)
        {
            state.kafkaReads += 1
            read(question, .kafka, state)
        }
    }

    private func hasRoom(_ state: State) -> Bool {
        let underWay = (state.windowReads + state.kafkaReads) * limits.pageBytes
        if account.heldBytes + underWay < limits.heldBytes { return true }
        // What is kept for others goes first.
        state.cache.removeAll()
        metrics.heldBytes.set(account.heldBytes)
        if account.heldBytes + underWay < limits.heldBytes || account.heldBytes + underWay == 0 {
            return true
        }
        lookAgain(after: Self.retryAfter, state)
        return false
    }

    private func isInBudget(_ state: State) -> Bool {
        let delay = state.budget.delay(now: loop.now)
        guard delay > .zero else { return true }
        lookAgain(after: delay, state)
        return false
    }

    private func lookAgain(after delay: Duration, _ state: State) {
        guard !state.waitsForTimer else { return }
        state.waitsForTimer = true
        let timer = LoopTimer { [weak self] in
            state.waitsForTimer = false
            self?.proceed(state)
        }
        loop.schedule(timer, after: delay)
    }

    private func finish(
        _ question: ReplayQuestion, _ lane: ReplayQueue<Waiter>.Lane, _ outcome: ReplayOutcome,
        _ state: State
    ) {
        switch lane {
        case .window: state.windowReads -= 1
        case .kafka: state.kafkaReads -= 1
        }
        if case .unavailable = outcome { metrics.unavailable.add() }
        let waiters = state.queue.finish(question)
        metrics.waiting.set(state.queue.waiting)
        metrics.heldBytes.set(account.heldBytes)
        for waiter in waiters { waiter(outcome) }
        if case .page(_, let through) = outcome, lane == .kafka, !waiters.isEmpty {
            readAhead(of: question.topics, from: through, state)
        }
        proceed(state)
    }

    // MARK: - Reading

    private func read(
        _ question: ReplayQuestion, _ lane: ReplayQueue<Waiter>.Lane, _ state: State,
        isAttached: Bool = false
    ) {
        if let end = state.ends.covering(question.cursor) {
            let notice = GapNotice(from: end.from, to: end.to, reason: .historyLost)
            gaps.add(notice)
            return finish(question, lane, .lost(notice: notice), state)
        }
        var scriptKeys = [keys.sequence]
        for topic in question.topics {
            scriptKeys.append(keys.window(topic))
            scriptKeys.append(keys.floor(topic))
            scriptKeys.append(keys.index(topic))
        }
        scriptKeys.append(keys.epochEnds)
        var command = RedisCommand(script: HistoryScripts.page, keys: scriptKeys)
        command.append(question.cursor.milliseconds)
        command.append(question.cursor.sequence)
        command.append(max(4096, limits.pageBytes / max(1, question.topics.count)))
        // A page of Kafka that finds smaller events than expected is small; larger ones end it.
        command.append(
            min(Self.eventsPerPage, max(64, limits.pageBytes / max(1, state.eventBytes))))
        if !isAttached { metrics.pages.add() }
        state.connection.send(command) { [self] result in
            switch result {
            case .failure(let error):
                log.debug("a page of history could not be read", LogField("error", error))
                finish(question, lane, .unavailable, state)
            case .success(let reply):
                let answer = PageAnswer(reply, question)
                // Where history has gone on from before, or the cursor lies ahead of all there is,
                // it may be one of events that Redis has just lost.
                let isNews = answer.newestEnd != state.ends.first
                guard isNews || (answer.isBeyondTip && !isAttached) else {
                    return take(reply, answer, question, lane, state)
                }
                attach(question, lane, state)
            }
        }
    }

    /// Learns where history has gone on from before, and reads again.
    private func attach(
        _ question: ReplayQuestion, _ lane: ReplayQueue<Waiter>.Lane, _ state: State
    ) {
        state.connection.send(.attach(keys, seen: state.newestID())) { [self] result in
            guard case .success(let history) = HistoryState.read(result) else {
                return finish(question, lane, .unavailable, state)
            }
            if state.ends != history.ends {
                // Some of it may be what was lost.
                state.cache.removeAll()
                state.ends = history.ends
            }
            read(question, lane, state, isAttached: true)
        }
    }

    private func take(
        _ reply: RedisReplyView, _ answer: PageAnswer, _ question: ReplayQuestion,
        _ lane: ReplayQueue<Waiter>.Lane, _ state: State
    ) {
        let cursor = question.cursor
        if cursor > answer.tip {
            // A bare time is no ID that anybody claims to have received.
            guard cursor.sequence != .max else {
                return finish(question, lane, .page(batches: [], through: cursor), state)
            }
            let reason = answer.reasonBeyondTip(cursor)
            gaps.add(GapNotice(from: cursor, to: answer.tip, reason: reason))
            return finish(
                question, lane, .unknownCursor(tip: answer.tip, reason: reason), state)
        }
        for part in answer.older { state.floors[question.topics[part.topic]] = part.floor }
        var draft = PageDraft(cursor: cursor, through: answer.windowThrough)
        if answer.older.isEmpty {
            draft.batches = windowBatches(reply, answer, question, state)
            draft.tellDoubts(answer)
            return complete(draft, question, lane, state)
        }
        guard lane == .kafka else {
            // It belongs into the other lane, which has a place of its own for it.
            state.windowReads -= 1
            state.queue.move(question)
            return proceed(state)
        }
        let plan = ReplayPlan(
            answer.older, after: cursor, partitionsMax: Self.partitionsPerPage)
        draft.through = min(draft.through, plan.through)
        draft.batches = windowBatches(reply, answer, question, state)
        draft.tellDoubts(answer)
        readKafka(plan, draft, question, state)
    }

    private func readKafka(
        _ plan: ReplayPlan, _ draft: PageDraft, _ question: ReplayQuestion, _ state: State
    ) {
        guard !kafkaIsAway() else { return finish(question, .kafka, .unavailable, state) }
        let bound = LoopBound(state, on: loop)
        let job = KafkaPageReaders.Job(
            plan: plan, topics: question.topics,
            routes: question.topics.map { directory.route(for: $0) }
        ) { [self] result in
            loop.post { [self] in
                let state = bound.value
                switch result {
                case .failure(let error):
                    log.warning(
                        "old events cannot be read from Kafka", LogField("error", error),
                        LogField("after", question.cursor))
                    finish(question, .kafka, .unavailable, state)
                case .success(let page): take(page, plan, draft, question, state)
                }
            }
        }
        if !readers.read(job) { finish(question, .kafka, .unavailable, state) }
    }

    private func take(
        _ page: KafkaPage, _ plan: ReplayPlan, _ given: PageDraft, _ question: ReplayQuestion,
        _ state: State
    ) {
        metrics.kafkaPages.add()
        metrics.kafkaBytes.add(page.bytes)
        metrics.events.add(page.events)
        state.budget.spend(page.bytes, now: loop.now)
        if page.events > 0 {
            let seen = max(64, page.bytes / page.events)
            state.eventBytes = (state.eventBytes * 3 + seen) / 4
        }
        var draft = given
        draft.add(page, plan)
        complete(draft, question, .kafka, state)
    }

    private func complete(
        _ given: PageDraft, _ question: ReplayQuestion, _ lane: ReplayQueue<Waiter>.Lane,
        _ state: State
    ) {
        var draft = given
        draft.close()
        for gap in draft.gaps { gaps.add(gap) }
        if lane == .kafka, draft.isOfKafka {
            let bytes = draft.batches.reduce(0) { $0 + $1.memoryBytes }
            state.cache.insert(
                .init(
                    topics: question.topics, from: question.cursor, through: draft.through,
                    batches: draft.batches, gaps: draft.gaps, bytes: bytes))
        }
        finish(question, lane, .page(batches: draft.batches, through: draft.through), state)
    }

    /// The batches of those topics whose window still reaches back to the cursor.
    private func windowBatches(
        _ reply: RedisReplyView, _ answer: PageAnswer, _ question: ReplayQuestion, _ state: State
    ) -> [EventBatch] {
        var batches: [EventBatch] = []
        for (index, topic) in question.topics.enumerated() {
            let part = reply[PageAnswer.partsStart + index]
            guard part[3].integer == 0 else { continue }
            let route = directory.route(for: topic)
            var previous = question.cursor
            for place in 0..<part[2].count {
                guard let lastID = try? EventID.parse(part[2][place][0].bytes) else { continue }
                guard lastID <= answer.windowThrough else { break }
                defer { previous = lastID }
                guard let entry = WindowEntry(part[2][place]) else {
                    log.error(
                        "a history entry has no content", LogField("topic", topic),
                        LogField("id", lastID))
                    let notice = GapNotice(from: previous, to: lastID, reason: .unreadable)
                    gaps.add(notice)
                    batches.append(notice.batch)
                    continue
                }
                let batch = WindowEntry.encode(
                    part[2][place][1][7].bytes, entry, topic: topic, route: route,
                    with: state.encoder, layout: &state.layout, isReplay: true
                ) { error in
                    gaps.add(GapNotice(from: previous, to: lastID, reason: .unreadable))
                    log.error(
                        "a history entry cannot be read", LogField("topic", topic),
                        LogField("id", entry.lastID), LogField("error", error))
                }
                guard let batch else { continue }
                if let loss = entry.loss {
                    gaps.add(
                        GapNotice(
                            from: previous, to: lastID, reason: .retention,
                            lost: UInt64(clamping: loss.lost)))
                } else if !batch.isNotice {
                    metrics.events.add(batch.count)
                }
                batches.append(batch)
            }
        }
        return batches
    }
}
