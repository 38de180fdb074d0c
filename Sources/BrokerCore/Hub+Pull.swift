// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Observability
import Reactor

/// How a subscriber that is not caught up is served: from its own cursor, at its own pace.
extension Hub {
    /// Sends from the subscriber's own cursor until it is caught up, its socket is full, or it
    /// needs a page.
    func pull(_ subscriber: Subscriber) {
        subscriber.phase = .pulling
        guard flushPreamble(subscriber) else { return }
        if let passage = subscriber.passage, passage.isConcluded { return complete(subscriber) }
        if let meter = subscriber.meter { return pull(subscriber, through: meter) }
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
    func settle(_ subscriber: Subscriber) -> Bool {
        while true {
            if let passage = subscriber.passage, subscriber.sentBytes == 0,
                passage.isOver(at: subscriber.cursor)
            {
                conclude(subscriber, passage)
                return false
            }
            switch subscriber.source {
            case .unseated:
                seat(subscriber)
                if subscriber.phase == .awaitingPage { return false }
            case .page(let batches, let index, let through):
                if index < batches.count {
                    switch admit(subscriber) {
                    case .serve: return true
                    case .wait: return false
                    case .moved: continue
                    }
                }
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
                if ordinal < window.endOrdinal {
                    switch admit(subscriber) {
                    case .serve: return true
                    case .wait: return false
                    case .moved: continue
                    }
                }
                if awaitsEnd(subscriber) { return false }
                if let meter = subscriber.meter {
                    subscriber.phase = .ahead
                    subscriber.hasBeenLive = true
                    meter.isLive = true
                    return false
                }
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

    func requestPage(_ subscriber: Subscriber) {
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
        let isConfirming = subscriber.passage?.isConfirming ?? false
        // Where history is away, the same is asked again.
        if case .unavailable = outcome {} else { subscriber.passage?.isConfirming = false }
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
                gaps?.add(notice)
                subscriber.source = .page(
                    [notice.batch], index: 0, through: window.coveredAfter)
            } else if isConfirming, batches.isEmpty, through <= subscriber.cursor,
                let passage = subscriber.passage
            {
                return conclude(subscriber, passage)
            }
            pull(subscriber)
        case .unknownCursor(let tip, let reason):
            let notice = GapNotice(from: subscriber.cursor, to: tip, reason: reason)
            subscriber.source = .page([notice.batch], index: 0, through: tip)
            // The cursor goes back: what it said was never true here.
            subscriber.cursor = .zero
            pull(subscriber)
        case .lost(let notice):
            subscriber.source = .page([notice.batch], index: 0, through: notice.to)
            // It may be a number of another server's, with a clock that was ahead.
            subscriber.cursor = notice.from
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
        let passage = subscriber.passage
        let now = loop.now
        while pieces.count < PieceList.countMax, pieces.byteCount < Self.pullBytesMax,
            let batch = batch(of: subscriber, steps: step)
        {
            if let passage {
                // What has been begun was due before.
                guard case .due = passage.verdict(on: batch, now: now) else { break }
            }
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
            if members.makesFrames, case .window(let ordinal) = subscriber.source {
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
    func passBatch(_ subscriber: Subscriber, _ batch: EventBatch) {
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
    func advance(_ subscriber: Subscriber, by count: Int) {
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
            subscriber.passage?.sent(batch, events: rendering.eventCount)
            passBatch(subscriber, batch)
        }
    }

    func block(_ subscriber: Subscriber) {
        subscriber.phase = .blocked
        metrics.lagging.add(1)
    }

    /// Sends what the hub itself has to say. False where the socket is full or has ended.
    func flushPreamble(_ subscriber: Subscriber) -> Bool {
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
}
