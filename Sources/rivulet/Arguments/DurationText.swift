// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// Durations and rates as people write them.
enum DurationText {
    private static let units: [(name: String, milliseconds: Int64)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000),
    ]
    /// Fifteen digits of hours still fit 64 bits of milliseconds.
    private static let digitsMax = 11

    /// Reads `250ms`, `5s`, `2m` or `1h`; `nil` for anything else.
    static func parse(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, digits.count <= digitsMax, let count = Int64(digits),
            let unit = units.first(where: { $0.name == text[digits.endIndex...] })
        else { return nil }
        return .milliseconds(count * unit.milliseconds)
    }

    /// Reads `500`, `500/s`, `0.5/s` or `30/m` as a number per second; `nil` for anything else.
    static func rate(_ text: String) -> Double? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = parts[0].utf8.allSatisfy {
            $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") || $0 == UInt8(ascii: ".")
        }
        guard isPlain, parts[0].utf8.count <= digitsMax, let number = Double(parts[0]) else {
            return nil
        }
        switch parts.count {
        case 1: return number
        case 2 where parts[1] == "s": return number
        case 2 where parts[1] == "m": return number / 60
        default: return nil
        }
    }

    /// The shortest of `250ms`, `1.5s`, `2m`, `1h`.
    static func short(_ duration: Duration) -> String {
        let milliseconds = duration.wholeMilliseconds
        for unit in units.reversed()
        where milliseconds >= unit.milliseconds && milliseconds % unit.milliseconds == 0 {
            return "\(milliseconds / unit.milliseconds)\(unit.name)"
        }
        return milliseconds < 1_000 ? "\(milliseconds)ms" : "\(seconds(duration))s"
    }

    /// Seconds with up to two decimals: `0.42`, `12`.
    static func seconds(_ duration: Duration) -> String {
        decimal(duration.inSeconds, places: 2)
    }

    /// A number with at most `places` decimals and no zeros at the end.
    static func decimal(_ number: Double, places: Int) -> String {
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        guard number.isFinite, abs(number * scale) < 1e18 else { return "\(number)" }
        let whole = Int64((abs(number) * scale).rounded())
        var digits = String(whole % Int64(scale))
        digits = String(repeating: "0", count: max(0, places - digits.count)) + digits
        while digits.last == "0" { digits.removeLast() }
        let sign = number < 0 && whole > 0 ? "-" : ""
        let integer = "\(sign)\(whole / Int64(scale))"
        return digits.isEmpty || places == 0 ? integer : "\(integer).\(digits)"
    }
}
