// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc

/// One thing that the broker promises of its speed, and what was found.
struct Finding: Sendable {
    let line: String
    let figure: String
    /// `nil` where it could not be measured.
    let holds: Bool?

    /// Holds where `value` is at least `bound`.
    static func atLeast(_ bound: Double, _ value: Spread, _ line: String) -> Finding {
        compared(value, line) { $0 >= bound }
    }

    /// Holds where `value` is at most `bound`.
    static func atMost(_ bound: Double, _ value: Spread, _ line: String) -> Finding {
        compared(value, line) { $0 <= bound }
    }

    private static func compared(
        _ value: Spread, _ line: String, _ holds: (Double) -> Bool
    ) -> Finding {
        let isMeasured = value.median.isFinite
        return Finding(
            line: line, figure: isMeasured ? Columns.spread(value) : "not measured",
            holds: isMeasured ? holds(value.median) : nil)
    }

    static func table(_ findings: [Finding]) -> String {
        Columns.table(
            ["must show", "figure", "holds"],
            findings.map { finding in
                let word = finding.holds.map { $0 ? "yes" : "NO" } ?? "-"
                return [finding.line, finding.figure, word]
            })
    }
}

/// What one benchmark found, for people, programs and the eye.
struct ReportPart {
    let title: String
    /// Markdown.
    let text: String
    let findings: [Finding]
    let json: (inout JSONText) -> Void
    var panels: [Plot.Panel] = []

    /// Prints the part as a report of its own and writes the files that were asked for.
    func publish(_ options: GivenOptions) throws(BenchmarkError) {
        try Self.publish([self], options)
    }

    static func publish(_ parts: [ReportPart], _ options: GivenOptions) throws(BenchmarkError) {
        let findings = parts.flatMap(\.findings)
        var text = OutputFiles.machine + "\n"
        for part in parts { text += "\n## \(part.title)\n\n\(part.text)\n" }
        if !findings.isEmpty { text += "\n## Must show\n\n\(Finding.table(findings))\n" }
        print(text)
        // Errors and progress go their own way and must not come in between.
        fflush(nil)
        var json = JSONText(reserving: 65_536)
        json.object { json in
            OutputFiles.begin(&json, benchmark: options.command.name)
            for part in parts { json.object(part.title) { part.json(&$0) } }
            json.array("must_show") { json in
                for finding in findings {
                    json.object {
                        $0.field("line", finding.line)
                        $0.field("figure", finding.figure)
                        $0.field("holds", finding.holds)
                    }
                }
            }
        }
        let plot = Plot(
            title: "Benchmarks \(options.command.name)", panels: parts.flatMap(\.panels))
        try OutputFiles.write(options, json: json, plot: plot, text: text)
    }
}
