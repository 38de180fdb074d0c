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
        /// See ``PassPacing``.
        package var batchWait: Duration = .zero
        /// Milliseconds since 1970: what the ends of streams are measured by.
        package var wallClock: @Sendable () -> UInt64 = { WallClock.milliseconds }
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
    let replay: any HistorySource
    let gaps: GapMetrics?
    var random: any RandomNumberGenerator
    /// Spreads clients out and nothing else, so the system's generator need not be asked for each
    /// connection: a linear congruential sequence (Knuth, MMIX).
    private var jitter: UInt64
    var window: HotWindow
    private var classes: [SubscriptionClass.Key: SubscriptionClass] = [:]
    private var compressors: [ContentCoding: ChunkCompressor] = [:]
    var subscribers = Slab<Subscriber>()
    /// Batches before this ordinal have been pushed to those who were caught up.
    var pushedOrdinal: UInt64 = 0
    private var turnIsPending = false
    private var pacing: PassPacing
    private var batchTimer: LoopTimer?
    /// True once it has sent everybody away.
    private(set) var isDraining = false
    private var sweepTimer: LoopTimer?
    private var sweepPosition: UInt32 = 0
    var lagTimer: LoopTimer?

    // Used again for every push, so that delivering allocates nothing.
    var slices: [Range<Int>] = []
    var pieces = PieceList()
    /// Chunks that `pieces` points into and that nobody else may be holding.
    var piecesOwners: [SharedBytes] = []
    private var pullAfterPush: [Subscriber] = []
    /// Those whose events are counted: of all classes, so that they take turns.
    private var serveAfterPasses: [Subscriber] = []
    /// Who waits for gates that others use too.
    var gateQueues: [ObjectIdentifier: GateQueue] = [:]

    /// What one pull offers a socket at most: more than any socket buffer takes at once.
    static let pullBytesMax = 4 * 1024 * 1024
    /// The hub looks after a 64th of its subscribers each sweep, so that heartbeats do not wake
    /// all sockets in one instant.
    private static let sweepShares: UInt32 = 64
    static let lagCheckInterval: Duration = .milliseconds(250)
    /// How long a page of history may wait for a socket that takes nothing.
    static let pageHeldMilliseconds: UInt64 = 1000
    private static let heartbeat = Array(":\n".utf8)

    /// - Parameter startingAfter: The tip of history when the node began to tail it.
    package init(
        loop: EventLoop, settings: Settings, replay: any HistorySource, startingAfter: EventID,
        gaps: GapMetrics? = nil,
        random: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.loop = loop
        self.settings = settings
        self.replay = replay
        self.gaps = gaps
        self.random = random
        jitter = self.random.next()
        pacing = PassPacing(waitMax: settings.batchWait)
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
        batchTimer = LoopTimer { [weak self] in
            guard let self else { return }
            loop.atEndOfTurn(self)
        }
    }

    package func stop() {
        for timer in [sweepTimer, lagTimer, batchTimer] {
            if let timer { loop.cancel(timer) }
        }
        sweepTimer = nil
        lagTimer = nil
        batchTimer = nil
    }

    // MARK: - Events in

    /// Takes batches in the order of their IDs, each newer than all before.
    package func publish(_ batches: [EventBatch]) {
        for batch in batches { window.append(batch) }
        guard !turnIsPending else { return }
        turnIsPending = true
        let wait = pacing.wait(at: .now)
        guard wait > .zero, let batchTimer else { return loop.atEndOfTurn(self) }
        loop.schedule(batchTimer, after: wait)
    }

    package func runAtEndOfTurn() {
        turnIsPending = false
        let began = MonotonicTime.now
        let from = pushedOrdinal
        // Before the pushes: who is served below and reaches the end is caught up from here on.
        pushedOrdinal = window.endOrdinal
        for members in classes.values { push(to: members, from: from) }
        serveMetered()
        // Only now: a burst larger than the window must reach those who are caught up.
        window.trim()
        metrics.windowBytes.set(window.bytes)
        pacing.passEnded(began: began, ended: .now)
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
        let span = StreamSpan(start: cursor.map { .after($0) } ?? .live)
        return subscribe(sink, to: subscription, as: form, over: span)
    }

    /// Adds a connection that gets the events of `span`. Its first bytes are a `retry:`; its last,
    /// where the span has an end, an `event: end`, after which the sink is told to complete.
    ///
    /// - Parameter gates: What its events are counted against, the narrowest first.
    package func subscribe(
        _ sink: any EventSink, to subscription: Subscription, as form: StreamForm = .plain,
        over span: StreamSpan, through gates: [MeteredGate] = []
    ) -> Key {
        var cursor: EventID?
        if case .after(let given) = span.start { cursor = given }
        let members = subscriptionClass(.init(subscription: subscription, form: form))
        let subscriber = Subscriber(sink: sink, class: members, cursor: cursor ?? window.lastID)
        subscriber.key = subscribers.insert(subscriber)
        subscriber.meter = makeMeter(gates, subscriber.key)
        members.insert(subscriber)
        subscriber.lastWriteMilliseconds = clockMilliseconds
        if form.isWholeConnection {
            subscriber.preamble = members.streamHeader + members.own(retryLine())
        }
        metrics.connections.set(subscribers.count)
        subscriber.passage = makePassage(span, subscriber.key)
        switch span.start {
        case .after: pull(subscriber)
        case .live:
            // From ``liveCursor`` on.
            place(subscriber, before: pushedOrdinal)
            pull(subscriber)
        case .last(let count):
            // What the socket does not take now goes before the first events.
            subscriber.phase = .awaitingPage
            _ = flushPreamble(subscriber)
            guard subscribers[subscriber.key] != nil else { break }
            findStart(subscriber, ofLast: count, before: span.end)
        }
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

    /// Why a connection is ended whose client is to come back at once elsewhere.
    package enum Departure: Sendable {
        /// The node is about to stop.
        case drain
        /// Another node has room; only who can be told so goes.
        case move
    }

    /// Ends up to `count` connections with a `retry:`. Those who share a socket are left to it.
    ///
    /// - Returns: How many it were.
    package func sendAway(_ count: Int, because departure: Departure) -> Int {
        var chosen: [Subscriber] = []
        var inTheMiddle: [Subscriber] = []
        subscribers.forEach { _, subscriber in
            guard chosen.count < count, subscriber.subscriptionClass.isWholeConnection else {
                return
            }
            // In the middle of an event nothing can be put in; the client resumes by its ID.
            if subscriber.sentBytes == 0, subscriber.preamble.isEmpty {
                chosen.append(subscriber)
            } else if inTheMiddle.count < count {
                inTheMiddle.append(subscriber)
            }
        }
        for subscriber in chosen {
            let retry = departure == .drain ? retryMilliseconds() : moveMilliseconds()
            subscriber.preamble = subscriber.subscriptionClass.own(Array("retry: \(retry)\n".utf8))
            _ = flushPreamble(subscriber)
            finish(subscriber)
        }
        guard departure == .drain else { return chosen.count }
        let rest = inTheMiddle.prefix(count - chosen.count)
        for subscriber in rest { finish(subscriber) }
        return chosen.count + rest.count
    }

    /// Subscribers that are a connection of their own.
    package var wholeConnectionCount: Int {
        classes.values.reduce(0) { $0 + ($1.isWholeConnection ? $1.members.count : 0) }
    }

    /// Ends a connection that its client may come back from.
    func finish(_ subscriber: Subscriber) {
        // Who shares its connection may have gone with another of it.
        guard subscribers[subscriber.key] != nil else { return }
        // Before it is removed: a shared connection still has a frame to finish.
        subscriber.sink.finish()
        if subscribers[subscriber.key] != nil { remove(subscriber) }
    }

    func remove(_ subscriber: Subscriber) {
        if subscriber.phase == .blocked { metrics.lagging.add(-1) }
        if let passage = subscriber.passage { loop.cancel(passage.timer) }
        if let meter = subscriber.meter { close(meter, of: subscriber) }
        subscribers.remove(subscriber.key)
        let members = subscriber.subscriptionClass
        members.remove(subscriber)
        if members.members.isEmpty {
            classes[members.key] = nil
            metrics.classes.set(classes.count)
        }
        metrics.connections.set(subscribers.count)
    }

    /// The connection failed under the hub's hands.
    func end(_ subscriber: Subscriber) {
        remove(subscriber)
        subscriber.sink.abort()
    }

    // MARK: - Pushing

    /// Sends what is new to the members that are caught up, with one preparation for all.
    private func push(to members: SubscriptionClass, from start: UInt64) {
        guard members.meteredCount < members.members.count else {
            serveAfterPasses += members.members.filter { $0.phase == .ahead }
            return
        }
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
            if members.makesFrames { window.recount(ordinal) }
            ordinal += 1
        }
        let prepared = ordinal
        let byteCount = pieces.byteCount
        var served = 0
        // Members neither come nor change places meanwhile, but that one which ends is replaced by
        // the last.
        var index = 0
        while index < members.members.count {
            if byteCount > 0, prepared == end {
                let count = sendToOpenSockets(of: members, from: index, ordinals: start..<end)
                served += count
                index += count
                guard index < members.members.count else { break }
            }
            let subscriber = members.members[index]
            members.prefetch(after: index)
            defer {
                if index < members.members.count, members.members[index] === subscriber {
                    index += 1
                }
            }
            switch subscriber.phase {
            case .caughtUp:
                if prepared == end, byteCount == 0 { continue }
                if pushPrepared(to: subscriber, bytes: byteCount, ordinals: start..<prepared) {
                    served += 1
                }
            case .ahead where subscriber.meter != nil: serveAfterPasses.append(subscriber)
            case .ahead: pullAfterPush.append(subscriber)
            case .pulling, .blocked, .awaitingPage, .paced: continue
            }
        }
        // Only now: to pull is to make another list in ``pieces``, which was everybody's.
        for subscriber in pullAfterPush where subscribers[subscriber.key] != nil {
            pull(subscriber)
        }
        pullAfterPush.removeAll(keepingCapacity: true)
        if served > 0 { members.lastPassMilliseconds = clockMilliseconds }
        // Counted once for all: three atomic additions for each member would show.
        guard byteCount > 0 else { return }
        metrics.writes.add(served)
        metrics.bytesDelivered.add(served * byteCount)
        metrics.eventsDelivered.add(served * eventCount)
    }

    /// Serves those whose events are counted. They begin at another one each time: what the first
    /// take of a rate that they share, the last do not get.
    private func serveMetered() {
        guard !serveAfterPasses.isEmpty else { return }
        let all = serveAfterPasses
        serveAfterPasses.removeAll(keepingCapacity: true)
        let start = nextJitter(through: all.count - 1)
        for index in all.indices {
            let subscriber = all[(start + index) % all.count]
            if subscribers[subscriber.key] != nil, subscriber.phase == .ahead { pull(subscriber) }
        }
    }

    /// Sends what is in ``pieces`` to the members from `first` on, as far as their sockets are open.
    ///
    /// - Returns: How many took all of it. The one after them is to be served through its sink.
    private func sendToOpenSockets(
        of members: SubscriptionClass, from first: Int, ordinals: Range<UInt64>
    ) -> Int {
        assert(members.openSocketsAreRight(from: first))
        let (index, stop) = pieces.send(toEach: members.openSockets, from: first)
        let count = index - first
        if count > 0 {
            members.members[first].sink.sentToSocket(count * pieces.byteCount, isFull: false)
        }
        if case .full(let taken) = stop {
            let subscriber = members.members[index]
            subscriber.sink.sentToSocket(taken, isFull: true)
            metrics.writes.add()
            metrics.bytesDelivered.add(taken)
            lag(subscriber, behind: ordinals.lowerBound, after: taken)
        }
        return count
    }

    /// Offers what is in ``pieces`` to one member. True where it took all of it, which the caller
    /// counts; the rest is counted here.
    private func pushPrepared(
        to subscriber: Subscriber, bytes: Int, ordinals: Range<UInt64>
    ) -> Bool {
        var taken = 0
        if bytes > 0 {
            switch pieces.write(to: subscriber.sink) {
            case .all:
                taken = bytes
                subscriber.lastWriteMilliseconds = clockMilliseconds
            case .some(let count):
                taken = count
                metrics.writes.add()
                metrics.bytesDelivered.add(count)
            case .ended:
                metrics.writes.add()
                end(subscriber)
                return false
            }
        }
        guard taken == bytes else {
            lag(subscriber, behind: ordinals.lowerBound, after: taken)
            return false
        }
        if ordinals.upperBound < window.endOrdinal {
            place(subscriber, before: ordinals.upperBound)
            pullAfterPush.append(subscriber)
        }
        return true
    }

    /// A member whose socket is full lags from here on: finds the batch and the byte where it stopped.
    private func lag(_ subscriber: Subscriber, behind ordinal: UInt64, after taken: Int) {
        place(subscriber, before: ordinal)
        advance(subscriber, by: taken)
        block(subscriber)
        if taken > 0 { subscriber.lastWriteMilliseconds = clockMilliseconds }
    }

    /// Keeps a chunk alive until the next list of pieces is begun.
    func hold(_ rendering: SubscriptionClass.Rendering, of batch: EventBatch) {
        if rendering.bytes !== batch.frames { piecesOwners.append(rendering.bytes) }
    }

    func place(_ subscriber: Subscriber, before ordinal: UInt64) {
        subscriber.source = .window(ordinal: ordinal)
        subscriber.cursor = window.cursor(before: ordinal)
        subscriber.sentBytes = 0
        subscriber.held = nil
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
        subscribers.forEach(from: Int(sweepPosition), by: Int(Self.sweepShares)) { _, subscriber in
            let lastWrite = subscriber.subscriptionClass.lastWriteMilliseconds(to: subscriber)
            let silence = now - min(now, lastWrite)
            guard subscriber.subscriptionClass.isWholeConnection else {
                if subscriber.phase == .blocked { release(subscriber) }
                return
            }
            switch subscriber.phase {
            case .caughtUp, .ahead, .awaitingPage, .pulling, .paced:
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

    var clockMilliseconds: UInt64 { loop.now.nanoseconds / 1_000_000 }

    func wallMilliseconds() -> UInt64 { settings.wallClock() }

    private func retryLine() -> [UInt8] { Array("retry: \(retryMilliseconds())\n".utf8) }

    /// After how long a client is to come back that loses its connection now, with jitter that grows
    /// with the number of connections: 10,000 clients that lose their node come back over about ten
    /// seconds more than a handful would.
    package func retryMilliseconds() -> Int {
        let base = max(1, Int(settings.retry.wholeMilliseconds))
        let spread = base / 2 + min(Self.retrySpreadMax, subscribers.count)
        return base / 2 + nextJitter(through: spread)
    }

    /// What ``retryMilliseconds()`` adds for the number of connections at most.
    package static let retrySpreadMax = 30_000

    /// After how long a client comes back that is asked to move: few are at a time, so at once.
    package func moveMilliseconds() -> Int { 50 + nextJitter(through: 200) }

    private func nextJitter(through most: Int) -> Int {
        jitter = jitter &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(jitter >> 33) % (most + 1)
    }
}
