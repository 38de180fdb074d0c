// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
import Bytes
package import EventStreamWire
package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// What one search may cost.
package struct LookbackLimits: Sendable {
    /// Events that are read to find those that match: some seconds of work for a rare filter.
    package var eventsMax = 500_000
    /// Searches under way at once; each holds one page, and the others wait their turn.
    package var concurrentSearches = 2
    /// Events of the first part that is looked at, at least: about what fits one page.
    package var partEventsMin = 256
    /// Events of one part at most, so that a search does not read much more than it needs.
    package var partEventsMax = 65_536

    package init() {}
}

/// What searches count. Written by their loop, read by the metrics page.
package final class LookbackMetrics: Sendable {
    package let searches: Counter
    package let events: Counter
    package let limited: Counter

    package init(in registry: MetricsRegistry) {
        searches = registry.counter(
            "rivulet_lookback_searches_total", "Searches in history for the last matching events.")
        events = registry.counter(
            "rivulet_lookback_events_total", "Events that searches have looked at.")
        limited = registry.counter(
            "rivulet_lookback_limited_total",
            "Searches that ended with fewer events because they had looked at as many as they may.")
    }
}

/// Finds where the last N matching events begin, behind what the hot window holds.
///
/// View: node. Threads: requests come from any; the work is done on its loop. The index says how
/// far back a number of events lies, without a look at any of them; that part is then read forwards
/// with the pages of replay, from whichever tier has it. Where too few match, the part before it is
/// read, which is larger.
package final class HistoryLookback: HistorySource {
    private struct Question: Hashable {
        let subscription: Subscription
        let count: Int
        let end: EventID
    }

    /// One search under way.
    private final class Search {
        let question: Question
        let topics: [String]
        var matches: NewestMatches
        /// The part that is being read: events after `partStart`, up to `partEnd`.
        var partStart = EventID.zero
        var partEnd: EventID
        var partEvents: Int
        var cursor = EventID.zero
        /// The first gap of the part that is being read.
        var gap: GapNotice?
        var lookedAt = 0

        init(_ question: Question, topics: [String], partEvents: Int) {
            self.question = question
            self.topics = topics
            self.partEvents = partEvents
            matches = NewestMatches(wanted: question.count)
            partEnd = question.end
        }
    }

    private final class State {
        let connection: RedisConnection
        let knownTopics: () -> [String]
        var waiting: [Question: [@Sendable (LookbackOutcome) -> Void]] = [:]
        var order = RingQueue<Question>()
        var underWay = 0

        init(_ connection: RedisConnection, knownTopics: @escaping () -> [String]) {
            self.connection = connection
            self.knownTopics = knownTopics
        }
    }

    private let loop: EventLoop
    private let keys: HistoryKeys
    private let directory: ChannelDirectory
    private let pages: any ReplaySource
    private let limits: LookbackLimits
    private let metrics: LookbackMetrics
    private let log: Logger
    private let state: LoopBound<State>

    /// Made on the loop, or before it starts.
    ///
    /// - Parameters:
    ///   - pages: Reads history forwards.
    ///   - knownTopics: The topics that have history, for subscriptions to everything; called on
    ///     the loop.
    package init(
        loop: EventLoop, connection: RedisConnection, keys: HistoryKeys,
        directory: ChannelDirectory, pages: any ReplaySource,
        limits: LookbackLimits = LookbackLimits(), metrics: LookbackMetrics, log: Logger,
        knownTopics: @escaping () -> [String]
    ) {
        self.loop = loop
        self.keys = keys
        self.directory = directory
        self.pages = pages
        self.limits = limits
        self.metrics = metrics
        self.log = log
        state = LoopBound(State(connection, knownTopics: knownTopics), on: loop)
    }

    package func readPage(
        of subscription: Subscription, after cursor: EventID,
        completion: @escaping @Sendable (ReplayOutcome) -> Void
    ) {
        pages.readPage(of: subscription, after: cursor, completion: completion)
    }

    package func findStart(
        of subscription: Subscription, last count: Int, through end: EventID,
        completion: @escaping @Sendable (LookbackOutcome) -> Void
    ) {
        let question = Question(subscription: subscription, count: count, end: end)
        let accepted = loop.post { [self] in ask(question, completion) }
        if !accepted { completion(.unavailable) }
    }

    private func ask(
        _ question: Question, _ completion: @escaping @Sendable (LookbackOutcome) -> Void
    ) {
        let state = state.value
        if state.waiting[question] != nil {
            state.waiting[question]!.append(completion)
            return
        }
        state.waiting[question] = [completion]
        state.order.append(question)
        searchNext(state)
    }

    private func searchNext(_ state: State) {
        while state.underWay < limits.concurrentSearches, let question = state.order.popFirst() {
            state.underWay += 1
            metrics.searches.add()
            let topics = directory.topics(
                of: question.subscription, known: state.knownTopics()
            ).sorted()
            // More than are wanted: not all of them will match.
            let events = min(limits.partEventsMax, max(limits.partEventsMin, question.count * 2))
            locate(Search(question, topics: topics, partEvents: events), state)
        }
    }

    private func finish(_ search: Search, _ outcome: LookbackOutcome, _ state: State) {
        metrics.events.add(search.lookedAt)
        let completions = state.waiting.removeValue(forKey: search.question) ?? []
        for completion in completions { completion(outcome) }
        state.underWay -= 1
        searchNext(state)
    }

    // MARK: - One part after the other

    /// Asks the index where the next part begins.
    private func locate(_ search: Search, _ state: State) {
        guard !search.topics.isEmpty else {
            return finish(search, .start(nil, notice: nil), state)
        }
        var command = RedisCommand(
            script: HistoryScripts.lookback, keys: search.topics.map { keys.index($0) })
        command.append(search.partEnd.milliseconds)
        command.append(search.partEnd.sequence)
        command.append(search.partEvents)
        state.connection.send(command) { [self] result in
            guard case .success(let reply) = result else {
                log.debug("the index could not be read backwards")
                return finish(search, .unavailable, state)
            }
            // The newest of the places where one topic alone has as many events.
            var start = EventID.zero
            for index in 0..<reply.count {
                if let place = try? EventID.parse(reply[index].bytes) { start = max(start, place) }
            }
            search.partStart = start
            search.cursor = start
            search.gap = nil
            read(search, state)
        }
    }

    /// Reads the part forwards.
    private func read(_ search: Search, _ state: State) {
        guard search.cursor < search.partEnd else { return endPart(search, state) }
        let loop = loop
        let bound = LoopBound(search, on: loop)
        pages.readPage(of: search.question.subscription, after: search.cursor) { outcome in
            // Where the loop has stopped, the hub that asked has too.
            loop.post { [self] in pageArrived(outcome, bound.value, self.state.value) }
        }
    }

    private func pageArrived(_ outcome: ReplayOutcome, _ search: Search, _ state: State) {
        switch outcome {
        case .unavailable: finish(search, .unavailable, state)
        // History is shorter than it was a moment ago: what was asked for is no longer there.
        case .unknownCursor: finish(search, .start(search.matches.start, notice: nil), state)
        case .lost(let notice):
            if search.gap == nil { search.gap = notice }
            guard notice.to > search.cursor else { return endPart(search, state) }
            search.cursor = notice.to
            read(search, state)
        case .page(let batches, let through):
            for batch in batches where batch.firstID <= search.partEnd {
                if let gap = batch.gap, search.gap == nil { search.gap = gap }
                guard !batch.isNotice else { continue }
                search.lookedAt += batch.count
                batch.forEachMatch(for: search.question.subscription, after: search.cursor) {
                    if $0 <= search.partEnd { search.matches.add($0) }
                }
            }
            // A page that leads nowhere ends the part, or the search would never end.
            guard through > search.cursor else { return endPart(search, state) }
            search.cursor = through
            read(search, state)
        }
    }

    private func endPart(_ search: Search, _ state: State) {
        search.matches.endPart()
        let start = search.matches.start
        if search.matches.isComplete {
            return finish(search, .start(start, notice: nil), state)
        }
        let reached = search.partStart
        // Before a gap that begins where the part does, nothing is kept.
        if let gap = search.gap, gap.from <= reached || reached == .zero {
            let to = min(gap.to, start ?? search.question.end)
            let notice = GapNotice(from: gap.from, to: to, reason: gap.reason)
            return finish(search, .start(start, notice: notice), state)
        }
        if reached == .zero { return finish(search, .start(start, notice: nil), state) }
        if search.lookedAt >= limits.eventsMax {
            metrics.limited.add()
            let notice = GapNotice(from: .zero, to: reached, reason: .lookbackLimit)
            return finish(search, .start(start, notice: notice), state)
        }
        search.partEnd = reached
        search.partEvents = min(limits.partEventsMax, search.partEvents * 4)
        locate(search, state)
    }
}

extension HistoryScripts {
    /// How far back a number of events lies: for each index stream the cursor after which it has at
    /// least so many up to and including an ID, or as many as one call looks at; `0-0` where it has
    /// fewer.
    package static let lookback = RedisScript(
        name: "lookback",
        body: """
            local wanted = tonumber(ARGV[3])
            local steps = math.max(1, math.floor(64 / #KEYS))
            local reply = {}
            for key = 1, #KEYS do
              local stop, sum, place = ARGV[1] .. '-' .. ARGV[2], 0, '0-0'
              for step = 1, steps do
                local got = redis.call('XREVRANGE', KEYS[key], stop, '-', 'COUNT', 64)
                for _, entry in ipairs(got) do
                  local count = tonumber(entry[2][6])
                  sum = sum + count
                  local ms, n = string.match(entry[1], '^(%d+)-(%d+)$')
                  place = string.format('%s-%.0f', ms, tonumber(n) - count)
                  stop = '(' .. entry[1]
                  if sum >= wanted then break end
                end
                if sum >= wanted then break end
                if #got < 64 then place = '0-0' break end
              end
              reply[key] = place
            end
            return reply
            """)
}
