// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import HTTP1Wire
import HTTP2TestKit
import PosixIO
import Testing

@testable import HTTP2Wire

/// A server's session and a client's, joined by nothing but arrays of bytes.
private final class JoinedSessions {
    let server: HTTP2Session
    let client: HTTP2TestClient
    var events: [HTTP2Event] = []
    var now = MonotonicTime(nanoseconds: 1_000_000_000)

    init(_ client: HTTP2TestClient = HTTP2TestClient(), _ limits: HTTP2Limits = HTTP2Limits()) {
        let settings = HTTP2Settings(
            limits: limits, requests: HTTP1Limits(), headerTimeout: .seconds(10),
            bodyTimeout: .seconds(30), answerTimeout: .seconds(60))
        server = HTTP2Session(settings, now: now)
        self.client = client
    }

    /// Carries bytes both ways until none are left.
    func settle() throws {
        while true {
            let up = client.takeOutput()
            if !up.isEmpty { try server.receive(up.span, now: now) }
            while let event = server.nextEvent() { events.append(event) }
            server.pump()
            let down = server.takeOutput()
            if !down.isEmpty { #expect(client.receive(down)) }
            if up.isEmpty, down.isEmpty { return }
        }
    }
}

extension HTTP2Session {
    fileprivate func takeOutput() -> [UInt8] {
        let bytes = unsafe withOutput { unsafe Array($0) }
        outputWasSent(bytes.count)
        return bytes
    }

    fileprivate func send(_ bytes: [UInt8], on stream: Int32, makeRoom: () -> Bool = { false })
        -> Int
    {
        var bytes = bytes
        return unsafe bytes.withUnsafeMutableBytes { raw in
            var piece = unsafe iovec(iov_base: raw.baseAddress, iov_len: raw.count)
            return unsafe withUnsafePointer(to: &piece) {
                unsafe send(
                    UnsafeBufferPointer(start: $0, count: 1), on: stream, atMost: .max,
                    makeRoom: makeRoom)
            }
        }
    }
}

@Suite("HTTP/2 session")
struct SessionTests {
    @Test("a request comes whole, and its answer goes whole")
    func requestAndAnswer() throws {
        let pair = JoinedSessions()
        let stream = pair.client.request(
            "POST", "/a?b=c", headers: [("x-y", "z")], body: Array("body".utf8))
        try pair.settle()
        guard case .request(stream, let head, let body)? = pair.events.last else {
            Issue.record("\(pair.events)")
            return
        }
        #expect(head.method == .post)
        #expect(head.path == "/a")
        #expect(head.query == "b=c")
        #expect(head.authority == "test")
        #expect(head.headers.first("x-y") == "z")
        #expect(body == Array("body".utf8))
        #expect(pair.server.heldRequestBytes == 0)
        pair.server.respond(
            stream: stream, status: 201, headers: [("a", " b\u{1}c ")], body: Array("answer".utf8))
        #expect(pair.server.unsentAnswerBytes == 6)
        try pair.settle()
        #expect(pair.client.answers[stream]?.status == 201)
        #expect(pair.client.answers[stream]?.header("a") == "b c")
        #expect(pair.client.answers[stream]?.text == "answer")
        #expect(pair.client.answers[stream]?.closedWith == 0)
        #expect(pair.server.unsentAnswerBytes == 0)
        #expect(!pair.server.isOver)
    }

    @Test("the settings say what is allowed")
    func announces() throws {
        let pair = JoinedSessions()
        try pair.settle()
        #expect(pair.client.serverSettings[3] == 250)
        #expect(pair.client.serverSettings[1] == 0)
        #expect(pair.client.serverSettings[9] == 1)
        #expect((pair.client.serverSettings[6] ?? 0) > 16_384)
    }

    @Test("a stream takes no more than its window, its connection's and the output allow")
    func windows() throws {
        var limits = HTTP2Limits()
        limits.outputBytes = 20_000
        let pair = JoinedSessions(HTTP2TestClient(window: 50_000, opensWindows: false), limits)
        let first = pair.client.request("GET", "/1")
        let second = pair.client.request("GET", "/2")
        try pair.settle()
        for stream in [first, second] { pair.server.open(stream: stream, status: 200, headers: []) }
        try pair.settle()
        // Two frames of the largest size are more than the output wants.
        #expect(pair.server.send(pattern(60_000), on: first) == 32_768)
        #expect(pair.server.outputIsFull)
        #expect(pair.server.send([1], on: second) == 0)
        try pair.settle()
        #expect(pair.server.send(pattern(60_000, from: 32_768), on: first) == 50_000 - 32_768)
        #expect(pair.server.window(of: first) == 0)
        try pair.settle()
        #expect(pair.client.answers[first]?.body == pattern(50_000))
        // 65,535 is the connection's.
        #expect(pair.server.send(pattern(60_000), on: second) == 15_535)
        #expect(pair.server.connectionWindow == 0)
        #expect(pair.server.streamWindow(of: second) == 50_000 - 15_535)
        try pair.settle()
        pair.client.openWindow(0, by: 7)
        try pair.settle()
        #expect(pair.server.send(pattern(60_000, from: 15_535), on: second) == 7)
        try pair.settle()
        #expect(pair.client.answers[second]?.body == pattern(15_542))
        #expect(pair.server.window(of: 99) <= 0)
        #expect(pair.server.send([1], on: 99) == 0)
    }

    @Test("room that is made while sending is used")
    func makesRoom() throws {
        var limits = HTTP2Limits()
        limits.outputBytes = 1000
        let pair = JoinedSessions(HTTP2TestClient(), limits)
        let stream = pair.client.request("GET", "/")
        try pair.settle()
        pair.server.open(stream: stream, status: 200, headers: [])
        let taken = pair.server.send(pattern(60_000), on: stream) {
            pair.client.receive(pair.server.takeOutput())
        }
        #expect(taken == 60_000)
        pair.server.finish(stream: stream)
        try pair.settle()
        #expect(pair.client.answers[stream]?.body == pattern(60_000))
        #expect(pair.client.answers[stream]?.isEnded == true)
    }

    @Test("what takes too long is found, no sooner and no later")
    func overdue() throws {
        let pair = JoinedSessions(HTTP2TestClient(window: 0, opensWindows: false))
        let slow = pair.client.request("POST", "/", body: [1], endsStream: false)
        let unread = pair.client.request("GET", "/")
        try pair.settle()
        #expect(pair.server.earliestDeadline != nil)
        pair.server.respond(stream: unread, status: 200, headers: [], body: [1, 2, 3])
        try pair.settle()
        let start = pair.now
        #expect(pair.server.takeOverdue(now: start + .seconds(29)).isEmpty)
        #expect(pair.server.earliestDeadline == start + .seconds(30))
        let first = pair.server.takeOverdue(now: start + .seconds(30))
        #expect(first.map(\.stream) == [slow])
        #expect(pair.server.heldRequestBytes == 0)
        #expect(pair.server.earliestDeadline == start + .seconds(60))
        let second = pair.server.takeOverdue(now: start + .seconds(61))
        #expect(second.map(\.stream) == [unread])
        pair.server.reset(stream: unread, .cancel)
        #expect(pair.server.unsentAnswerBytes == 0)
        #expect(pair.server.takeOverdue(now: start + .seconds(99)).isEmpty)
        #expect(pair.server.earliestDeadline == nil)
    }

    @Test("frames are refused once their rate is exceeded, and allowed again with time")
    func rates() throws {
        var limits = HTTP2Limits()
        limits.pings = .init(burst: 3, perSecond: 2)
        let pair = JoinedSessions(HTTP2TestClient(), limits)
        for _ in 0..<3 { pair.client.ping() }
        try pair.settle()
        pair.now = pair.now + .milliseconds(500)
        pair.client.ping()
        try pair.settle()
        #expect(pair.client.pingAnswers == 4)
        pair.client.ping()
        #expect {
            try pair.settle()
        } throws: { error in
            (error as? HTTP2Error)?.code == .pingFlood
        }
        pair.server.terminate(.enhanceYourCalm)
        pair.client.receive(pair.server.takeOutput())
        #expect(pair.client.goAway?.code == 11)
        #expect(pair.server.isOver)
        // Nothing that is called after it does anything.
        pair.server.goAway()
        pair.server.beginDrain()
        pair.server.finish(stream: 1)
        pair.server.reset(stream: 1, .cancel)
        pair.server.respond(stream: 1, status: 200, headers: [], body: [1])
        #expect(pair.server.send([1], on: 1) == 0)
        pair.server.pump()
        #expect(pair.server.outputBytes == 0)
        let opening = RawFrames.opening
        try pair.server.receive(opening.span, now: pair.now)
    }

    @Test("reading earns window updates")
    func earnedUpdates() throws {
        var limits = HTTP2Limits()
        limits.windowUpdates = .init(burst: 10, perSecond: 0)
        limits.bytesPerWindowUpdate = 100
        let pair = JoinedSessions(HTTP2TestClient(opensWindows: false), limits)
        let stream = pair.client.request("GET", "/")
        try pair.settle()
        pair.server.open(stream: stream, status: 200, headers: [])
        for _ in 0..<50 {
            #expect(pair.server.send(pattern(200), on: stream) == 200)
            pair.client.openWindow(stream, by: 100)
            pair.client.openWindow(0, by: 100)
            try pair.settle()
        }
        #expect(pair.client.goAway == nil)
        for _ in 0..<11 {
            pair.client.openWindow(0, by: 1)
        }
        #expect(throws: HTTP2Error.self) { try pair.settle() }
    }

    @Test("a drain is announced, acknowledged and then final")
    func drain() throws {
        let pair = JoinedSessions()
        let stream = pair.client.request("GET", "/")
        try pair.settle()
        pair.server.open(stream: stream, status: 200, headers: [])
        pair.server.beginDrain()
        try pair.settle()
        #expect(pair.client.goAway?.lastStream == .max)
        guard case .drainAcknowledged? = pair.events.last else {
            Issue.record("\(pair.events)")
            return
        }
        pair.server.goAway()
        try pair.settle()
        #expect(pair.client.goAway?.lastStream == stream)
        #expect(!pair.server.isOver)
        pair.server.finish(stream: stream)
        try pair.settle()
        #expect(pair.server.isOver)
    }

    @Test("a preface is told from everything else")
    func preface() {
        let whole = HTTP2Preface.bytes
        #expect(HTTP2Preface.match(whole.span) == .whole)
        let more = whole + [1, 2]
        #expect(HTTP2Preface.match(more.span) == .whole)
        for count in 0..<whole.count {
            let part = Array(whole[..<count])
            #expect(HTTP2Preface.match(part.span) == .partial)
            var wrong = whole
            wrong[count] ^= 1
            #expect(HTTP2Preface.match(wrong.span) == .none)
        }
    }

    @Test("random bytes never do more than throw", arguments: 0..<200)
    func garbage(seed: Int) {
        var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 | 1
        func number(_ limit: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state % limit
        }
        let pair = JoinedSessions()
        var bytes = number(4) == 0 ? [] : RawFrames.opening
        for _ in 0..<number(40) {
            let payload = (0..<number(60)).map { _ in UInt8(truncatingIfNeeded: number(256)) }
            bytes += RawFrames.frame(
                UInt8(number(12)), flags: UInt8(number(64)), stream: UInt32(number(8)),
                number(2) == 0 ? RawFrames.request("/x") : payload)
        }
        var rest = bytes[...]
        do {
            while !rest.isEmpty {
                let count = min(rest.count, Int(number(100)) + 1)
                let part = Array(rest.prefix(count))
                try pair.server.receive(part.span, now: pair.now)
                while let event = pair.server.nextEvent() {
                    if case .request(let stream, _, _) = event {
                        pair.server.respond(stream: stream, status: 200, headers: [], body: [1])
                    }
                }
                pair.server.pump()
                _ = pair.server.takeOutput()
                rest = rest.dropFirst(count)
            }
        } catch {
            pair.server.terminate(.protocolError)
            #expect(pair.server.isOver)
        }
        #expect(pair.server.heldRequestBytes >= 0)
        #expect(pair.server.unsentAnswerBytes >= 0)
    }
}

private func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    (start..<start + count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
