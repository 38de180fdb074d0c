// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
import Bytes
package import EventStreamWire
import Glibc
package import Observability
package import PosixIO
package import Reactor
package import RedisClient

/// What the tail counts. Written by its loop, read by the metrics page.
package final class TailMetrics: Sendable {
    package let events: Counter
    package let batches: Counter
    package let gaps: Counter
    package let losses: Counter
    package let regressions: Counter
    package let unreadable: Counter
    package let topics: Gauge
    package let lastSequence: Gauge
    package let delay: DurationHistogram
    private let newest = Lock(EventID.zero)
    private let tip = Lock(EventID.zero)

    /// The newest ID that history is known to hold, asked for once a second. Any thread may ask.
    package internal(set) var historyTip: EventID {
        get { tip.withLock { $0 } }
        set { tip.withLock { $0 = newValue } }
    }

    /// The newest ID that this node has given out. Any thread may ask.
    package internal(set) var newestID: EventID {
        get { newest.withLock { $0 } }
        set { newest.withLock { $0 = newValue } }
    }

    package init(in registry: MetricsRegistry) {
        events = registry.counter("rivulet_tail_events_total", "Events read from history.")
        batches = registry.counter("rivulet_tail_batches_total", "Batches read from history.")
        gaps = registry.counter(
            "rivulet_tail_gaps_total", "Times the window no longer held what the node had to read.")
        losses = registry.counter(
            "rivulet_tail_losses_total",
            "Entries of history that say that records are lost, which clients were told.")
        regressions = registry.counter(
            "rivulet_tail_regressions_total",
            "Times Redis went on from before what it had given out.")
        unreadable = registry.counter(
            "rivulet_tail_unreadable_total", "History entries this node could not decode.")
        topics = registry.gauge("rivulet_tail_topics", "Topics this node tails.")
        lastSequence = registry.gauge(
            "rivulet_tail_last_sequence", "Sequence number of the newest event on this node.")
        delay = registry.histogram(
            "rivulet_tail_delay_seconds",
            "Time from the append of a batch to its arrival on this node, by both clocks.")
    }
}

/// Follows history: reads every topic's window as it grows, in the one order of the IDs.
///
/// View: node. Threads: its loop's; ``start(_:)`` included. It owns a Redis connection for the
/// blocking read. After a reconnect it goes on from the last IDs it read, so a cut connection
/// loses nothing.
package final class HistoryTail {
    package struct Connections {
        package let blocking: RedisConnection
        package let commands: RedisConnection

        package init(blocking: RedisConnection, commands: RedisConnection) {
            self.blocking = blocking
            self.commands = commands
        }
    }

    /// Entries of one stream in one read, where they are small.
    private static let entriesPerReadMax = 32
    /// Bytes of events in one reply from which on the next read asks for fewer entries. An eighth
    /// of what a connection takes, because the next entries may be larger.
    private static let bytesPerRead = 8 << 20
    /// How long a read may wait in Redis when all is well, and when something is missing.
    private static let blockMilliseconds = 1000
    private static let blockMillisecondsWithHole = 10

    private let loop: EventLoop
    private let connections: Connections
    private let keys: HistoryKeys
    private let directory: ChannelDirectory
    private let encoder: BatchEncoder
    private let metrics: TailMetrics
    private let gaps: GapMetrics?
    private let log: Logger
    private let began: (EventID) -> Void
    private let deliver: ([EventBatch]) -> Void

    private var merge: TailMerge<EventBatch?>?
    /// The newest ID read of each topic's stream.
    private var positions: [String: EventID] = [:]
    private var topics: [String] = []
    private var newsPosition = "0-0"
    private var isReading = false
    /// Adapts to the size of the entries: a reply larger than the connection takes would be asked
    /// for, and lost, for ever.
    private var entriesPerRead = entriesPerReadMax
    private var layout = BatchLayout()
    /// When history is to be attached to anew; at once after a connection was lost.
    private var attachDue = MonotonicTime.now
    package private(set) var lastRead = MonotonicTime.now
    /// The topic whose events are nobody's but ``onCanary``'s: no client is served it.
    package var canaryTopic: String?
    /// Gets the value of each event of that topic, in the order of all events, under the ID of its
    /// batch.
    package var onCanary: ((EventID, [UInt8]) -> Void)?
    /// Those that have been read and wait for their turn in the order.
    private var canaries: [(id: EventID, value: [UInt8])] = []
    private static let canariesMax = 1024
    private lazy var retryTimer = LoopTimer { [weak self] in self?.proceed() }
    private static let attachInterval: Duration = .seconds(1)

    /// - Parameters:
    ///   - began: Called once with the tip from which this node has everything.
    ///   - deliver: Called with batches in the order of their IDs.
    package init(
        loop: EventLoop, connections: Connections, keys: HistoryKeys, directory: ChannelDirectory,
        encoder: BatchEncoder, metrics: TailMetrics, gaps: GapMetrics? = nil, log: Logger,
        began: @escaping (EventID) -> Void, deliver: @escaping ([EventBatch]) -> Void
    ) {
        self.loop = loop
        self.connections = connections
        self.keys = keys
        self.directory = directory
        self.encoder = encoder
        self.metrics = metrics
        self.gaps = gaps
        self.log = log
        self.began = began
        self.deliver = deliver
    }

    /// The topics that have history and may be served, as far as this node knows.
    package var knownTopics: [String] { topics.filter { $0 != canaryTopic } }

    /// Where history went on from before, as far as this node knows; newest first.
    package var knownEnds: [EpochEnd] { merge?.ends ?? [] }

    /// The newest ID that this node has given out.
    package var newestID: EventID { merge?.newestID ?? .zero }

    /// True once the node has a place in history and its last read was answered in time.
    package var isFollowing: Bool {
        merge != nil && MonotonicTime.now - lastRead < .seconds(5)
    }

    /// Begins, and goes on by itself whenever Redis can be reached. Call it again when a
    /// connection has become ready.
    package func proceed() {
        // The server may be another one.
        attachDue = .now
        step()
    }

    private func step() {
        guard !isReading else { return }
        if merge == nil || merge?.wantsTopics == true || attachDue <= .now { return attach() }
        read()
    }

    // MARK: - Which history it is

    /// Attaches to history: at the beginning to find the tip, later to find out whether Redis has
    /// lost what this node has seen, also where nothing arrives.
    private func attach() {
        guard connections.commands.state == .ready else { return }
        isReading = true
        connections.commands.send(.attach(keys, seen: newestID)) { [weak self] result in
            guard let self else { return }
            isReading = false
            switch HistoryState.read(result) {
            case .failure(let error):
                log.warning("cannot attach to history", LogField("error", error))
                loop.schedule(retryTimer, after: .milliseconds(200))
            case .success(let state):
                attachDue = .now + Self.attachInterval
                take(state)
                step()
            }
        }
    }

    private func take(_ state: HistoryState) {
        metrics.historyTip = state.tip
        guard merge != nil else { return begin(at: state) }
        let regression = merge?.learn(state.ends)
        if regression != nil {
            // All that is left after it is read again, topics included.
            let position = merge?.lastID ?? .zero
            for topic in topics { positions[topic] = position }
            newsPosition = "0-0"
        }
        for topic in state.topics { add(topic: topic, from: merge?.lastID ?? .zero) }
        merge?.topicsWereRead()
        if let regression { pass(on: [regression]) }
    }

    private func begin(at state: HistoryState) {
        var merge = TailMerge<EventBatch?>(after: state.tip)
        // None of them covers the tip.
        _ = merge.learn(state.ends)
        self.merge = merge
        for topic in state.topics { add(topic: topic, from: state.tip) }
        metrics.newestID = state.tip
        lastRead = .now
        log.info(
            "following history", LogField("tip", state.tip), LogField("topics", topics.count))
        began(state.tip)
    }

    private func add(topic: String, from position: EventID) {
        guard !topic.isEmpty, positions[topic] == nil else { return }
        positions[topic] = position
        topics.append(topic)
        metrics.topics.set(topics.count)
    }

    // MARK: - Reading

    private func read() {
        guard connections.blocking.state == .ready, let merge else { return }
        isReading = true
        let block = merge.hasHole ? Self.blockMillisecondsWithHole : Self.blockMilliseconds
        var command = RedisCommand("XREAD", reserving: 128 + topics.count * 96)
        command.append("COUNT")
        command.append(entriesPerRead)
        command.append("BLOCK")
        command.append(block)
        command.append("STREAMS")
        command.append(keys.news)
        for topic in topics { command.append(keys.window(topic)) }
        command.append(newsPosition)
        for topic in topics { command.append(positions[topic]!.description) }
        let deadline: Duration = .milliseconds(block) + .seconds(2)
        connections.blocking.send(command, deadline: deadline) { [weak self] result in
            guard let self else { return }
            isReading = false
            switch result {
            case .failure(let error):
                log.debug("a read of history failed", LogField("error", error))
                if error.code != .notConnected { entriesPerRead = 1 }
                loop.schedule(retryTimer, after: .milliseconds(100))
            case .success(let reply):
                lastRead = .now
                take(reply)
                step()
            }
        }
    }

    private func take(_ reply: RedisReplyView) {
        guard var merge else { return }
        var entries: [TailMerge<EventBatch?>.Entry] = []
        var bytes = 0
        for index in 0..<reply.count {
            let stream = reply[index]
            let name = stream[0].text ?? ""
            let items = stream[1]
            if name == keys.news {
                takeNews(items, position: merge.lastID)
                continue
            }
            let topic = String(name.dropFirst(keys.window("").count))
            let route = directory.route(for: topic)
            for place in 0..<items.count {
                bytes += items[place][1][7].bytes.count
                guard let entry = decode(items[place], topic: topic, route: route) else { continue }
                entries.append(entry)
            }
        }
        adaptReads(to: bytes)
        let outputs = merge.take(entries)
        self.merge = merge
        pass(on: outputs)
    }

    private func adaptReads(to bytes: Int) {
        if bytes > Self.bytesPerRead {
            entriesPerRead = max(1, entriesPerRead / 2)
        } else if bytes <= Self.bytesPerRead / 2 {
            entriesPerRead = min(Self.entriesPerReadMax, entriesPerRead * 2)
        }
    }

    private func takeNews(_ items: RedisReplyView, position: EventID) {
        for place in 0..<items.count {
            let item = items[place]
            newsPosition = item[0].text ?? newsPosition
            add(topic: item[1][1].text ?? "", from: position)
        }
    }

    /// Decodes one stream entry. An entry whose ID cannot be read is impossible in a stream; one
    /// whose content cannot be read still has its place in the order.
    private func decode(_ item: RedisReplyView, topic: String, route: TopicRoute)
        -> TailMerge<EventBatch?>.Entry?
    {
        guard let lastID = try? EventID.parse(item[0].bytes) else { return nil }
        positions[topic] = lastID
        let window = WindowEntry(item)
        if let loss = window?.loss {
            metrics.losses.add()
            _ = counted(
                GapNotice(
                    from: lastID, to: lastID, reason: .retention, lost: UInt64(clamping: loss.lost))
            )
        }
        guard let window else {
            metrics.unreadable.add()
            log.error(
                "a history entry has no content", LogField("topic", topic), LogField("id", lastID))
            return nil
        }
        if topic == canaryTopic, window.loss == nil {
            keepCanaries(item[1][7].bytes, window)
            return .init(lastID: lastID, count: window.count, payload: nil)
        }
        let batch = WindowEntry.encode(
            item[1][7].bytes, window, topic: topic, route: route, with: encoder, layout: &layout,
            isReplay: false
        ) { error in
            metrics.unreadable.add()
            _ = counted(GapNotice(from: lastID, to: lastID, reason: .unreadable))
            log.error(
                "a history entry cannot be read", LogField("topic", topic), LogField("id", lastID),
                LogField("error", error))
        }
        return .init(lastID: lastID, count: window.count, payload: batch)
    }

    private func keepCanaries(_ bytes: Span<UInt8>, _ entry: WindowEntry) {
        guard (try? layout.read(bytes, base: entry.base, count: entry.count)) != nil else {
            return metrics.unreadable.add()
        }
        for range in layout.values where canaries.count < Self.canariesMax {
            var value = ByteWriter()
            value.append(bytes.extracting(range))
            canaries.append((entry.lastID, value.bytes))
        }
    }

    /// Gives out the canaries up to this place of the order.
    private func releaseCanaries(through id: EventID) {
        while let first = canaries.first, first.id <= id {
            canaries.removeFirst()
            onCanary?(first.id, first.value)
        }
    }

    private func counted(_ notice: GapNotice) -> GapNotice {
        gaps?.add(notice)
        return notice
    }

    private func pass(on outputs: [TailMerge<EventBatch?>.Output]) {
        var batches: [EventBatch] = []
        for output in outputs {
            switch output {
            case .batch(let entry):
                metrics.batches.add()
                metrics.events.add(entry.count)
                metrics.lastSequence.set(Int64(clamping: entry.lastID.sequence))
                let now = WallClock.milliseconds
                metrics.delay.record(
                    .milliseconds(Int64(now) - Int64(clamping: min(now, entry.lastID.milliseconds)))
                )
                if let batch = entry.payload { batches.append(batch) }
                if !canaries.isEmpty { releaseCanaries(through: entry.lastID) }
            case .gap(let from, let to):
                metrics.gaps.add()
                log.error(
                    "history no longer holds what this node had to read",
                    LogField("from", from), LogField("to", to))
                batches.append(counted(GapNotice(from: from, to: to, reason: .trimmed)).batch)
            case .regressed(let from, let to):
                metrics.regressions.add()
                log.error(
                    "Redis has lost its newest events; they are appended again under new IDs",
                    LogField("from", from), LogField("to", to))
                // Clients are told: what they have after `from` comes again.
                let notice = GapNotice(from: from, to: max(from, to), reason: .historyLost)
                batches.append(counted(notice).batch)
            case .passed(let end):
                log.notice(
                    "history goes on under other numbers; this node has missed nothing",
                    LogField("from", end.from), LogField("to", end.to))
                // For those who come from a node that had seen more than is left.
                batches.append(
                    GapNotice(from: end.from, to: end.to, reason: .historyLost)
                        .batch(forCursorsAfter: end.from))
            }
        }
        metrics.newestID = newestID
        guard !batches.isEmpty else { return }
        deliver(batches)
        // Who serves them goes first, where there is one processor for both: the next read of
        // history can wait for them, and they have waited for the last one.
        sched_yield()
    }
}
