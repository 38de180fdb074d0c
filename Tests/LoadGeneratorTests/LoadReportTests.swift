// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO
import Testing

@testable import LoadGenerator

@Suite("The report of a load")
struct LoadReportTests {
    private func tick(_ delivered: UInt64, milliseconds: UInt64) -> LoadTick {
        var tick = LoadTick(targets: 2)
        tick[.delivered] = delivered
        tick[.streaming] = 10
        tick.byTarget = [delivered / 2, delivered - delivered / 2]
        for _ in 0..<delivered { tick.latency.record(milliseconds * 1_000_000) }
        return tick
    }

    private func report() -> LoadReport {
        var report = LoadReport(
            began: 0, run: "r", command: "rivulet load <x>", machine: "m", connections: 10,
            targets: ["http://a", "http://b"],
            schedule: LoadSchedule(shape: .constant, rate: 10, length: .seconds(2)), eventBytes: 300
        )
        for second in 1...3 {
            report.seconds.append(
                LoadSecond(
                    second: Double(second), tick: tick(60, milliseconds: UInt64(second * 10)),
                    published: second * 6,
                    servers: [
                        ServerUsage(cpuSeconds: Double(second) / 2, residentBytes: 1e6), nil,
                    ]))
        }
        report.publisher.acknowledged = 20
        report.received = [20: 8, 15: 2]
        return report
    }

    @Test("a tick comes through as text, and nothing else does")
    func lines() throws {
        var sent = tick(5, milliseconds: 7)
        sent[.repeats] = 3
        let read = try #require(LoadTick(line: sent.line))
        #expect(read.counts == sent.counts && read.byTarget == sent.byTarget)
        #expect(read.latency.quantile(0.5) == sent.latency.quantile(0.5))
        for wrong in ["", ";;;;;", "1,2;3;;;;", sent.line + ";", "x" + sent.line] {
            #expect(LoadTick(line: wrong) == nil, "\(wrong)")
        }
    }

    @Test("says what is lost, and whether objectives hold")
    func objectives() throws {
        let report = report()
        #expect(report.lost == 10)
        #expect(report.leastReceived == 15 && report.mostReceived == 20)
        let objectives = try #require(LoadObjective.parse("loss=0,p50=100ms,max=5ms"))
        #expect(objectives.map { report.holds($0) } == [false, true, false])
        let json = String(decoding: report.json(objectives), as: UTF8.self)
        #expect(json.contains("\"lost\":10"))
        #expect(json.contains("\"cpu\":0.5"))
        #expect(report.csv.split(separator: "\n").count == 4)
    }

    @Test("says where it is not to be trusted")
    func saturation() {
        var report = report()
        #expect(report.saturation.isEmpty)
        report.seconds[1].tick[.busy] = 990
        report.publisher.latestBy = .milliseconds(80)
        #expect(report.saturation.count == 2)
        #expect(report.summary.contains { $0.hasPrefix("do not trust this") })
    }

    @Test("the page has its charts, shows nothing of others, and escapes what it was given")
    func page() throws {
        let objectives = try #require(LoadObjective.parse("loss=0"))
        let html = LoadPage(report(), objectives).html
        #expect(html.split(separator: "<svg").count == 7)
        #expect(html.contains("rivulet load &lt;x&gt;"))
        #expect(!html.contains("src=") && !html.contains("<script") && !html.contains("NaN"))
        #expect(
            LoadPage(
                LoadReport(
                    began: 0, run: "", command: "", machine: "", connections: 1, targets: [],
                    schedule: LoadSchedule(shape: .ramp, rate: 1, length: .seconds(1)),
                    eventBytes: 1), []
            )
            .html.contains("</html>"))
    }

    @Test("workers add up, and the busiest counts")
    func sum() {
        var one = tick(5, milliseconds: 1)
        var other = tick(7, milliseconds: 2)
        one[.busy] = 100
        other[.busy] = 900
        one.add(other)
        #expect(one[.delivered] == 12 && one[.busy] == 900 && one[.streaming] == 20)
    }
}
