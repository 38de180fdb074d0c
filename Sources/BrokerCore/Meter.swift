// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire
import PosixIO
import Reactor

/// What a subscriber keeps whose events are counted against rates.
///
/// View: shard. Threads: its loop's. Such a subscriber is never caught up: it is served by itself,
/// event by event (`Hub+Meter`), and what is pushed to the members of a class knows nothing of it.
final class Meter {
    /// The narrowest first: what stops most of what is stopped.
    let gates: [MeteredGate]
    /// When something that waits may pass, or the client is told what was shed.
    let timer: LoopTimer
    /// It has had everything once: from here on what does not pass is treated by its rule.
    var isLive = false
    var waiting = ConflatedEvents()
    /// It waits for its rate where it is.
    var isDelayed = false
    private(set) var shed: RateLimitedNotice?
    private var toldAt: MonotonicTime?

    /// The least time between two notices of one subscriber.
    static let noticeInterval: Duration = .seconds(1)

    init(gates: [MeteredGate], timer: LoopTimer) {
        self.gates = gates
        self.timer = timer
    }

    /// Takes as many of `count` events as all gates let pass.
    ///
    /// - Returns: How many, and the gate that stopped the next one.
    func take(upTo count: Int, at now: MonotonicTime, isUrgent: Bool = true)
        -> (count: Int, stop: MeteredGate?)
    {
        var passing = count
        var stop: MeteredGate?
        for index in gates.indices {
            let taken = gates[index].gate.take(upTo: passing, at: now, isUrgent: isUrgent)
            if taken < passing {
                // Those before it let more pass than will come.
                for earlier in gates[..<index] { earlier.gate.giveBack(passing - taken) }
                stop = gates[index]
                passing = taken
            }
            if passing == 0 { break }
        }
        return (passing, stop)
    }

    /// An event was left out.
    func note(shed id: EventID, because cause: ShedCause) {
        var notice = shed ?? RateLimitedNotice(first: id)
        notice.add(id, cause)
        shed = notice
    }

    /// What to tell the client now, or how long to wait with that.
    func notice(at now: MonotonicTime) -> (notice: RateLimitedNotice?, wait: Duration?) {
        guard let shed else { return (nil, nil) }
        if let toldAt, now - toldAt < Self.noticeInterval {
            return (nil, Self.noticeInterval - (now - toldAt))
        }
        toldAt = now
        self.shed = nil
        return (shed, nil)
    }
}

/// Tells a client, in its stream, that events which matched were not sent because of a rate.
///
/// It travels as `event: rate_limited` with a JSON object of `count`, `from`, `to` and `causes`:
/// after `from` and up to `to` lie all that were left out, which history still has. It has no
/// `id:`, so a client that reconnects goes on after the last event it received.
package struct RateLimitedNotice: Sendable, Equatable {
    package private(set) var from: EventID
    package private(set) var to: EventID
    package private(set) var count = 0
    package private(set) var causes: [ShedCause: Int] = [:]

    init(first id: EventID) {
        from = Self.place(before: id)
        to = id
    }

    mutating func add(_ id: EventID, _ cause: ShedCause) {
        count += 1
        causes[cause, default: 0] += 1
        to = max(to, id)
        // What waited for its turn may lie before what was left out first.
        from = min(from, Self.place(before: id))
    }

    /// The cursor of who gets the event next.
    private static func place(before id: EventID) -> EventID {
        EventID(milliseconds: id.milliseconds, sequence: max(1, id.sequence) - 1)
    }

    /// The notice as it goes on the wire.
    var frame: [UInt8] {
        var json = JSONText()
        json.object {
            $0.field("count", count)
            $0.field("from", from.description)
            $0.field("to", to.description)
            $0.object("causes") {
                for cause in ShedCause.allCases {
                    if let count = causes[cause] { $0.field(cause.rawValue, count) }
                }
            }
        }
        var writer = ByteWriter()
        EventStreamEncoder.append(id: nil, name: "rate_limited", data: json.text, to: &writer)
        return writer.bytes
    }
}

/// The newest event of each key that waits for its turn, in the order of their IDs.
///
/// Bounded in keys and bytes. New events have larger IDs than all that wait, so whatever is sent is
/// sent in order.
struct ConflatedEvents {
    struct Waiting {
        let id: EventID
        let key: String?
        let frame: [UInt8]
        var isReplaced = false
    }

    /// Keys that one connection keeps at most: a wall of cameras.
    static let keysMax = 1000
    static let bytesMax = 1 << 20

    private var events: [Waiting] = []
    private var first = 0
    private var places: [String: Int] = [:]
    private(set) var count = 0
    private(set) var bytes = 0

    var isEmpty: Bool { count == 0 }
    var firstID: EventID? { events[first...].first { !$0.isReplaced }?.id }

    /// Adds an event; one without a key replaces none and is replaced by none.
    ///
    /// - Returns: Those that are left out for it.
    mutating func add(_ id: EventID, key: String?, frame: [UInt8]) -> [(EventID, ShedCause)] {
        var left: [(EventID, ShedCause)] = []
        if let key, let place = places[key] {
            left.append((events[place].id, .conflated))
            drop(place)
        }
        if let key { places[key] = events.count }
        events.append(Waiting(id: id, key: key, frame: frame))
        count += 1
        bytes += frame.count
        while count > 1, count > Self.keysMax || bytes > Self.bytesMax, let event = popFirst() {
            left.append((event.id, .overflow))
        }
        compact()
        return left
    }

    private mutating func drop(_ place: Int) {
        count -= 1
        bytes -= events[place].frame.count
        events[place] = Waiting(
            id: events[place].id, key: nil, frame: [], isReplaced: true)
    }

    mutating func popFirst() -> Waiting? {
        while first < events.count {
            let event = events[first]
            first += 1
            if event.isReplaced { continue }
            if let key = event.key { places[key] = nil }
            count -= 1
            bytes -= event.frame.count
            return event
        }
        return nil
    }

    /// Forgets the places of those that are gone, once they are the most.
    private mutating func compact() {
        guard events.count > 2 * count + 64 else { return }
        events = events[first...].filter { !$0.isReplaced }
        first = 0
        places = [:]
        for (place, event) in events.enumerated() {
            if let key = event.key { places[key] = place }
        }
    }

    mutating func removeAll() -> Int {
        let count = count
        self = ConflatedEvents()
        return count
    }
}
