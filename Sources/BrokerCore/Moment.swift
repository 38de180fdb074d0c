// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A point in time as a client writes it: RFC 3339, milliseconds since 1970, or how long ago.
///
/// Pure: the clock is the caller's, so the same text at the same time is the same moment.
package struct Moment: Sendable, Hashable {
    /// Milliseconds since 1970-01-01 UTC.
    package let milliseconds: UInt64
    /// True where it was given as a duration, so that the same text means another moment later.
    package let isRelative: Bool

    package init(milliseconds: UInt64, isRelative: Bool = false) {
        self.milliseconds = milliseconds
        self.isRelative = isRelative
    }

    /// The forms, as an answer to a client lists them.
    package static let accepted = [
        "a time of RFC 3339, such as 2026-11-21T09:30:00.250+01:00 (UTC where no offset is given)",
        "milliseconds since 1970, such as 1763683200123",
        "how long ago, such as 90s, 15m, 1h30m or 2d",
    ]

    /// Why a text is no moment, in a few words.
    package struct Refusal: Error, Sendable, Equatable {
        package let detail: String
    }

    /// Longer texts are no form of a time.
    private static let bytesMax = 64
    /// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
    static let latest: UInt64 = 253_402_300_799_999
    /// Smaller numbers but 0, which is "from the beginning", are seconds that somebody took for
    /// milliseconds: as milliseconds they would lie before March 1973.
    private static let smallestMilliseconds: UInt64 = 100_000_000_000
    /// Ten years: longer than anybody keeps events, and far from any overflow.
    private static let longestAgo: UInt64 = 3_660 * 86_400_000

    package static func parse(_ text: String, now: UInt64) throws(Refusal) -> Moment {
        let bytes = Array(text.utf8)
        guard !bytes.isEmpty, bytes.count <= bytesMax else {
            throw Refusal(detail: bytes.isEmpty ? "is empty" : "is too long for a time")
        }
        if bytes.allSatisfy(isDigit) { return try milliseconds(bytes) }
        if bytes.count > 5, bytes[4] == UInt8(ascii: "-") { return try CalendarText.parse(bytes) }
        return try ago(bytes, now: now)
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") <= 9 }

    private static func milliseconds(_ digits: [UInt8]) throws(Refusal) -> Moment {
        guard let value = number(digits[...], digitsMax: 15), value <= latest else {
            throw Refusal(detail: "lies behind the year 9999")
        }
        guard value == 0 || value >= smallestMilliseconds else {
            throw Refusal(detail: "is too small for milliseconds since 1970: are these seconds?")
        }
        return Moment(milliseconds: value)
    }

    /// `nil` for no digits, for more than `digitsMax`, and for anything that is no digit.
    static func number(_ digits: ArraySlice<UInt8>, digitsMax: Int) -> UInt64? {
        guard !digits.isEmpty, digits.count <= digitsMax, digits.allSatisfy(isDigit) else {
            return nil
        }
        return digits.reduce(0) { $0 * 10 + UInt64($1 - UInt8(ascii: "0")) }
    }

    private static let units: [(name: String, milliseconds: UInt64)] = [
        ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1),
    ]

    /// One number and unit or several, from the largest unit to the smallest, each once.
    private static func ago(_ bytes: [UInt8], now: UInt64) throws(Refusal) -> Moment {
        var rest = bytes[...]
        var sum: UInt64 = 0
        var usable = units[...]
        while !rest.isEmpty {
            let digits = rest.prefix(while: isDigit)
            rest = rest.dropFirst(digits.count)
            let letters = rest.prefix { !isDigit($0) }
            rest = rest.dropFirst(letters.count)
            let name = String(decoding: letters, as: UTF8.self)
            guard let count = number(digits, digitsMax: 10),
                let index = usable.firstIndex(where: { $0.name == name })
            else { throw Refusal(detail: "is no time and no duration") }
            // Ten digits of days fit 64 bits of milliseconds, and so do five such terms.
            sum += count * usable[index].milliseconds
            usable = usable[(index + 1)...]
        }
        guard sum <= longestAgo else { throw Refusal(detail: "is more than ten years ago") }
        return Moment(milliseconds: now - min(now, sum), isRelative: true)
    }
}

/// A date and time in the form of RFC 3339, section 5.6.
///
/// Two things are taken that the standard has not: a time without an offset, which is UTC, and a
/// blank in the place of the `T` or the `+`, because a `+` in a query arrives as one.
private enum CalendarText {
    private static func refused(_ detail: String) -> Moment.Refusal { .init(detail: detail) }

    static func parse(_ bytes: [UInt8]) throws(Moment.Refusal) -> Moment {
        let form = refused("is no time of RFC 3339: YYYY-MM-DDThh:mm:ss, a fraction, an offset")
        guard bytes.count >= 19, bytes[7] == UInt8(ascii: "-"),
            [UInt8(ascii: "T"), UInt8(ascii: "t"), UInt8(ascii: " ")].contains(bytes[10]),
            bytes[13] == UInt8(ascii: ":"), bytes[16] == UInt8(ascii: ":"),
            let year = Moment.number(bytes[0..<4], digitsMax: 4),
            let month = Moment.number(bytes[5..<7], digitsMax: 2),
            let day = Moment.number(bytes[8..<10], digitsMax: 2),
            let hour = Moment.number(bytes[11..<13], digitsMax: 2),
            let minute = Moment.number(bytes[14..<16], digitsMax: 2),
            let second = Moment.number(bytes[17..<19], digitsMax: 2)
        else { throw form }
        guard year >= 1970 else { throw refused("lies before 1970") }
        guard (1...12).contains(month), day >= 1, day <= days(in: month, of: year) else {
            throw refused("names a day that the calendar has not")
        }
        guard hour <= 23, minute <= 59, second <= 60 else {
            throw refused("names a time that no clock shows")
        }
        var rest = bytes[19...]
        let fraction = try fraction(&rest)
        let offset = try offset(rest)
        var seconds = Int64(daysSince1970(year, month, day)) * 86_400
        seconds += Int64(hour * 3_600 + minute * 60 + second) - offset
        // A leap second is inserted at the end of a day of UTC; the clocks here count it as the
        // first second of the next one.
        if second == 60, seconds % 86_400 != 0 {
            throw refused("has a 60th second where no leap second can be")
        }
        let milliseconds = seconds * 1_000 + Int64(second == 60 ? 0 : fraction)
        guard milliseconds >= 0 else { throw refused("lies before 1970") }
        guard milliseconds <= Int64(Moment.latest) else {
            throw refused("lies behind the year 9999")
        }
        return Moment(milliseconds: UInt64(milliseconds))
    }

    /// Whole milliseconds of `.123456`; what is finer is cut.
    private static func fraction(_ rest: inout ArraySlice<UInt8>) throws(Moment.Refusal) -> UInt64 {
        guard rest.first == UInt8(ascii: ".") else { return 0 }
        let digits = rest.dropFirst().prefix(while: Moment.isDigit)
        guard !digits.isEmpty else { throw refused("has a point without a fraction") }
        rest = rest.dropFirst(1 + digits.count)
        var value: UInt64 = 0
        for place in 0..<3 {
            let index = digits.startIndex + place
            value = value * 10 + UInt64(index < digits.endIndex ? digits[index] - 0x30 : 0)
        }
        return value
    }

    /// Seconds that the local time is ahead of UTC.
    private static func offset(_ rest: ArraySlice<UInt8>) throws(Moment.Refusal) -> Int64 {
        guard let sign = rest.first else { return 0 }
        if rest.count == 1, sign == UInt8(ascii: "Z") || sign == UInt8(ascii: "z") { return 0 }
        let base = rest.startIndex
        let isAhead = sign == UInt8(ascii: "+") || sign == UInt8(ascii: " ")
        guard rest.count == 6, isAhead || sign == UInt8(ascii: "-"),
            rest[base + 3] == UInt8(ascii: ":"),
            let hours = Moment.number(rest[(base + 1)..<(base + 3)], digitsMax: 2),
            let minutes = Moment.number(rest[(base + 4)..<(base + 6)], digitsMax: 2),
            hours <= 23, minutes <= 59
        else { throw refused("has no offset such as Z or +01:00 behind the time") }
        let seconds = Int64(hours * 3_600 + minutes * 60)
        return isAhead ? seconds : -seconds
    }

    private static func days(in month: UInt64, of year: UInt64) -> UInt64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// The proleptic Gregorian calendar, in years that begin in March so that a leap day comes
    /// last.
    private static func daysSince1970(_ year: UInt64, _ month: UInt64, _ day: UInt64) -> UInt64 {
        let shifted = month > 2 ? year : year - 1
        let monthFromMarch = (month + 9) % 12
        let dayOfYear = (153 * monthFromMarch + 2) / 5 + day - 1
        return shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
    }
}
