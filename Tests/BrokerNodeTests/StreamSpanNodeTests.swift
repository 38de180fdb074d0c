// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import ClusterHarness
import EventStreamWire
import HTTP1Wire
import NodeConfiguration
import PosixIO
import Testing

/// `since`, `history`, `until` and `speed` on a real node, with its own telemetry as the events.
@Suite("Time and count on a node", .serialized)
struct StreamSpanNodeTests {
    /// A bounded stream: everything until the server closes it.
    private func stream(_ target: String, _ port: UInt16, _ headers: String = "") throws
        -> [EventStreamMessage]
    {
        let request = "GET \(target) HTTP/1.1\r\nHost: x\r\n\(headers)\r\n"
        let exchange = try LoopbackHTTP.exchange(
            Array(request.utf8), port: port, within: .seconds(30))
        guard case .closed = exchange.end else {
            Issue.record("\(target) is still open: \(exchange.text.suffix(200))")
            return []
        }
        let text = exchange.text
        guard text.hasPrefix("HTTP/1.1 200 "), let head = text.firstRange(of: "\r\n\r\n") else {
            Issue.record("\(target): \(text)")
            return []
        }
        var parser = EventStreamParser()
        return try parser.messages(in: Array(text[head.upperBound...].utf8).span)
    }

    private func times(_ messages: [EventStreamMessage]) throws -> [UInt64] {
        try messages.map { try $0.cursor().milliseconds }
    }

    private func waitForEvents(_ port: UInt16, _ count: UInt64) throws {
        let flowed = Waiting.until(within: .seconds(30)) {
            let text = (try? get("/healthz", port).text) ?? ""
            let tailed = text.firstRange(of: "\"events_tailed\":").map {
                text[$0.upperBound...].prefix { $0.isNumber }
            }
            return (tailed.flatMap { UInt64($0) } ?? 0) >= count
        }
        try #require(flowed)
    }

    @Test("bounded streams on each path end, and a client that comes back is told to stay away")
    func bounded() throws {
        let bench = try NodeBench()
        // Hardly any window: what is asked for comes out of Redis and Kafka.
        let port = try bench.start { $0.limits.hotWindowBytes = 4096 }
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        try waitForEvents(port, 20)
        let now = WallClock.milliseconds
        for path in ["/api/v1/sse/system?", "/sse/events?channels=system&", "/api/events?"] {
            let all = try stream("\(path)since=0&until=\(now)", port)
            let end = try #require(all.last)
            #expect(end.event == "end")
            #expect(end.lastEventID == "\(now - 1)-\(UInt64.max)")
            let events = all.dropLast()
            #expect(events.count >= 10)
            #expect(end.dataText.contains("\"count\":\(events.count),"))
            #expect(try times(Array(events)).allSatisfy { $0 < now })
            let cursors = try events.map { try $0.cursor() }
            #expect(cursors == Array(Set(cursors)).sorted())
            // The last five, and those since the first of them.
            let last = try stream("\(path)history=5&until=\(now)", port)
            #expect(last.map(\.lastEventID) == all.suffix(6).map(\.lastEventID))
            let since = try times([last[0]])[0]
            let later = try stream("\(path)since=\(since)&until=\(now)", port)
            #expect(later.map(\.lastEventID).suffix(6) == last.map(\.lastEventID)[...])
            #expect(try times(later).allSatisfy { $0 >= since })
            // What a browser does after the end.
            let back = try get(
                "\(path)since=0&until=\(now)", port, [("Last-Event-ID", end.lastEventID)])
            #expect(back.status == 204)
            let relative = try get(
                "\(path)since=1h&until=1s", port, [("Last-Event-ID", end.lastEventID)])
            #expect(relative.status == 204)
            let middle = try stream(
                "\(path)since=0&until=\(now)", port,
                "Last-Event-ID: \(events[events.count - 3].lastEventID)\r\n")
            #expect(middle.map(\.lastEventID) == all.suffix(3).map(\.lastEventID))
        }
        // Filters, a coding and a pace change nothing of what there is.
        let all = try stream("/api/v1/sse/system?since=0&until=\(now)", port)
        let paced = try stream(
            "/api/v1/sse/system?nodes=node-under-test&since=0&until=\(now)&speed=1000", port)
        #expect(paced.map(\.lastEventID) == all.map(\.lastEventID))
        let none = try stream("/api/v1/sse/system?nodes=nobody&since=0&until=\(now)", port)
        #expect(none.map(\.event) == ["end"])
    }

    @Test("an end in the future is waited for")
    func future() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        try waitForEvents(port, 4)
        let until = WallClock.milliseconds + 1_500
        let text = WallClock.text(milliseconds: until)
        let all = try stream("/api/v1/sse/system?until=\(text)", port)
        #expect(WallClock.milliseconds >= until)
        #expect(all.count >= 2)
        #expect(all.last?.event == "end")
        #expect(all.last?.dataText.contains("\"until\":\"\(text)\"") == true)
        #expect(try times(all).allSatisfy { $0 < until })
    }

    @Test("contradictions and nonsense are refused before a stream begins")
    func refused() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let cases: [(query: String, parameter: String, given: String)] = [
            ("since=tomorrow", "since", "tomorrow"), ("history=0", "history", "0"),
            ("history=99999", "history", "99999"), ("speed=10", "speed", "10"),
            ("since=5m&speed=0", "speed", "0"), ("since=5m&until=10m", "until", "10m"),
            ("since=5m&history=3", "history", "3"), ("until=5m", "until", "5m"),
            ("since=253402300799999", "since", "253402300799999"),
            ("since=5m&since=6m", "since", "5m,6m"),
        ]
        for path in ["/api/v1/sse/system", "/sse/events", "/api/events", "/ws"] {
            for entry in cases {
                let answer = try get("\(path)?\(entry.query)", port)
                #expect(answer.status == 400, "\(path)?\(entry.query)")
                #expect(answer.headers.first("Content-Type") == "application/problem+json")
                let names = answer.text.contains(
                    "\"parameter\":\"\(entry.parameter)\",\"given\":\"\(entry.given)\",\"accepted\":["
                )
                #expect(names, "\(answer.text)")
            }
        }
        let unknown = try get("/api/v1/sse/system?sinc=5m", port)
        for name in ["since", "history", "until", "speed"] {
            #expect(unknown.text.contains("\"\(name)\""))
        }
    }
}
