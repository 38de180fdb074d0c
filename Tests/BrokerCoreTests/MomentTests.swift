// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire
import Testing

@Suite("Moments")
struct MomentTests {
    private static let now: UInt64 = 1_800_000_000_000

    private static func parse(_ text: String) -> UInt64? {
        try? Moment.parse(text, now: now).milliseconds
    }

    @Test(
        "times of RFC 3339, with and without fraction and offset",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.001Z", 1),
            ("2025-11-21T00:00:00Z", 1_763_683_200_000),
            ("2025-11-21t00:00:00.123z", 1_763_683_200_123),
            ("2025-11-21T01:00:00.123999999+01:00", 1_763_683_200_123),
            ("2025-11-21 01:00:00 01:00", 1_763_683_200_000),
            ("2025-11-20T18:30:00.1-05:30", 1_763_683_200_100),
            ("2025-11-21T00:00:00", 1_763_683_200_000),
            ("2024-02-29T12:00:00Z", 1_709_208_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2016-12-31T18:59:60.7-05:00", 1_483_228_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] as [(String, UInt64)])
    func calendar(_ text: String, _ milliseconds: UInt64) {
        #expect(Self.parse(text) == milliseconds)
    }

    @Test(
        "milliseconds and durations",
        arguments: [
            ("0", 0), ("1763683200123", 1_763_683_200_123), ("100000000000", 100_000_000_000),
            ("15m", now - 900_000), ("90s", now - 90_000), ("1h30m", now - 5_400_000),
            ("2d", now - 172_800_000), ("1d2h3m4s5ms", now - 93_784_005), ("0s", now),
            ("250ms", now - 250), ("3660d", now - 3_660 * 86_400_000),
        ] as [(String, UInt64)])
    func numbers(_ text: String, _ milliseconds: UInt64) {
        #expect(Self.parse(text) == milliseconds)
    }

    @Test("only a duration means another moment later")
    func relative() throws {
        #expect(try Moment.parse("5m", now: Self.now).isRelative)
        #expect(try !Moment.parse("1763683200123", now: Self.now).isRelative)
        #expect(try !Moment.parse("2025-11-21T00:00:00Z", now: Self.now).isRelative)
        #expect(try Moment.parse("5m", now: 10).milliseconds == 0)
    }

    @Test(
        "what is no moment is refused",
        arguments: [
            "", " ", "-1", "+5m", "15", "1763683200", "99999999999", "now", "m", "5", "5x", "m5",
            "5m5m", "5s1m", "1.5h", "5 m", "5M", "３m", "9999999999d", "99999999999999999999s",
            "3661d", "253402300800000", "18446744073709551616", "99999999999999999999999999",
            "2025-13-01T00:00:00Z", "2025-00-01T00:00:00Z", "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2025-04-31T00:00:00Z",
            "2025-11-00T00:00:00Z", "2025-11-21T24:00:00Z", "2025-11-21T00:60:00Z",
            "2025-11-21T00:00:61Z", "2025-11-21T12:00:60Z", "2025-11-21T00:00:00.Z",
            "2025-11-21T00:00:00+24:00", "2025-11-21T00:00:00+01:60", "2025-11-21T00:00:00+0100",
            "2025-11-21T00:00:00ZZ", "2025-11-21T00:00:00X", "2025-11-21T00:00Z", "2025-11-21",
            "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01", "2025-1１-21T00:00:00Z",
            "20251121T000000Z",
            "2025-11-21T00:00:00.000000000000000000000000000000000000000000001Z",
        ])
    func refused(_ text: String) {
        #expect(Self.parse(text) == nil)
    }
}

@Suite("Stream spans")
struct StreamSpanTests {
    private static let now: UInt64 = 1_800_000_000_000

    private func span(_ query: [(String, String)], after cursor: EventID? = nil) throws
        -> StreamSpan
    {
        try StreamSpanParameters(query.map { (name: $0.0, value: $0.1) })
            .span(after: cursor, now: Self.now)
    }

    private func before(_ milliseconds: UInt64) -> EventID {
        EventID(milliseconds: milliseconds - 1, sequence: .max)
    }

    @Test("each parameter does what it says")
    func accepted() throws {
        #expect(try span([]) == StreamSpan(start: .live))
        #expect(try span([("camera_ids", "cam1")]) == StreamSpan(start: .live))
        #expect(
            try span([("since", "15m")])
                == StreamSpan(start: .after(before(Self.now - 900_000))))
        #expect(try span([("since", "0")]) == StreamSpan(start: .after(.zero)))
        #expect(try span([("history", "20")]) == StreamSpan(start: .last(20)))
        #expect(
            try span([("since", "10m"), ("until", "5m"), ("speed", "10")])
                == StreamSpan(
                    start: .after(before(Self.now - 600_000)), end: before(Self.now - 300_000),
                    speed: 10))
        #expect(
            try span([("until", "1800000060000")])
                == StreamSpan(start: .live, end: before(1_800_000_060_000)))
        #expect(try span([("history", "10000"), ("speed", "0.1")]).speed == 0.1)
    }

    @Test("an ID to go on from wins over since and history; until and speed stay")
    func resumed() throws {
        let cursor = EventID(milliseconds: Self.now - 1_000, sequence: 7)
        #expect(try span([("since", "15m")], after: cursor) == StreamSpan(start: .after(cursor)))
        let bounded = try span(
            [("history", "5"), ("until", "1800000060000"), ("speed", "2")], after: cursor)
        #expect(
            bounded
                == StreamSpan(start: .after(cursor), end: before(1_800_000_060_000), speed: 2))
        // An interruption of ten minutes, with a beginning that moves and an end that does not.
        let moved = try span(
            [("since", "5m"), ("until", "1799999600000")],
            after: EventID(
                milliseconds: 1_799_999_500_000, sequence: 3))
        #expect(!moved.hasEnded)
        // What stands beside it has to be right all the same.
        #expect(throws: SubscriptionError.self) { try span([("since", "soon")], after: cursor) }
    }

    @Test("who has had the end is not played anything again")
    func ended() throws {
        let until = [("since", "10m"), ("until", "1799999900000")]
        let end = before(1_799_999_900_000)
        #expect(try span(until, after: end).hasEnded)
        #expect(try span(until, after: EventID(milliseconds: Self.now, sequence: 9)).hasEnded)
        #expect(
            try !span(until, after: EventID(milliseconds: 1_799_999_899_999, sequence: 9)).hasEnded)
        // A duration has moved on meanwhile; the ID of an end is one all the same.
        let relative = try span([("since", "10m"), ("until", "5m")], after: end)
        let early = before(1_799_999_600_000)
        #expect(relative.hasEnded)
        let moved = try span([("since", "10m"), ("until", "5m")], after: early)
        #expect(moved.hasEnded)
        #expect(moved.end == early)
        // An absolute end that lies later is a new wish.
        #expect(try !span(until, after: early).hasEnded)
        #expect(try !span([("since", "10m")], after: end).hasEnded)
    }

    @Test(
        "contradictions and nonsense name the parameter, what was given and what is accepted",
        arguments: [
            ([("since", "1800000100000")], "since", "1800000100000"),
            ([("since", "5m"), ("since", "6m")], "since", "5m,6m"),
            ([("since", "yesterday")], "since", "yesterday"),
            ([("since", "5m"), ("history", "3")], "history", "3"),
            ([("history", "0")], "history", "0"), ([("history", "-1")], "history", "-1"),
            ([("history", "10001")], "history", "10001"), ([("history", "")], "history", ""),
            ([("history", "99999999999999999999")], "history", "99999999999999999999"),
            ([("history", "1.5")], "history", "1.5"), ([("history", "+3")], "history", "+3"),
            ([("since", "5m"), ("until", "10m")], "until", "10m"),
            ([("since", "5m"), ("until", "5m")], "until", "5m"),
            ([("until", "5m")], "until", "5m"),
            ([("until", "1900000000000")], "until", "1900000000000"),
            ([("speed", "10")], "speed", "10"),
            ([("until", "1800000060000"), ("speed", "10")], "speed", "10"),
            ([("since", "5m"), ("speed", "0")], "speed", "0"),
            ([("since", "5m"), ("speed", "-1")], "speed", "-1"),
            ([("since", "5m"), ("speed", "0.09")], "speed", "0.09"),
            ([("since", "5m"), ("speed", "1001")], "speed", "1001"),
            ([("since", "5m"), ("speed", "nan")], "speed", "nan"),
            ([("since", "5m"), ("speed", "inf")], "speed", "inf"),
            ([("since", "5m"), ("speed", "1e2")], "speed", "1e2"),
            ([("since", "5m"), ("speed", "1.2.3")], "speed", "1.2.3"),
            ([("since", "5m"), ("speed", "")], "speed", ""),
        ] as [([(String, String)], String, String)])
    func refused(_ query: [(String, String)], _ parameter: String, _ given: String) {
        #expect {
            try span(query)
        } throws: { error in
            guard let error = error as? SubscriptionError else { return false }
            return error.parameter == parameter && error.given == given
                && !error.accepted.isEmpty && error.code == .invalidValue
        }
    }

    @Test("the newest matches are found part by part, from the end")
    func newest() {
        func id(_ number: UInt64) -> EventID { EventID(milliseconds: 5, sequence: number) }
        var matches = NewestMatches(wanted: 5)
        for number in [7, 8, 9] as [UInt64] { matches.add(id(number)) }
        matches.endPart()
        #expect(matches.missing == 2)
        #expect(matches.start == id(6))
        for number in 1...6 as ClosedRange<UInt64> { matches.add(id(number)) }
        matches.endPart()
        #expect(matches.isComplete)
        #expect(matches.start == id(4))
        matches.add(id(1))
        matches.endPart()
        #expect(matches.start == id(4))
        #expect(NewestMatches(wanted: 1).start == nil)
    }
}
