// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import JSONFields
import Observability
import PosixIO
import Reactor

/// Who waits for one gate at one hub, the first for longest.
final class GateQueue {
    let gate: RateGate
    let timer: LoopTimer
    var keys: [Hub.Key] = []
    /// Those who are in it; a key that is left behind by one who is served otherwise is passed over.
    var members: Set<Hub.Key> = []

    init(_ gate: RateGate, timer: LoopTimer) {
        self.gate = gate
        self.timer = timer
    }
}

/// Subscribers whose events are counted against rates.
///
/// What is sent to them is copied: they get few events, each decided on by itself. Of every event
/// that matched it is counted what became of it, so that matched = sent + shed + waiting.
extension Hub {
    /// How long nobody looks at a gate that lets nothing pass, for want of a share of the rate.
    private static let closedGateWait: Duration = .milliseconds(50)
    /// What is copied at once for one that waits for its rate.
    private static let delayedAtOnce = 64
    private static let delayedBytesAtOnce = 128 * 1024

    func makeMeter(_ gates: [MeteredGate], _ slabKey: Slab<Subscriber>.Key) -> Meter? {
        guard !gates.isEmpty else { return nil }
        let key = Key(slab: slabKey)
        return Meter(gates: gates, timer: LoopTimer { [weak self] in self?.meterIsDue(key) })
    }

    func close(_ meter: Meter, of subscriber: Subscriber) {
        loop.cancel(meter.timer)
        setDelayed(meter, false)
        metrics.rateShed[.ended]?.add(meter.waiting.removeAll())
    }

    private func setDelayed(_ meter: Meter, _ isDelayed: Bool) {
        guard meter.isDelayed != isDelayed else { return }
        meter.isDelayed = isDelayed
        metrics.delayed.add(isDelayed ? 1 : -1)
    }

    // MARK: - Serving

    /// Serves one whose events are counted, as far as its rates and its socket go.
    func pull(_ subscriber: Subscriber, through meter: Meter) {
        while true {
            guard sendWaiting(of: subscriber, meter) else { return }
            if meter.isDelayed {
                subscriber.phase = .paced
                return
            }
            guard settle(subscriber) else { return rest(subscriber, meter) }
            guard let batch = batch(of: subscriber, steps: 0) else { return }
            guard offer(batch, to: subscriber, meter) else { return }
        }
    }

    /// Has had everything there is: what waits, waits for its rate, and what was left out is told.
    private func rest(_ subscriber: Subscriber, _ meter: Meter) {
        guard subscriber.phase == .ahead else { return }
        if let wait = tell(subscriber, meter), !meter.timer.isScheduled {
            loop.schedule(meter.timer, after: wait)
        }
    }

    /// Tells what was left out.
    ///
    /// - Returns: How long to wait with that, where it was told of late; `nil` where there is
    ///   nothing to tell.
    private func tell(_ subscriber: Subscriber, _ meter: Meter) -> Duration? {
        let (notice, wait) = meter.notice(at: loop.now)
        if let notice {
            metrics.rateNotices.add()
            subscriber.preamble += subscriber.subscriptionClass.own(notice.frame)
            _ = flushPreamble(subscriber)
        }
        return wait
    }

    private func meterIsDue(_ key: Key) {
        guard let subscriber = subscribers[key.slab] else { return }
        switch subscriber.phase {
        case .paced, .ahead: pull(subscriber)
        // It looks again when it goes on.
        case .blocked, .awaitingPage, .pulling, .caughtUp: return
        }
    }

    // MARK: - One batch

    /// Decides on what the subscriber gets of its next batch. False where it has to wait or has
    /// ended.
    private func offer(_ batch: EventBatch, to subscriber: Subscriber, _ meter: Meter) -> Bool {
        let members = subscriber.subscriptionClass
        guard !batch.isNotice else {
            slices.removeAll(keepingCapacity: true)
            let rendering = members.render(batch, after: subscriber.cursor, to: &slices)
            for slice in slices { subscriber.preamble += rendering.bytes.copy(slice) }
            passBatch(subscriber, batch)
            return flushPreamble(subscriber)
        }
        let rows = members.matchingRows(of: batch, after: subscriber.cursor)
        guard !rows.isEmpty else {
            passBatch(subscriber, batch)
            return true
        }
        if members.makesFrames, case .window(let ordinal) = subscriber.source {
            defer { window.recount(ordinal) }
            return decide(batch, rows, for: subscriber, meter)
        }
        return decide(batch, rows, for: subscriber, meter)
    }

    private func decide(
        _ batch: EventBatch, _ rows: [Int], for subscriber: Subscriber, _ meter: Meter
    ) -> Bool {
        let rule = rule(of: batch, for: subscriber)
        switch meter.isLive && !batch.isReplay ? rule.policy : .delay {
        case .delay: delay(batch, rows, of: subscriber, meter)
        case .shed: return shed(batch, rows, rule, of: subscriber, meter)
        case .conflate: conflate(batch, rows, rule, of: subscriber, meter)
        }
        return true
    }

    private func rule(of batch: EventBatch, for subscriber: Subscriber) -> LimitRule {
        let subscription = subscriber.subscriptionClass.subscription
        return subscription.position(in: batch.route).map { batch.route.channels[$0].limitRule }
            ?? LimitRule()
    }

    /// Has the next few events wait for their turn, and everything after them where it is. They are
    /// copied, so that a page of history does not wait with them: pages are the memory that others
    /// wait for.
    private func delay(
        _ batch: EventBatch, _ rows: [Int], of subscriber: Subscriber, _ meter: Meter
    ) {
        setDelayed(meter, true)
        // Those of another channel's rule go first.
        guard meter.waiting.isEmpty else { return }
        let members = subscriber.subscriptionClass
        var count = 0
        while count < rows.count, count < Self.delayedAtOnce,
            meter.waiting.bytes < Self.delayedBytesAtOnce
        {
            let frame = members.frames(of: batch, rows: [rows[count]])
            _ = meter.waiting.add(batch.id(ofRow: rows[count]), key: nil, frame: frame)
            count += 1
        }
        metrics.rateMatched.add(count)
        subscriber.passage?.sent(batch, events: count)
        if count == rows.count {
            passBatch(subscriber, batch)
        } else {
            subscriber.cursor = batch.id(ofRow: rows[count - 1])
            if case .page = subscriber.source { subscriber.source = .unseated }
        }
    }

    /// Sends what may pass now, what is urgent first, and leaves the rest out.
    private func shed(
        _ batch: EventBatch, _ rows: [Int], _ rule: LimitRule, of subscriber: Subscriber,
        _ meter: Meter
    ) -> Bool {
        metrics.rateMatched.add(rows.count)
        var urgent: [Int] = []
        var others = rows
        if rule.priorityColumn != nil {
            urgent = rows.filter { isUrgent(batch, row: $0, rule) }
            if !urgent.isEmpty { others = rows.filter { !isUrgent(batch, row: $0, rule) } }
        }
        let (urgentCount, urgentStop) = meter.take(upTo: urgent.count, at: loop.now)
        let (otherCount, otherStop) = meter.take(
            upTo: others.count, at: loop.now, isUrgent: rule.priorityColumn == nil)
        let chosen = (urgent[..<urgentCount] + others[..<otherCount]).sorted()
        if !chosen.isEmpty { sent(chosen[...], of: batch, to: subscriber) }
        leaveOut(urgent[urgentCount...], of: batch, meter, urgentStop)
        leaveOut(others[otherCount...], of: batch, meter, otherStop)
        passBatch(subscriber, batch)
        return flushPreamble(subscriber)
    }

    private func leaveOut(
        _ rows: ArraySlice<Int>, of batch: EventBatch, _ meter: Meter, _ stop: MeteredGate?
    ) {
        guard !rows.isEmpty else { return }
        let cause = stop?.cause ?? .connection
        metrics.rateShed[cause]?.add(rows.count)
        for row in rows { meter.note(shed: batch.id(ofRow: row), because: cause) }
    }

    /// Puts what matches in the place of what waits for the same key.
    private func conflate(
        _ batch: EventBatch, _ rows: [Int], _ rule: LimitRule, of subscriber: Subscriber,
        _ meter: Meter
    ) {
        metrics.rateMatched.add(rows.count)
        let members = subscriber.subscriptionClass
        for row in rows {
            let key = isUrgent(batch, row: row, rule) ? nil : self.key(batch, row: row, rule)
            let left = meter.waiting.add(
                batch.id(ofRow: row), key: key, frame: members.frames(of: batch, rows: [row]))
            for (id, cause) in left {
                metrics.rateShed[cause]?.add()
                meter.note(shed: id, because: cause)
            }
        }
        passBatch(subscriber, batch)
    }

    /// Sends what waits for its turn, as far as the rates go. False where the socket is full or has
    /// ended.
    private func sendWaiting(of subscriber: Subscriber, _ meter: Meter) -> Bool {
        while !meter.waiting.isEmpty {
            let (count, stop) = meter.take(upTo: min(meter.waiting.count, 64), at: loop.now)
            for _ in 0..<count {
                guard let event = meter.waiting.popFirst() else { break }
                subscriber.preamble += event.frame
            }
            metrics.rateSent.add(count)
            metrics.eventsDelivered.add(count)
            guard flushPreamble(subscriber) else { return false }
            if let stop {
                wait(subscriber, meter, for: stop.gate)
                return true
            }
        }
        setDelayed(meter, false)
        return true
    }

    /// Lets go of what waits for its turn, for one that is moved ahead. Returns the cursor before it.
    func dropWaiting(of subscriber: Subscriber) -> EventID? {
        guard let meter = subscriber.meter, let first = meter.waiting.firstID else { return nil }
        metrics.rateShed[.overflow]?.add(meter.waiting.removeAll())
        setDelayed(meter, false)
        return EventID(milliseconds: first.milliseconds, sequence: max(1, first.sequence) - 1)
    }

    private func sent(
        _ rows: ArraySlice<Int>, of batch: EventBatch, to subscriber: Subscriber
    ) {
        subscriber.preamble += subscriber.subscriptionClass.frames(of: batch, rows: rows)
        subscriber.passage?.sent(batch, events: rows.count)
        metrics.rateSent.add(rows.count)
        metrics.eventsDelivered.add(rows.count)
    }

    private func isUrgent(_ batch: EventBatch, row: Int, _ rule: LimitRule) -> Bool {
        guard let column = rule.priorityColumn, let fields = batch.fields else { return false }
        return fields.matches(row: row, column: column, anyOf: rule.urgentValues)
    }

    private func key(_ batch: EventBatch, row: Int, _ rule: LimitRule) -> String {
        guard let column = rule.keyColumn, let fields = batch.fields else { return "" }
        switch fields.first(row: row, column: column) {
        case .absent, .null: return ""
        case .bool(let value): return "\(value)"
        case .number(let value): return "\(value)"
        case .text(let text): return fields.string(of: text)
        }
    }

    // MARK: - Waiting for a gate

    /// Has the subscriber looked after once the gate lets an event pass. A gate that others use too
    /// has a queue, so that they take turns.
    private func wait(_ subscriber: Subscriber, _ meter: Meter, for gate: RateGate) {
        if gate === meter.gates[0].gate, meter.gates[0].cause == .connection {
            loop.schedule(meter.timer, after: gate.delay(at: loop.now) ?? Self.closedGateWait)
            return
        }
        gate.noteShortage()
        let name = ObjectIdentifier(gate)
        let queue = gateQueues[name] ?? makeQueue(gate, name)
        let key = Key(slab: subscriber.key)
        if queue.members.insert(key).inserted { queue.keys.append(key) }
        if !queue.timer.isScheduled {
            loop.schedule(queue.timer, after: gate.delay(at: loop.now) ?? Self.closedGateWait)
        }
    }

    private func makeQueue(_ gate: RateGate, _ name: ObjectIdentifier) -> GateQueue {
        let queue = GateQueue(gate, timer: LoopTimer { [weak self] in self?.gateMayBeOpen(name) })
        gateQueues[name] = queue
        return queue
    }

    private func gateMayBeOpen(_ name: ObjectIdentifier) {
        guard let queue = gateQueues[name] else { return }
        // Those who have gone wait for nothing, also where the gate never opens again.
        let waiting = queue.keys.filter { subscribers[$0.slab] != nil }
        queue.members = Set(waiting)
        // Who is served and waits again goes to the end, so each has one turn.
        queue.keys = []
        var served = 0
        while served < waiting.count, queue.gate.delay(at: loop.now) == .zero {
            let key = waiting[served]
            served += 1
            queue.members.remove(key)
            meterIsDue(key)
        }
        queue.keys = waiting[served...] + queue.keys
        guard !queue.keys.isEmpty else {
            gateQueues[name] = nil
            return
        }
        queue.gate.noteShortage()
        if !queue.timer.isScheduled {
            loop.schedule(queue.timer, after: queue.gate.delay(at: loop.now) ?? Self.closedGateWait)
        }
    }
}
