// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Text in columns, and numbers as people read them.
enum Columns {
    static func padded(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }

    /// A table with a line under its head; the first column is text, the others are numbers.
    static func table(_ head: [String], _ rows: [[String]]) -> String {
        var widths = head.map(\.count)
        for row in rows {
            for (column, cell) in row.enumerated() {
                widths[column] = max(widths[column], cell.count)
            }
        }
        func line(_ cells: [String]) -> String {
            let parts = cells.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }
            return "| " + parts.joined(separator: " | ") + " |"
        }
        let rule = widths.enumerated().map { column, width in
            String(repeating: "-", count: width + 1) + (column == 0 ? "-" : ":")
        }
        let lines = [line(head), "|" + rule.joined(separator: "|") + "|"] + rows.map(line)
        return lines.joined(separator: "\n")
    }

    /// Three significant digits, with spaces between thousands: `1 230 000`, `4.56`, `0.0123`.
    static func number(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        guard abs(value) >= 1e-9 else { return "0" }
        var scale = 1.0
        while abs(value) * scale < 100 { scale *= 10 }
        while abs(value) * scale >= 1000 { scale /= 10 }
        let kept = (value * scale).rounded()
        guard scale > 1 else { return grouped(Int64((kept / scale).rounded())) }
        var places = 0
        var power = 1.0
        while power < scale {
            power *= 10
            places += 1
        }
        let digits = String(Int64(abs(kept)))
        let filled = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
        return (kept < 0 ? "-" : "") + filled.dropLast(places) + "." + filled.suffix(places)
    }

    private static func grouped(_ value: Int64) -> String {
        let digits = Array(String(value.magnitude))
        var text = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text.append(" ") }
            text.append(digit)
        }
        return text
    }

    /// `median (minimum–maximum)`; the median alone where there is one value.
    static func spread(_ spread: Spread) -> String {
        guard spread.values.count > 1 else { return number(spread.median) }
        return "\(number(spread.median)) (\(number(spread.minimum))–\(number(spread.maximum)))"
    }
}
