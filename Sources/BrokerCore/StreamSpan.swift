// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// Which part of the order of events a stream plays, and how fast.
///
/// Where it begins and which events match are two things: connections with the same filters share
/// a ``SubscriptionClass`` whatever their spans.
package struct StreamSpan: Sendable, Hashable {
    package enum Start: Sendable, Hashable {
        /// With what is new.
        case live
        /// Behind this cursor.
        case after(EventID)
        /// With the last so many events that match, as of now or of the span's end.
        case last(Int)
    }

    package var start: Start
    /// The place before which the stream ends; `nil` goes on for ever. No event has this ID.
    package var end: EventID?
    /// How many milliseconds of history pass in one of the client's; `nil` is as fast as it reads.
    package var speed: Double?
    /// True where the client has come back with the ID of the `end` that it was told.
    package var hasEnded = false

    package init(start: Start, end: EventID? = nil, speed: Double? = nil) {
        self.start = start
        self.end = end
        self.speed = speed
    }

    /// The cursor of who has all events before that millisecond and none of it. An ID with this
    /// sequence number is never given to an event.
    package static func boundary(before milliseconds: UInt64) -> EventID {
        guard milliseconds > 0 else { return .zero }
        return EventID(milliseconds: milliseconds - 1, sequence: .max)
    }
}

/// What bounds the spans that clients may ask for.
package enum StreamSpanLimits {
    /// Enough to fill any list on a screen. The search for them keeps an ID of each.
    package static let historyMax = 10_000
    /// Ten times slower shows single events of a burst; a thousand times faster plays a day in a
    /// minute and a half. Beyond both it is no replay to watch, and without `speed` it is faster.
    package static let speeds = 0.1...1_000
    /// What a time "now" of another clock may lie in the future.
    package static let clockSkewMilliseconds: UInt64 = 2_000
    /// A stream that is to end later is one that nobody waits for; and a timer that far is sure
    /// not to overflow.
    package static let aheadMillisecondsMax: UInt64 = 366 * 86_400_000
    /// How long after its time a stream that waited for it looks whether it has everything: by
    /// so much the clocks of the nodes and of Redis may differ.
    package static let endGrace: Duration = .seconds(1)
    /// How long it waits before it looks again, where there was still something new.
    package static let endRetry: Duration = .milliseconds(100)
    /// A page of history is let go where its next event is further away than this: pages are
    /// memory that others wait for.
    static let pageHeldPause: Duration = .seconds(2)
    /// A longer silence in history is shortened to this when it is played with `speed`, because
    /// who plays a night of history does not want to sit through it.
    package static let pauseMax: Duration = .seconds(30)
}

/// The parameters of a request that say which span it wants, each at most once.
package struct StreamSpanParameters: Sendable {
    package static let names = ["history", "since", "speed", "until"]

    /// The forms of `history` and `speed`, as an answer lists them.
    static let historyAccepted = "a whole number from 1 to \(StreamSpanLimits.historyMax)"
    static let speedAccepted = "a number from 0.1 to 1000, such as 10"

    private var given: [String: String] = [:]

    /// - Parameter parameters: Those with other names are not looked at.
    package init(_ parameters: [(name: String, value: String)]) throws(SubscriptionError) {
        for (name, value) in parameters where Self.names.contains(name) {
            if let other = given[name] {
                throw SubscriptionError(
                    code: .invalidValue, parameter: name, given: "\(other),\(value)",
                    accepted: ["one value"], detail: "\"\(name)\" is given twice")
            }
            given[name] = value
        }
    }

    /// The span.
    ///
    /// - Parameters:
    ///   - cursor: Where the client goes on: it wins over `since` and `history`, which stand in
    ///     the same URL when a browser comes back.
    ///   - now: Milliseconds since 1970.
    package func span(after cursor: EventID?, now: UInt64) throws(SubscriptionError) -> StreamSpan {
        // Looked at also where the cursor wins: what is wrong is wrong the first time already.
        let since = try moment("since", now: now)
        let history = try history()
        let until = try moment("until", now: now)
        let speed = try speed()
        if let since, since.milliseconds > now + StreamSpanLimits.clockSkewMilliseconds {
            throw refusal("since", "\"since\" lies in the future", ["a time that has been"])
        }
        if since != nil, history != nil {
            throw refusal(
                "history", "\"history\" and \"since\" are two beginnings", ["one of the two"])
        }
        var span = StreamSpan(start: .live, speed: speed)
        if let cursor {
            span.start = .after(cursor)
        } else if let since {
            span.start = .after(StreamSpan.boundary(before: since.milliseconds))
        } else if let history {
            span.start = .last(history)
        }
        if let until {
            // Between two connections a duration moves: a `since` that does not count any more
            // must not turn who comes back away.
            try check(
                until, since: cursor == nil ? since : nil, hasStart: span.start != .live, now: now)
            span.end = StreamSpan.boundary(before: until.milliseconds)
            // A duration means a later end each time; who was told of an end has had it.
            if let cursor, let end = span.end, cursor >= end || isEnd(cursor, until) {
                span.hasEnded = true
                span.end = min(end, cursor)
            }
        }
        if speed != nil, span.start == .live {
            throw refusal(
                "speed", "what is new comes when it comes: \"speed\" plays history",
                ["together with since, history or an event ID to resume from"])
        }
        return span
    }

    /// Whether `cursor` is the ID of an `event: end`, asked to go on to a relative end.
    private func isEnd(_ cursor: EventID, _ until: Moment) -> Bool {
        until.isRelative && cursor.sequence == .max
    }

    private func check(_ until: Moment, since: Moment?, hasStart: Bool, now: UInt64)
        throws(SubscriptionError)
    {
        if let since, until.milliseconds <= since.milliseconds {
            throw refusal("until", "\"until\" is not after \"since\"", ["a time after since"])
        }
        guard until.milliseconds <= now + StreamSpanLimits.aheadMillisecondsMax else {
            throw refusal(
                "until", "\"until\" lies more than a year in the future", Moment.accepted)
        }
        guard hasStart || until.milliseconds > now else {
            throw refusal(
                "until", "a stream that begins now cannot end before",
                ["a time in the future", "together with since, history or an event ID"])
        }
    }

    private func refusal(_ name: String, _ detail: String, _ accepted: [String])
        -> SubscriptionError
    {
        SubscriptionError(
            code: .invalidValue, parameter: name, given: given[name] ?? "", accepted: accepted,
            detail: detail)
    }

    private func moment(_ name: String, now: UInt64) throws(SubscriptionError) -> Moment? {
        guard let text = given[name] else { return nil }
        do throws(Moment.Refusal) {
            return try Moment.parse(text, now: now)
        } catch {
            throw refusal(name, "\"\(name)\" \(error.detail)", Moment.accepted)
        }
    }

    private func history() throws(SubscriptionError) -> Int? {
        guard let text = given["history"] else { return nil }
        guard let count = Moment.number(Array(text.utf8)[...], digitsMax: 9),
            (1...UInt64(StreamSpanLimits.historyMax)).contains(count)
        else {
            throw refusal(
                "history", "\"history\" is how many events to begin with", [Self.historyAccepted])
        }
        return Int(count)
    }

    private func speed() throws(SubscriptionError) -> Double? {
        guard let text = given["speed"] else { return nil }
        let isPlain = text.utf8.allSatisfy { Moment.isDigit($0) || $0 == UInt8(ascii: ".") }
        guard isPlain, text.utf8.count <= 16, let speed = Double(text),
            StreamSpanLimits.speeds.contains(speed)
        else {
            throw refusal(
                "speed", "\"speed\" is how many times faster than it was", [Self.speedAccepted])
        }
        return speed
    }
}
