// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import PosixIO
import Reactor

/// Streams with an end, at a pace, or with a beginning that has to be found.
extension Hub {
    enum Admission {
        case serve
        /// What comes next may not be played now; the subscriber is in a phase of waiting.
        case wait
        /// The subscriber has moved on; look again where it is.
        case moved
    }

    /// Events of the window that one search for a beginning looks at, so that the loop goes on
    /// serving the others: about a millisecond's work. History looks further on another thread.
    private static let searchedEventsMax = 16_384

    func makePassage(_ span: StreamSpan, _ key: Slab<Subscriber>.Key) -> Passage? {
        guard span.end != nil || span.speed != nil else { return nil }
        let timer = LoopTimer { [weak self] in self?.passageIsDue(key) }
        return Passage(end: span.end, speed: span.speed, timer: timer)
    }

    /// Whether the subscriber's next batch may be sent now.
    func admit(_ subscriber: Subscriber) -> Admission {
        guard let passage = subscriber.passage, subscriber.sentBytes == 0,
            let batch = batch(of: subscriber, steps: 0)
        else { return .serve }
        let now = loop.now
        if case .over = passage.verdict(on: batch, now: now) {
            conclude(subscriber, passage, before: batch)
            return .wait
        }
        guard passage.isPaced else { return .serve }
        guard isWanted(batch, by: subscriber) else {
            passBatch(subscriber, batch)
            return .moved
        }
        passage.begin(with: batch, now: now)
        guard case .after(let wait) = passage.verdict(on: batch, now: now) else { return .serve }
        let pause = min(wait, StreamSpanLimits.pauseMax)
        if pause < wait { passage.shorten(to: pause, before: batch, now: now) }
        if pause > StreamSpanLimits.pageHeldPause, case .page = subscriber.source {
            subscriber.source = .unseated
        }
        subscriber.phase = .paced
        loop.schedule(passage.timer, after: pause)
        return .wait
    }

    private func isWanted(_ batch: EventBatch, by subscriber: Subscriber) -> Bool {
        slices.removeAll(keepingCapacity: true)
        return batch.appendSlices(
            for: subscriber.subscriptionClass.subscription, after: subscriber.cursor, to: &slices)
            > 0
    }

    /// The subscriber has everything that the window has. Where its stream has an end it waits for
    /// that; it is never among those who are caught up. False where it is like any other from here.
    func awaitsEnd(_ subscriber: Subscriber) -> Bool {
        guard let passage = subscriber.passage else { return false }
        passage.becomeLive()
        guard let end = passage.end else {
            subscriber.passage = nil
            return false
        }
        subscriber.hasBeenLive = true
        subscriber.phase = .ahead
        // The end is where the next millisecond begins.
        let left = Duration.milliseconds(
            Int64(clamping: end.milliseconds + 1) - Int64(clamping: wallMilliseconds()))
        let wait = left + StreamSpanLimits.endGrace
        if wait > .zero {
            if !passage.timer.isScheduled { loop.schedule(passage.timer, after: wait) }
        } else if passage.confirmations > 0 {
            loop.schedule(passage.timer, after: StreamSpanLimits.endRetry)
        } else {
            confirmEnd(subscriber, passage)
        }
        return true
    }

    /// The time of the end has come. The node may not have seen all that was appended before it,
    /// so history has the last word.
    private func confirmEnd(_ subscriber: Subscriber, _ passage: Passage) {
        passage.isConfirming = true
        passage.confirmations += 1
        requestPage(subscriber)
    }

    private func passageIsDue(_ key: Slab<Subscriber>.Key) {
        guard let subscriber = subscribers[key], let passage = subscriber.passage else { return }
        switch subscriber.phase {
        case .paced: pull(subscriber)
        case .ahead: confirmEnd(subscriber, passage)
        // It comes to its end, or to its next event, by itself.
        case .blocked, .awaitingPage, .pulling, .caughtUp: return
        }
    }

    /// Tells that the stream is over and ends it.
    ///
    /// - Parameter next: What would come next. Where that is a gap that begins before the end, its
    ///   part up to there belongs to the stream.
    func conclude(_ subscriber: Subscriber, _ passage: Passage, before next: EventBatch? = nil) {
        passage.isConcluded = true
        loop.cancel(passage.timer)
        let members = subscriber.subscriptionClass
        if let end = passage.end, let batch = next, let gap = batch.gap, gap.from < end,
            isWanted(batch, by: subscriber)
        {
            let part = GapNotice(from: gap.from, to: end, reason: gap.reason)
            subscriber.preamble += members.own(part.frame)
        }
        subscriber.preamble += members.own(passage.endFrame)
        subscriber.phase = .pulling
        if flushPreamble(subscriber) { complete(subscriber) }
    }

    /// The stream has told its end.
    func complete(_ subscriber: Subscriber) {
        guard subscribers[subscriber.key] != nil else { return }
        // Before it is removed, as in ``finish(_:)``.
        subscriber.sink.complete()
        if subscribers[subscriber.key] != nil { remove(subscriber) }
    }

    // MARK: - Finding the beginning

    /// Finds the place from which on `count` events match, in the window or in history.
    func findStart(_ subscriber: Subscriber, ofLast count: Int, before end: EventID?) {
        let subscription = subscriber.subscriptionClass.subscription
        var matches = NewestMatches(wanted: count)
        let newest = min(end ?? window.lastID, window.lastID)
        var reached = end ?? window.lastID
        if newest >= window.coveredAfter {
            var ordinal = end.map { window.ordinal(after: $0) } ?? window.endOrdinal
            var looked = 0
            while ordinal > window.firstOrdinal, !matches.isComplete,
                looked < Self.searchedEventsMax
            {
                ordinal -= 1
                let batch = window[ordinal]
                looked += batch.count
                batch.forEachMatch(for: subscription, after: .zero) { matches.add($0) }
                matches.endPart()
            }
            reached = window.cursor(before: ordinal)
        }
        let fallback = matches.start ?? newest
        guard !matches.isComplete else {
            subscriber.cursor = fallback
            return pull(subscriber)
        }
        subscriber.phase = .awaitingPage
        let key = subscriber.key
        let bound = LoopBound(self, on: loop)
        let loop = loop
        replay.findStart(of: subscription, last: matches.missing, through: reached) { outcome in
            loop.post {
                bound.value.startArrived(outcome, for: key, count, before: end, else: fallback)
            }
        }
    }

    private func startArrived(
        _ outcome: LookbackOutcome, for key: Slab<Subscriber>.Key, _ count: Int,
        before end: EventID?, else fallback: EventID
    ) {
        guard let subscriber = subscribers[key], subscriber.phase == .awaitingPage else { return }
        switch outcome {
        case .start(let start, let notice):
            let start = start ?? fallback
            subscriber.cursor = start
            if let notice, notice.to <= start {
                gaps?.add(notice)
                subscriber.source = .page([notice.batch], index: 0, through: start)
                subscriber.cursor = .zero
            }
            pull(subscriber)
        case .unavailable:
            // The connection stays and hears heartbeats; the window may hold enough by then.
            let timer = LoopTimer { [weak self] in
                guard let self, let subscriber = subscribers[key],
                    subscriber.phase == .awaitingPage
                else { return }
                findStart(subscriber, ofLast: count, before: end)
            }
            let spread = Int.random(in: 250...750, using: &random)
            loop.schedule(timer, after: .milliseconds(spread))
        }
    }
}
