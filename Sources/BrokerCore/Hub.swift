// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Compression
package import EventStreamWire
import Observability
import PosixIO
package import Reactor

/// The subscribers of one event loop: pushes new batches, serves those who lag, keeps them alive.
///
/// View: shard. Threads: only its own loop. Lives as long as the loop.
///
/// Batches that arrive within one turn of the loop leave together: one write for each connection
/// that is caught up and wants any of them, prepared once for each ``SubscriptionClass``. A
/// connection whose socket is full keeps its cursor and pulls when it can take more.
package final class Hub: EndOfTurnWork {
    /// What a hub needs to know. Times are those of the configuration.
    package struct Settings: Sendable {
        package var heartbeat: Duration
        package var stuckAfter: Duration
        package var retry: Duration
        package var windowBytes: Int
        /// What holds for subscriptions to one channel that has a rule of its own.
        package var lagRules: [Int: LagRule] = [:]
        /// What holds for all others.
        package var lagRule = LagRule()

        package init(heartbeat: Duration, stuckAfter: Duration, retry: Duration, windowBytes: Int) {
            self.heartbeat = heartbeat
            self.stuckAfter = stuckAfter
            self.retry = retry
            self.windowBytes = windowBytes
        }
    }

    /// Names one subscriber for as long as it lives.
    package struct Key: Sendable, Hashable {
        let slab: Slab<Subscriber>.Key
        /// The key in one word, for a stream to carry.
        package var packed: UInt64 { slab.packed }
        package init(packed: UInt64) { slab = .init(packed: packed) }
        init(slab: Slab<Subscriber>.Key) { self.slab = slab }
    }

    package let metrics = HubMetrics()

    let loop: EventLoop
    private let settings: Settings
    private let replay: any ReplaySource
    private var random: any RandomNumberGenerator
    var window: HotWindow
    private var classes: [SubscriptionClass.Key: SubscriptionClass] = [:]
    private var compressors: [ContentCoding: ChunkCompressor] = [:]
    var subscribers = Slab<Subscriber>()
    /// Batches before this ordinal have been pushed to those who were caught up.
    var pushedOrdinal: UInt64 = 0
    private var turnIsPending = false
    /// True once it has sent everybody away.
    private(set) var isDraining = false
    private var sweepTimer: LoopTimer?
    private var sweepPosition: UInt32 = 0
    var lagTimer: LoopTimer?

    // Used again for every push, so that delivering allocates nothing.
    private var slices: [Range<Int>] = []
    private var pieces = PieceList()
    /// Chunks that `pieces` points into and that nobody else may be holding.
    private var piecesOwners: [SharedBytes] = []

    /// What one pull offers a socket at most: more than any socket buffer takes at once.
    private static let pullBytesMax = 4 * 1024 * 1024
    /// The hub looks after a 64th of its subscribers each sweep, so that heartbeats do not wake
    /// all sockets in one instant.
    private static let sweepShares: UInt32 = 64
    static let lagCheckInterval: Duration = .milliseconds(250)
    private static let heartbeat = Array(":\n".utf8)

    /// - Parameter startingAfter: The tip of history when the node began to tail it.
    package init(
        loop: EventLoop, settings: Settings, replay: any ReplaySource, startingAfter: EventID,
        random: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.loop = loop
        self.settings = settings
        self.replay = replay
        self.random = random
        window = HotWindow(bytesMax: settings.windowBytes, startingAfter: startingAfter)
    }

    /// Begins the sweep for heartbeats and stuck connections.
    package func start() {
        let timer = LoopTimer { [weak self] in self?.sweep() }
        sweepTimer = timer
        loop.schedule(timer, after: settings.heartbeat / Int(Self.sweepShares))
        let lagTimer = LoopTimer { [weak self] in self?.checkLag() }
        self.lagTimer = lagTimer
        loop.schedule(lagTimer, after: Self.lagCheckInterval)
    }

    package func stop() {
        for timer in [sweepTimer, lagTimer] {
            if let timer { loop.cancel(timer) }
        }
        sweepTimer = nil
        lagTimer = nil
    }

    // MARK: - Events in

    /// Takes batches in the order of their IDs, each newer than all before.
    package func publish(_ batches: [EventBatch]) {
        for batch in batches { window.append(batch) }
        guard !turnIsPending else { return }
        turnIsPending = true
        loop.atEndOfTurn(self)
    }

    package func runAtEndOfTurn() {
        turnIsPending = false
        let from = pushedOrdinal
        // Before the pushes: who is served below and reaches the end is caught up from here on.
        pushedOrdinal = window.endOrdinal
        for members in classes.values { push(to: members, from: from) }
        // Only now: a burst larger than the window must reach those who are caught up.
        window.trim()
        metrics.windowBytes.set(window.bytes)
    }

    /// The newest ID this hub has seen.
    package var lastID: EventID { window.lastID }

    /// The cursor of who subscribes now to new events only: those of this very turn, not yet
    /// pushed, count as new.
    package var liveCursor: EventID { window.cursor(before: pushedOrdinal) }

    // MARK: - Subscribers

    package var subscriberCount: Int { subscribers.count }

    /// Adds a connection. Its first bytes are a `retry:`; then come the events after `cursor`, or
    /// only new ones where there is none.
    ///
    /// Over WebSocket the sink is one of those who share a connection: it gets events and notices
    /// and nothing else, and every offer made to it ends where a frame ends.
    ///
    /// - Parameter form: How the bytes are to look; the caller has told the client.
    package func subscribe(
        _ sink: any EventSink, to subscription: Subscription, as form: StreamForm = .plain,
        after cursor: EventID?
    ) -> Key {
        let members = subscriptionClass(.init(subscription: subscription, form: form))
        let subscriber = Subscriber(sink: sink, class: members, cursor: cursor ?? window.lastID)
        subscriber.key = subscribers.insert(subscriber)
        subscriber.memberIndex = members.members.count
        members.members.append(subscriber)
        subscriber.lastWriteMilliseconds = clockMilliseconds
        if form.isWholeConnection {
            subscriber.preamble = members.streamHeader + members.own(retryLine())
        }
        metrics.connections.set(subscribers.count)
        // From ``liveCursor`` on.
        if cursor == nil { place(subscriber, before: pushedOrdinal) }
        pull(subscriber)
        return Key(slab: subscriber.key)
    }

    private func subscriptionClass(_ key: SubscriptionClass.Key) -> SubscriptionClass {
        if let known = classes[key] { return known }
        var compressor: ChunkCompressor?
        if case .coded(let coding) = key.form { compressor = self.compressor(for: coding) }
        var rule = settings.lagRule
        if let channels = key.subscription.channels, channels.count == 1 {
            rule = settings.lagRules[channels[0]] ?? rule
        }
        let members = SubscriptionClass(key, compressor: compressor, lagRule: rule)
        classes[key] = members
        metrics.classes.set(classes.count)
        return members
    }

    private func compressor(for coding: ContentCoding) -> ChunkCompressor {
        if let known = compressors[coding] { return known }
        do throws(CompressionError) {
            let compressor = try ChunkCompressor(coding)
            compressors[coding] = compressor
            return compressor
        } catch {
            // Only for want of memory, where nothing else would go on either.
            preconditionFailure("\(error)")
        }
    }

    /// The connection can take bytes again.
    package func sinkIsWritable(_ key: Key) {
        guard let subscriber = subscribers[key.slab], subscriber.phase == .blocked else { return }
        metrics.lagging.add(-1)
        pull(subscriber)
    }

    /// The connection has ended. A key that is already gone is no error: both sides may end it.
    package func sinkEnded(_ key: Key) {
        guard let subscriber = subscribers[key.slab] else { return }
        remove(subscriber)
    }

    /// Ends a subscription whose connection goes on, and returns the bytes that end the frame it is
    /// in the middle of; others may follow them.
    package func unsubscribe(_ key: Key) -> [UInt8] {
        guard let subscriber = subscribers[key.slab] else { return [] }
        var rest = subscriber.preamble
        if rest.isEmpty, let batch = subscriber.held {
            rest =
                subscriber.subscriptionClass.remainder(
                    batch, after: subscriber.cursor, sentBytes: subscriber.sentBytes
                ).rest
        }
        remove(subscriber)
        return rest
    }

    /// Ends every connection with a `retry:` that grows with their number, so that they come back
    /// spread out. Returns how many there were.
    package func drain() -> Int {
        isDraining = true
        let count = subscribers.count
        var all: [Subscriber] = []
        subscribers.forEach { _, subscriber in all.append(subscriber) }
        for subscriber in all {
            // In the middle of an event nothing can be put in; the client resumes by its ID.
            if subscriber.subscriptionClass.isWholeConnection, subscriber.sentBytes == 0,
                subscriber.preamble.isEmpty
            {
                subscriber.preamble = subscriber.subscriptionClass.own(retryLine())
                _ = flushPreamble(subscriber)
            }
            finish(subscriber)
        }
        return count
    }

    /// Ends a connection that its client may come back from.
    func finish(_ subscriber: Subscriber) {
        // Who shares its connection may have gone with another of it.
        guard subscribers[subscriber.key] != nil else { return }
        // Before it is removed: a shared connection still has a frame to finish.
        subscriber.sink.finish()
        if subscribers[subscriber.key] != nil { remove(subscriber) }
    }

    private func remove(_ subscriber: Subscriber) {
        if subscriber.phase == .blocked { metrics.lagging.add(-1) }
        subscribers.remove(subscriber.key)
        let members = subscriber.subscriptionClass
        let last = members.members.removeLast()
        if last !== subscriber {
            members.members[subscriber.memberIndex] = last
            last.memberIndex = subscriber.memberIndex
        }
        if members.members.isEmpty {
            classes[members.key] = nil
            metrics.classes.set(classes.count)
        }
        metrics.connections.set(subscribers.count)
    }

    /// The connection failed under the hub's hands.
    private func end(_ subscriber: Subscriber) {
        remove(subscriber)
        subscriber.sink.abort()
    }

    // MARK: - Pushing

    /// Sends what is new to the members that are caught up, with one preparation for all.
    private func push(to members: SubscriptionClass, from start: UInt64) {
        let end = window.endOrdinal
        pieces.removeAll()
        piecesOwners.removeAll(keepingCapacity: true)
        var eventCount = 0
        var ordinal = start
        while ordinal < end, pieces.count < PieceList.countMax {
            let batch = window[ordinal]
            slices.removeAll(keepingCapacity: true)
            let rendering = members.render(batch, after: .zero, to: &slices)
            guard pieces.count + slices.count <= PieceList.countMax else { break }
            eventCount += rendering.eventCount
            hold(rendering, of: batch)
            for slice in slices { pieces.append(slice, of: rendering.bytes) }
            if !members.isWholeConnection { window.recount(ordinal) }
            ordinal += 1
        }
        let prepared = ordinal
        let byteCount = pieces.byteCount
        // From the back: a member that ends is replaced by the last one, which has been served.
        var index = members.members.count - 1
        while index >= 0 {
            let subscriber = members.members[index]
            index -= 1
            switch subscriber.phase {
            case .caughtUp:
                if prepared == end, byteCount == 0 { continue }
                pushPrepared(
                    to: subscriber, events: eventCount, bytes: byteCount,
                    ordinals: start..<prepared)
            case .ahead: pull(subscriber)
            case .pulling, .blocked, .awaitingPage: continue
            }
        }
    }

    private func pushPrepared(
        to subscriber: Subscriber, events: Int, bytes: Int, ordinals: Range<UInt64>
    ) {
        var taken = 0
        if bytes > 0 {
            let outcome = pieces.write(to: subscriber.sink)
            metrics.writes.add()
            switch outcome {
            case .all:
                taken = bytes
                subscriber.lastWriteMilliseconds = clockMilliseconds
                metrics.eventsDelivered.add(events)
            case .some(let count):
                taken = count
                if count > 0 { subscriber.lastWriteMilliseconds = clockMilliseconds }
            case .ended:
                end(subscriber)
                return
            }
            metrics.bytesDelivered.add(taken)
        }
        if taken == bytes {
            if ordinals.upperBound == window.endOrdinal { return }
            place(subscriber, before: ordinals.upperBound)
            pull(subscriber)
        } else {
            // It lags from here on: find the batch and the byte where it stopped.
            place(subscriber, before: ordinals.lowerBound)
            advance(subscriber, by: taken)
            block(subscriber)
        }
    }

    /// Keeps a chunk alive until the next list of pieces is begun.
    private func hold(_ rendering: SubscriptionClass.Rendering, of batch: EventBatch) {
        if rendering.bytes !== batch.frames { piecesOwners.append(rendering.bytes) }
    }

    func place(_ subscriber: Subscriber, before ordinal: UInt64) {
        subscriber.source = .window(ordinal: ordinal)
        subscriber.cursor = window.cursor(before: ordinal)
        subscriber.sentBytes = 0
        subscriber.held = nil
    }

    // MARK: - Pulling

    /// Sends from the subscriber's own cursor until it is caught up, its socket is full, or it
    /// needs a page.
    private func pull(_ subscriber: Subscriber) {
        subscriber.phase = .pulling
        guard flushPreamble(subscriber) else { return }
        while true {
            guard settle(subscriber) else { return }
            let offered = gather(subscriber)
            if offered == 0 {
                // Nothing of what was looked at matches; the cursor has moved past it.
                continue
            }
            let outcome = pieces.write(to: subscriber.sink)
            metrics.writes.add()
            switch outcome {
            case .all:
                metrics.bytesDelivered.add(offered)
                subscriber.lastWriteMilliseconds = clockMilliseconds
                advance(subscriber, by: offered)
            case .some(let count):
                metrics.bytesDelivered.add(count)
                if count > 0 { subscriber.lastWriteMilliseconds = clockMilliseconds }
                advance(subscriber, by: count)
                block(subscriber)
                return
            case .ended:
                end(subscriber)
                return
            }
        }
    }

    /// Brings the subscriber to a place from which bytes can be sent. False where there is none
    /// now: it is caught up, ahead, or waits for a page.
    private func settle(_ subscriber: Subscriber) -> Bool {
        while true {
            switch subscriber.source {
            case .unseated:
                seat(subscriber)
                if subscriber.phase == .awaitingPage { return false }
            case .page(let batches, let index, let through):
                if index < batches.count { return true }
                subscriber.cursor = max(subscriber.cursor, through)
                seat(subscriber)
                if subscriber.phase == .awaitingPage { return false }
            case .window(let ordinal):
                if ordinal < window.firstOrdinal {
                    // The window has moved on. What was begun is finished from the held batch.
                    if subscriber.held != nil { return true }
                    seat(subscriber)
                    if subscriber.phase == .awaitingPage { return false }
                    continue
                }
                if ordinal < window.endOrdinal { return true }
                subscriber.phase = subscriber.cursor > window.lastID ? .ahead : .caughtUp
                // Pushing starts at `pushedOrdinal`; whoever is caught up must be exactly there.
                if ordinal > pushedOrdinal, subscriber.phase == .caughtUp {
                    subscriber.phase = .ahead
                    subscriber.cursor = window.lastID
                }
                subscriber.hasBeenLive = true
                return false
            }
        }
    }

    /// Chooses the tier that serves the subscriber's cursor: the window, or a page of history.
    private func seat(_ subscriber: Subscriber) {
        subscriber.sentBytes = 0
        subscriber.held = nil
        let cursor = subscriber.cursor
        if cursor >= window.coveredAfter {
            let fromPage: Bool
            if case .page = subscriber.source { fromPage = true } else { fromPage = false }
            // A cursor beyond the window is right where history has just confirmed it; from a
            // client it may be made up, so history is asked.
            if cursor <= window.lastID || fromPage {
                subscriber.source = .window(ordinal: window.ordinal(after: cursor))
                return
            }
        }
        requestPage(subscriber)
    }

    private func requestPage(_ subscriber: Subscriber) {
        subscriber.phase = .awaitingPage
        subscriber.source = .page([], index: 0, through: subscriber.cursor)
        metrics.replayPages.add()
        let key = subscriber.key
        let bound = LoopBound(self, on: loop)
        let loop = loop
        let subscription = subscriber.subscriptionClass.subscription
        replay.readPage(of: subscription, after: subscriber.cursor) { outcome in
            loop.post { bound.value.pageArrived(outcome, for: key) }
        }
    }

    private func pageArrived(_ outcome: ReplayOutcome, for key: Slab<Subscriber>.Key) {
        guard let subscriber = subscribers[key], subscriber.phase == .awaitingPage else { return }
        switch outcome {
        case .page(let batches, let through):
            subscriber.source = .page(batches, index: 0, through: through)
            if batches.isEmpty, through <= subscriber.cursor,
                subscriber.cursor < window.coveredAfter
            {
                // History no longer reaches from the cursor to the window, and has nothing of its
                // own to say about it (it was emptied): the client is told, and goes on.
                let notice = GapNotice(
                    from: subscriber.cursor, to: window.coveredAfter, reason: .historyLost)
                subscriber.source = .page(
                    [notice.batch], index: 0, through: window.coveredAfter)
            }
            pull(subscriber)
        case .unknownCursor(let tip):
            let notice = GapNotice(from: subscriber.cursor, to: tip, reason: .unknownID)
            subscriber.source = .page([notice.batch], index: 0, through: tip)
            // The cursor goes back: what it said was never true here.
            subscriber.cursor = .zero
            pull(subscriber)
        case .unavailable:
            // History is away. The connection stays; it asks again after a moment.
            let timer = LoopTimer { [weak self] in
                guard let self, let subscriber = subscribers[key],
                    subscriber.phase == .awaitingPage
                else { return }
                requestPage(subscriber)
            }
            let spread = Int.random(in: 250...750, using: &random)
            loop.schedule(timer, after: .milliseconds(spread))
        }
    }

    /// Collects pieces from the subscriber's cursor on. Where nothing matches it moves the cursor.
    ///
    /// - Returns: The number of bytes collected.
    private func gather(_ subscriber: Subscriber) -> Int {
        pieces.removeAll()
        piecesOwners.removeAll(keepingCapacity: true)
        let members = subscriber.subscriptionClass
        var skip = subscriber.sentBytes
        var cursor = subscriber.cursor
        var step = 0
        while pieces.count < PieceList.countMax, pieces.byteCount < Self.pullBytesMax,
            let batch = batch(of: subscriber, steps: step)
        {
            slices.removeAll(keepingCapacity: true)
            let rendering = members.render(batch, after: cursor, to: &slices)
            if pieces.isEmpty, slices.isEmpty {
                passBatch(subscriber, batch)
                cursor = subscriber.cursor
                continue
            }
            guard pieces.isEmpty || pieces.count + slices.count <= PieceList.countMax else { break }
            hold(rendering, of: batch)
            for slice in slices {
                guard pieces.count < PieceList.countMax else { break }
                guard skip < slice.count else {
                    skip -= slice.count
                    continue
                }
                let start = slice.lowerBound + skip
                skip = 0
                pieces.append(start..<slice.upperBound, of: rendering.bytes)
            }
            if !members.isWholeConnection, case .window(let ordinal) = subscriber.source {
                window.recount(ordinal + UInt64(step))
            }
            if slices.count > PieceList.countMax { break }
            cursor = batch.lastID
            step += 1
        }
        return pieces.byteCount
    }

    /// The batch that is `steps` after the subscriber's current one, or `nil` at the end.
    func batch(of subscriber: Subscriber, steps: Int) -> EventBatch? {
        switch subscriber.source {
        case .unseated: return nil
        case .page(let batches, let index, _):
            return index + steps < batches.count ? batches[index + steps] : nil
        case .window(let ordinal):
            if ordinal < window.firstOrdinal { return steps == 0 ? subscriber.held : nil }
            let wanted = ordinal + UInt64(steps)
            return wanted < window.endOrdinal ? window[wanted] : nil
        }
    }

    /// Moves the cursor past a whole batch.
    private func passBatch(_ subscriber: Subscriber, _ batch: EventBatch) {
        subscriber.cursor = max(subscriber.cursor, batch.lastID)
        subscriber.sentBytes = 0
        subscriber.held = nil
        switch subscriber.source {
        case .unseated: break
        case .page(let batches, let index, let through):
            subscriber.source = .page(batches, index: index + 1, through: through)
        case .window(let ordinal): subscriber.source = .window(ordinal: ordinal + 1)
        }
    }

    /// Moves the cursor by bytes that the socket took.
    private func advance(_ subscriber: Subscriber, by count: Int) {
        let members = subscriber.subscriptionClass
        var left = count + subscriber.sentBytes
        subscriber.sentBytes = 0
        while left > 0, let batch = batch(of: subscriber, steps: 0) {
            slices.removeAll(keepingCapacity: true)
            let rendering = members.render(batch, after: subscriber.cursor, to: &slices)
            let size = slices.reduce(0) { $0 + $1.count }
            guard left >= size else {
                subscriber.sentBytes = left
                subscriber.held = batch
                return
            }
            left -= size
            metrics.eventsDelivered.add(rendering.eventCount)
            passBatch(subscriber, batch)
        }
    }

    private func block(_ subscriber: Subscriber) {
        subscriber.phase = .blocked
        metrics.lagging.add(1)
    }

    /// Sends what the hub itself has to say. False where the socket is full or has ended.
    private func flushPreamble(_ subscriber: Subscriber) -> Bool {
        guard !subscriber.preamble.isEmpty else { return true }
        let size = subscriber.preamble.count
        let outcome = subscriber.sink.write(subscriber.preamble)
        switch outcome {
        case .all:
            subscriber.preamble = []
            subscriber.lastWriteMilliseconds = clockMilliseconds
            metrics.bytesDelivered.add(size)
            return true
        case .some(let count):
            subscriber.preamble.removeFirst(count)
            metrics.bytesDelivered.add(count)
            if subscriber.phase == .caughtUp { place(subscriber, before: pushedOrdinal) }
            if subscriber.phase != .awaitingPage { block(subscriber) }
            return false
        case .ended:
            end(subscriber)
            return false
        }
    }

    // MARK: - Keeping connections alive

    /// Looks after a share of the subscribers: a comment to those who have heard nothing for a
    /// heartbeat, an end to those whose socket takes nothing.
    private func sweep() {
        let now = clockMilliseconds
        let heartbeat = UInt64(max(1, settings.heartbeat.wholeMilliseconds))
        let stuck = UInt64(max(1, settings.stuckAfter.wholeMilliseconds))
        // Half a sweep early rather than late: the promise is "at least every heartbeat".
        let due = heartbeat - heartbeat / UInt64(Self.sweepShares) / 2
        var quiet: [Subscriber] = []
        var ended: [Subscriber] = []
        subscribers.forEach { key, subscriber in
            guard key.index % Self.sweepShares == sweepPosition else { return }
            let silence = now - min(now, subscriber.lastWriteMilliseconds)
            guard subscriber.subscriptionClass.isWholeConnection else {
                if subscriber.phase == .blocked { release(subscriber) }
                return
            }
            switch subscriber.phase {
            case .caughtUp, .ahead, .awaitingPage, .pulling:
                if silence >= due { quiet.append(subscriber) }
            case .blocked:
                if silence >= stuck { ended.append(subscriber) } else { release(subscriber) }
            }
        }
        for subscriber in ended {
            metrics.stuckClosed.add()
            end(subscriber)
        }
        for subscriber in quiet {
            // A comment without an empty line: clients that treat every empty line as an event
            // see none.
            subscriber.preamble += subscriber.subscriptionClass.own(Self.heartbeat)
            if flushPreamble(subscriber) { metrics.heartbeats.add() }
        }
        sweepPosition = (sweepPosition + 1) % Self.sweepShares
        if let sweepTimer {
            loop.schedule(sweepTimer, after: settings.heartbeat / Int(Self.sweepShares))
        }
    }

    /// Lets go of a batch that the window has dropped, keeping only the rest of what was begun.
    private func release(_ subscriber: Subscriber) {
        guard case .window(let ordinal) = subscriber.source, ordinal < window.firstOrdinal,
            let batch = subscriber.held
        else { return }
        let (rest, cursor) = subscriber.subscriptionClass.remainder(
            batch, after: subscriber.cursor, sentBytes: subscriber.sentBytes)
        subscriber.preamble += rest
        subscriber.cursor = cursor
        subscriber.sentBytes = 0
        subscriber.held = nil
    }

    private var clockMilliseconds: UInt64 { loop.now.nanoseconds / 1_000_000 }

    private func retryLine() -> [UInt8] { Array("retry: \(retryMilliseconds())\n".utf8) }

    /// After how long a client is to come back that loses its connection now, with jitter that grows
    /// with the number of connections: 10,000 clients that lose their node come back over about ten
    /// seconds more than a handful would.
    package func retryMilliseconds() -> Int {
        let base = max(1, Int(settings.retry.wholeMilliseconds))
        let spread = base / 2 + min(30_000, subscribers.count)
        return base / 2 + Int.random(in: 0...spread, using: &random)
    }
}
