// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import HTTP1Wire
import PosixIO

/// What one node answers.
struct NodeFacts: Sendable, Equatable {
    let url: String
    /// The status of `/readyz`.
    var status = 0
    /// What it says, as text for people.
    var answer = ""
    /// How far the node's clock is ahead of this machine's; the header has whole seconds, so it
    /// may be off by one and by the time the answer took. `nil` where there is no such header.
    var clockAheadSeconds: Int64?

    private static let bodyBytesMax = 4096
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// Asks, and waits for the answer on the calling thread.
    static func ask(_ url: ServerURL, stop: StopSignals, within limit: Duration)
        throws(ProgramError) -> NodeFacts
    {
        let deadline = MonotonicTime.now + limit
        let target = url.isServerOnly ? url.with(target: HealthCommand.target) : url
        let exchange = try HTTPExchange(
            target, headers: HTTPHeaders(), stop: stop, deadline: deadline)
        let here = Int64(WallClock.milliseconds / 1000)
        var facts = NodeFacts(url: url.text)
        facts.status = exchange.head.status
        facts.clockAheadSeconds = exchange.head.headers.first("Date").flatMap(seconds)
            .map { $0 - here }
        let body = try exchange.readAll(limit: bodyBytesMax, until: deadline)
        facts.answer = PeerText.display(body.span, limit: 200)
        return facts
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7) as seconds since 1970.
    static func seconds(_ date: String) -> Int64? {
        let words = date.split(separator: " ")
        let time = words.count == 6 ? words[4].split(separator: ":").compactMap { Int32($0) } : []
        guard time.count == 3, words[5] == "GMT", let day = Int32(words[1]),
            let month = months.firstIndex(of: String(words[2])), let year = Int32(words[3]),
            (1970...9999).contains(year)
        else { return nil }
        var parts = unsafe tm()
        unsafe (parts.tm_year, parts.tm_mon, parts.tm_mday) = (year - 1900, Int32(month), day)
        unsafe (parts.tm_hour, parts.tm_min, parts.tm_sec) = (time[0], time[1], time[2])
        return Int64(unsafe timegm(&parts))
    }
}

/// What the nodes' answers mean.
enum NodeRules {
    /// Whole seconds on both sides, and the answer's way: less says nothing.
    private static let clockSkewSeconds: Int64 = 3

    static func findings(_ facts: [NodeFacts]) -> [Finding] {
        facts.flatMap { facts in
            [ready(facts), clock(facts)].compactMap { $0 }
        }
    }

    static func unreachable(_ url: String, _ detail: String) -> Finding {
        Finding(
            .danger, .nodes, "\(url) does not answer: \(detail)",
            consequence: "its clients are elsewhere, or nowhere",
            remedy: "look into its log; a balancer has to take it out by /readyz")
    }

    private static func ready(_ facts: NodeFacts) -> Finding {
        let found = "\(facts.url) answers \(facts.status): \(facts.answer)"
        guard !(200...299).contains(facts.status) else { return Finding(.ok, .nodes, found) }
        return Finding(
            .danger, .nodes, found, consequence: "it takes no clients",
            remedy: "the answer says what it waits for")
    }

    private static func clock(_ facts: NodeFacts) -> Finding? {
        guard let ahead = facts.clockAheadSeconds, ahead.magnitude >= clockSkewSeconds else {
            return nil
        }
        return Finding(
            .warning, .nodes,
            "\(facts.url)'s clock is about \(ahead.magnitude) s \(ahead < 0 ? "behind" : "ahead")",
            consequence: "latencies that its metrics show are wrong; IDs are not, they carry "
                + "Redis' time",
            remedy: "run NTP on every machine")
    }
}
