// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import Observability
import PosixIO

/// The report of a run as one page that needs nothing else: tables, and charts as SVG.
package struct LoadPage {
    private let report: LoadReport
    private let objectives: [LoadObjective]

    package init(_ report: LoadReport, _ objectives: [LoadObjective]) {
        self.report = report
        self.objectives = objectives
    }

    package var html: String {
        let total = report.total
        var text = """
            <!doctype html>
            <html lang="en"><head><meta charset="utf-8"><title>rivulet load</title>
            <style>
            body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }
            table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .2em .8em; text-align: right; }
            th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid #ddd; }
            .no { color: #b00020; font-weight: bold; } .yes { color: #1b7f3b; } svg { margin: .6em 0; }
            code { background: #f3f3f3; padding: .1em .3em; } .warn { background: #fff3cd; padding: .5em 1em; }
            </style></head><body>
            <h1>rivulet load</h1>
            <p>\(WallClock.text(milliseconds: report.began)), \(Self.escaped(report.machine))<br>
            <code>\(Self.escaped(report.command))</code></p>

            """
        for reason in report.saturation {
            text += "<p class=\"warn\">Do not trust this: \(Self.escaped(reason)).</p>\n"
        }
        if report.wasCutShort { text += "<p class=\"warn\">The run was interrupted.</p>\n" }
        if !objectives.isEmpty {
            text += "<table><tr><th>objective</th><th>measured</th><th></th></tr>\n"
            for objective in objectives {
                let holds = report.holds(objective)
                text += "<tr><td>\(Self.escaped(objective.text))</td>"
                text += "<td>\(LoadReport.number(report.value(of: objective)))</td>"
                text += "<td class=\"\(holds ? "yes" : "no")\">\(holds ? "holds" : "does not hold")"
                text += "</td></tr>\n"
            }
            text += "</table>\n"
        }
        text +=
            "<ul>\n" + report.summary.map { "<li>\(Self.escaped($0))</li>\n" }.joined() + "</ul>\n"
        text += charts + balance(total)
        return text + "</body></html>\n"
    }

    // MARK: - Charts

    private typealias Points = [(x: Double, y: Double)]

    private var charts: String {
        let seconds = report.seconds
        func line(_ value: (LoadSecond) -> Double) -> Points {
            seconds.map { ($0.second, value($0)) }
        }
        func perSecond(_ value: (LoadSecond) -> Double) -> Points {
            var before = 0.0
            return seconds.map { second in
                defer { before = second.second }
                return (second.second, value(second) / max(0.001, second.second - before))
            }
        }
        var text = chart(
            "events delivered a second",
            [
                ("delivered", perSecond { Double($0.tick[.delivered]) })
            ], "s")
        text += chart(
            "latency from due to read, ms",
            [
                ("p50", line { $0.tick.latency.milliseconds(0.5) }),
                ("p99", line { $0.tick.latency.milliseconds(0.99) }),
                ("max", line { $0.tick.latency.maximumMilliseconds }),
            ], "s")
        text += chart(
            "streams open", [("streams", line { Double($0.tick[.streaming]) })], "s")
        text += chart("latency by share of deliveries, ms", [("latency", distribution)], "nines")
        let names = report.targets.indices.map { index in
            (
                Self.short(report.targets[index]),
                perSecond {
                    index < $0.tick.byTarget.count ? Double($0.tick.byTarget[index]) : 0
                }
            )
        }
        text += chart("events delivered a second, by target", Array(names.prefix(12)), "s")
        let cpu = report.targets.indices.compactMap { index -> (String, Points)? in
            let points = usage(index)
            return points.isEmpty ? nil : (Self.short(report.targets[index]), points)
        }
        if !cpu.isEmpty { text += chart("processors of each node", Array(cpu.prefix(12)), "s") }
        return text
    }

    /// Latency over the number of nines: 1 is 90 %, 2 is 99 %.
    private var distribution: Points {
        let latency = report.total.latency
        return stride(from: 0.0, through: 5.0, by: 0.125).compactMap { nines in
            let share = 1 - pow(10, -nines)
            guard latency.count > 0, pow(10, nines) <= Double(latency.count) * 2 else { return nil }
            return (nines, latency.milliseconds(share))
        }
    }

    private func usage(_ index: Int) -> Points {
        var points: Points = []
        var before: (second: Double, cpu: Double)?
        for second in report.seconds {
            guard index < second.servers.count, let used = second.servers[index] else { continue }
            if let before, second.second > before.second, used.cpuSeconds >= before.cpu {
                points.append(
                    (
                        second.second,
                        (used.cpuSeconds - before.cpu) / (second.second - before.second)
                    )
                )
            }
            before = (second.second, used.cpuSeconds)
        }
        return points
    }

    private func balance(_ total: LoadTick) -> String {
        guard report.targets.count > 1 else { return "" }
        var text = "<table><tr><th>target</th><th>events delivered</th><th>of all</th></tr>\n"
        let all = max(1, total.byTarget.reduce(0, +))
        for (target, count) in zip(report.targets, total.byTarget) {
            let share = (Double(count) / Double(all) * 1000).rounded() / 10
            text +=
                "<tr><td>\(Self.escaped(target))</td><td>\(count)</td><td>\(share) %</td></tr>\n"
        }
        return text + "</table>\n"
    }

    private static let width = 860.0
    private static let height = 250.0
    private static let left = 80.0
    private static let right = 150.0
    private static let top = 30.0
    private static let bottom = 36.0
    private static let colours = ["#1f6fb4", "#c8501e", "#3a8f3a", "#7a4fa3", "#8a6d1f", "#444444"]

    private func chart(_ title: String, _ lines: [(name: String, points: Points)], _ xTitle: String)
        -> String
    {
        let points = lines.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
        guard !points.isEmpty else { return "" }
        let xMost = max(points.map(\.x).max() ?? 1, 1e-9)
        let yMost = Self.round(up: points.map(\.y).max() ?? 1)
        let plotWidth = Self.width - Self.left - Self.right
        let plotHeight = Self.height - Self.top - Self.bottom
        func x(_ value: Double) -> Double { Self.left + plotWidth * value / xMost }
        func y(_ value: Double) -> Double { Self.top + plotHeight * (1 - value / yMost) }
        var text =
            "<svg viewBox=\"0 0 \(Self.width) \(Self.height)\" width=\"100%\" font-size=\"12\" "
        text += "font-family=\"system-ui, sans-serif\" role=\"img\">\n"
        text += "<text x=\"0\" y=\"16\" font-weight=\"bold\">\(Self.escaped(title))</text>\n"
        for step in 0...4 {
            let value = yMost * Double(step) / 4
            text += "<line x1=\"\(Self.left)\" y1=\"\(Self.short(y(value)))\" "
            text +=
                "x2=\"\(Self.left + plotWidth)\" y2=\"\(Self.short(y(value)))\" stroke=\"#ddd\"/>"
            text += "<text x=\"\(Self.left - 8)\" y=\"\(Self.short(y(value) + 4))\" "
            text += "text-anchor=\"end\">\(LoadReport.number(value))</text>\n"
            let at = xMost * Double(step) / 4
            text += "<text x=\"\(Self.short(x(at)))\" y=\"\(Self.top + plotHeight + 18)\" "
            text +=
                "text-anchor=\"middle\">\(LoadReport.number(at)) \(step == 4 ? xTitle : "")</text>\n"
        }
        for (index, line) in lines.enumerated() {
            let colour = Self.colours[index % Self.colours.count]
            let path = line.points.filter { $0.x.isFinite && $0.y.isFinite }
                .map { "\(Self.short(x($0.x))),\(Self.short(y($0.y)))" }.joined(separator: " ")
            text += "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.6\" "
            text += "points=\"\(path)\"/>"
            let row = Self.top + 10 + Double(index) * 17
            text += "<text x=\"\(Self.width - Self.right + 12)\" y=\"\(row)\" fill=\"\(colour)\">"
            text += "\(Self.escaped(line.name))</text>\n"
        }
        return text + "</svg>\n"
    }

    /// The next of 1, 2, 2.5, 5 times a power of ten.
    static func round(up value: Double) -> Double {
        guard value > 0, value.isFinite else { return 1 }
        let power = pow(10, log10(value).rounded(.down))
        return [1, 2, 2.5, 5, 10].map { $0 * power }.first { $0 >= value * 0.999_999 }
            ?? 10 * power
    }

    private static func short(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

    private static func short(_ target: String) -> String { String(target.prefix(22)) }

    static func escaped(_ text: String) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
