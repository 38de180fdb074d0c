// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Observability
import Reactor

// Those who have fallen behind, and what their channel's rule does about it.
extension Hub {
    /// Looks at those whose sockets are full: how far behind they are, and what their rule says.
    func checkLag() {
        if let lagTimer { loop.schedule(lagTimer, after: Self.lagCheckInterval) }
        // Nearly always: to look at every subscriber four times a second would cost a node with
        // many of them more than it costs to serve a few.
        guard metrics.lagging.value + metrics.delayed.value > 0 else {
            return metrics.longestLag.set(0)
        }
        var longest: UInt64 = 0
        var slow: [Subscriber] = []
        var idle: [Subscriber] = []
        let now = clockMilliseconds
        subscribers.forEach { _, subscriber in
            let waits = subscriber.phase == .paced && subscriber.meter?.isDelayed ?? false
            guard subscriber.phase == .blocked || waits else { return }
            let lag = lag(of: subscriber)
            longest = max(longest, lag.events)
            if subscriber.phase == .blocked, case .page = subscriber.source,
                now - min(now, subscriber.lastWriteMilliseconds) >= Self.pageHeldMilliseconds
            {
                idle.append(subscriber)
            }
            let rule = subscriber.subscriptionClass.lagRule
            guard subscriber.hasBeenLive, rule.isExceeded(events: lag.events, bytes: lag.bytes)
            else { return }
            slow.append(subscriber)
        }
        for subscriber in idle { releasePage(subscriber) }
        metrics.longestLag.set(Int64(clamping: longest))
        for subscriber in slow where subscribers[subscriber.key] != nil {
            switch subscriber.subscriptionClass.lagRule.policy {
            case .catchUp: break
            case .skip: skip(subscriber)
            case .close:
                metrics.lagClosed.add()
                finish(subscriber)
            }
        }
    }

    /// Lets go of the page of one whose socket takes nothing, keeping only the rest of what was
    /// begun: pages are the memory that others wait for. It asks again when it can go on.
    private func releasePage(_ subscriber: Subscriber) {
        if subscriber.sentBytes > 0, let batch = batch(of: subscriber, steps: 0) {
            let (rest, cursor) = subscriber.subscriptionClass.remainder(
                batch, after: subscriber.cursor, sentBytes: subscriber.sentBytes)
            subscriber.preamble += rest
            subscriber.cursor = cursor
        }
        subscriber.sentBytes = 0
        subscriber.held = nil
        subscriber.source = .unseated
    }

    /// How far a subscriber is behind. Bytes behind the window are not known and not counted.
    private func lag(of subscriber: Subscriber) -> (events: UInt64, bytes: UInt64) {
        let newest = window.lastID.sequence
        let events = newest - min(newest, subscriber.cursor.sequence)
        switch subscriber.source {
        case .window(let ordinal): return (events, window.bytes(from: ordinal))
        case .page, .unseated: return (events, UInt64(window.bytes))
        }
    }

    /// Tells a slow subscriber of a gap and puts it where new events come. Its socket is full, so
    /// the telling waits like anything else; until it has gone, there is nothing more to skip.
    private func skip(_ subscriber: Subscriber) {
        guard subscriber.preamble.isEmpty else { return }
        var rest: [UInt8] = []
        if subscriber.sentBytes > 0, let batch = batch(of: subscriber, steps: 0) {
            (rest, subscriber.cursor) = subscriber.subscriptionClass.remainder(
                batch, after: subscriber.cursor, sentBytes: subscriber.sentBytes)
        }
        let from = dropWaiting(of: subscriber) ?? subscriber.cursor
        let to = window.cursor(before: pushedOrdinal)
        guard to > from else { return }
        let waits = subscriber.phase == .paced
        let notice = GapNotice(from: from, to: to, reason: waits ? .rateLimited : .slow)
        gaps?.add(notice)
        subscriber.preamble = rest + subscriber.subscriptionClass.own(notice.frame)
        place(subscriber, before: pushedOrdinal)
        metrics.lagSkips.add()
        metrics.lagSkippedEvents.add(to.sequence - min(to.sequence, from.sequence))
        if waits { pull(subscriber) }
    }
}
