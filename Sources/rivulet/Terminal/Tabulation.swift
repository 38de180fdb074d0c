// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Numbers and lists as sentences need them.
enum Tabulation {
    /// `1 event`, `2 events`, `1,234 events`.
    static func count(_ number: Int, _ noun: String) -> String {
        "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")"
    }

    /// With a comma between each three digits.
    static func grouped(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text += "," }
            text.append(digit)
        }
        return number < 0 ? "-\(text)" : text
    }

    /// `512 B`, `64 MiB`, `23.5 GiB`.
    static func bytes(_ number: Int) -> String {
        var unit = 0
        var value = Double(number)
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        while value.magnitude >= 1024, unit + 1 < units.count {
            value /= 1024
            unit += 1
        }
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 || unit == 0
            ? "\(tenths / 10) \(units[unit])"
            : "\(tenths / 10).\(tenths.magnitude % 10) \(units[unit])"
    }

    /// The first of `names`, and how many more there are.
    static func list(_ names: [String], limit: Int = 10) -> String {
        let shown = names.prefix(limit).joined(separator: ", ")
        return names.count > limit ? "\(shown) and \(names.count - limit) more" : shown
    }
}
