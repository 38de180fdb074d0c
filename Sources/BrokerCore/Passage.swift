// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import PosixIO
import Reactor

/// What a subscriber keeps whose stream has an end, or is paced by the times of its events.
///
/// View: shard. Threads: its loop's. Hardly any subscriber has one, and those who do are only ever
/// pulled: what is pushed to the members of a class knows nothing of it.
final class Passage {
    enum Verdict {
        case due
        case after(Duration)
        /// It lies behind the end.
        case over
    }

    let end: EventID?
    private(set) var speed: Double?
    /// When it plays on, or looks whether the end has come.
    let timer: LoopTimer
    /// It looks in history whether anything is left before the end.
    var isConfirming = false
    /// How often it has looked so.
    var confirmations = 0
    /// The end has been told, or waits for the socket.
    var isConcluded = false
    private var eventCount: UInt64 = 0
    private var lastSent: EventID?
    /// The time of an event, and when it was played.
    private var origin: (milliseconds: UInt64, at: MonotonicTime)?

    init(end: EventID?, speed: Double?, timer: LoopTimer) {
        self.end = end
        self.speed = speed
        self.timer = timer
    }

    func isOver(at cursor: EventID) -> Bool { end.map { cursor >= $0 } ?? false }

    /// It has had all of history: what comes from here on comes when it comes.
    func becomeLive() { speed = nil }

    var isPaced: Bool { speed != nil }

    /// Whether a batch may be played at `now`. Says nothing of how often it is asked.
    func verdict(on batch: EventBatch, now: MonotonicTime) -> Verdict {
        if let end, batch.firstID > end { return .over }
        guard let speed, let origin, !batch.isNotice else { return .due }
        let passed =
            batch.firstID.milliseconds
            - min(
                batch.firstID.milliseconds, origin.milliseconds)
        let wait = origin.at + .nanoseconds(Self.nanoseconds(passed, speed)) - now
        return wait > .zero ? .after(wait) : .due
    }

    /// History's milliseconds as nanoseconds of the client's, for at most a century.
    private static func nanoseconds(_ milliseconds: UInt64, _ speed: Double) -> Int64 {
        Int64(min(Double(milliseconds) * 1e6 / speed, 3e18))
    }

    /// The first event that is played sets the clock.
    func begin(with batch: EventBatch, now: MonotonicTime) {
        guard speed != nil, origin == nil, !batch.isNotice else { return }
        origin = (batch.firstID.milliseconds, now)
    }

    /// Moves the clock so that the batch is due at `now` and `pause`.
    func shorten(to pause: Duration, before batch: EventBatch, now: MonotonicTime) {
        origin = (batch.firstID.milliseconds, now + pause)
    }

    func sent(_ batch: EventBatch, events: Int) {
        guard !batch.isNotice, events > 0 else { return }
        eventCount += UInt64(events)
        lastSent = batch.lastID
    }

    /// `event: end`. Its ID is the end itself, which no event has.
    var endFrame: [UInt8] {
        let end = end ?? .zero
        var json = JSONText()
        json.object {
            $0.field("reason", "until")
            $0.field("cursor", end.description)
            // Its boundary lies in the millisecond before.
            $0.field(
                "until",
                end == .zero
                    ? "1970-01-01T00:00:00.000Z"
                    : WallClock.text(milliseconds: end.milliseconds + 1))
            $0.field("count", eventCount)
            if let lastSent { $0.field("last", lastSent.description) }
        }
        var writer = ByteWriter()
        EventStreamEncoder.append(id: end, name: "end", data: json.text, to: &writer)
        return writer.bytes
    }
}
