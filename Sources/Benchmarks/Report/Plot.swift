// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A simple picture of figures: panels one above the other, lines of points, both axes
/// logarithmic.
struct Plot: Sendable {
    struct Line: Sendable {
        let name: String
        let points: [(x: Double, y: Double)]
    }

    struct Panel: Sendable {
        let title: String
        let xTitle: String
        let lines: [Line]
    }

    let title: String
    let panels: [Panel]

    private static let width = 720.0
    private static let panelHeight = 300.0
    private static let left = 90.0
    private static let right = 200.0
    private static let top = 34.0
    private static let bottom = 46.0
    private static let colours = ["#1f6fb4", "#c8501e", "#3a8f3a", "#7a4fa3", "#8a6d1f", "#444444"]

    /// The picture as SVG.
    var svg: String {
        let height = Self.panelHeight * Double(panels.count) + 30
        var text = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Self.width) \(height)" \
            font-family="sans-serif" font-size="12">
            <rect width="100%" height="100%" fill="white"/>
            <text x="12" y="20" font-size="14" font-weight="bold">\(Self.escaped(title))</text>

            """
        for (index, panel) in panels.enumerated() {
            text += "<g transform=\"translate(0 \(30 + Self.panelHeight * Double(index)))\">\n"
            text += Self.draw(panel) + "</g>\n"
        }
        return text + "</svg>\n"
    }

    /// A range of powers of ten, and where a value of it lies between 0 and 1.
    private struct Axis {
        let lowest: Double
        let powers: ClosedRange<Int>

        init(_ values: [Double]) {
            let low = Int(log10(values.min() ?? 1).rounded(.down))
            powers = low...max(low + 1, Int(log10(values.max() ?? 1).rounded(.up)))
            lowest = Axis.ten(to: low)
        }

        static func ten(to power: Int) -> Double { pow(10, Double(power)) }

        func place(_ value: Double) -> Double {
            log10(value / lowest) / Double(powers.count - 1)
        }
    }

    private static func draw(_ panel: Panel) -> String {
        let points = panel.lines.flatMap(\.points).filter { $0.x > 0 && $0.y > 0 }
        let xAxis = Axis(points.map(\.x))
        let yAxis = Axis(points.map(\.y))
        let plotWidth = width - left - right
        let plotHeight = panelHeight - top - bottom
        func x(_ value: Double) -> Double { left + plotWidth * xAxis.place(value) }
        func y(_ value: Double) -> Double { top + plotHeight * (1 - yAxis.place(value)) }
        var text = "<text x=\"\(left)\" y=\"22\">\(escaped(panel.title))</text>\n"
        for power in yAxis.powers {
            let value = Axis.ten(to: power)
            text += line(left, y(value), left + plotWidth, y(value), "#dddddd")
            text += label(Columns.number(value), left - 8, y(value) + 4, "end")
        }
        for power in xAxis.powers {
            let value = Axis.ten(to: power)
            text += line(x(value), top, x(value), top + plotHeight, "#dddddd")
            text += label(Columns.number(value), x(value), top + plotHeight + 16, "middle")
        }
        text += label(panel.xTitle, left + plotWidth / 2, top + plotHeight + 34, "middle")
        for (index, series) in panel.lines.enumerated() {
            let colour = colours[index % colours.count]
            let drawn = series.points.filter { $0.x > 0 && $0.y > 0 }
            let path = drawn.map { "\(rounded(x($0.x))),\(rounded(y($0.y)))" }
                .joined(separator: " ")
            text += "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\" "
            text += "points=\"\(path)\"/>\n"
            for point in drawn {
                text += "<circle cx=\"\(rounded(x(point.x)))\" cy=\"\(rounded(y(point.y)))\" "
                text += "r=\"3\" fill=\"\(colour)\"/>\n"
            }
            let height = top + 12 + Double(index) * 18
            text += line(width - right + 14, height - 4, width - right + 34, height - 4, colour)
            text += label(series.name, width - right + 40, height, "start")
        }
        return text
    }

    private static func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String
    ) -> String {
        "<line x1=\"\(rounded(x1))\" y1=\"\(rounded(y1))\" x2=\"\(rounded(x2))\" "
            + "y2=\"\(rounded(y2))\" stroke=\"\(colour)\"/>\n"
    }

    private static func label(_ text: String, _ x: Double, _ y: Double, _ anchor: String) -> String
    {
        "<text x=\"\(rounded(x))\" y=\"\(rounded(y))\" text-anchor=\"\(anchor)\">"
            + "\(escaped(text))</text>\n"
    }

    private static func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }

    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
