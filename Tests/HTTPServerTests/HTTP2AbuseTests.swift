// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import HTTP2TestKit
import HTTP2Wire
import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("HTTP/2 under abuse")
    struct HTTP2AbuseTests {
        struct Attack: Sendable, CustomTestStringConvertible {
            let name: String
            var opening = RawFrames.opening
            let bytes: [UInt8]
            let reason: String
            /// What GOAWAY says: 11 is ENHANCE_YOUR_CALM.
            var code: UInt32 = 11
            var testDescription: String { name }
        }

        private static func many(_ count: Int, _ frame: (UInt32) -> [UInt8]) -> [UInt8] {
            (0..<count).flatMap { frame(UInt32($0) * 2 + 1) }
        }

        static let attacks: [Attack] = [
            .init(
                name: "rapid reset",
                bytes: many(3000) { RawFrames.get("/stream", stream: $0) + RawFrames.reset($0) },
                reason: "resetFlood"),
            .init(
                name: "requests that make the server reset",
                bytes: many(3000) {
                    RawFrames.get("/stream", stream: $0) + RawFrames.windowUpdate($0, 0x7fff_ffff)
                }, reason: "resetFlood"),
            .init(
                name: "requests without the fields they need",
                bytes: many(3000) {
                    RawFrames.frame(1, flags: 5, stream: $0, RawFrames.field("a", "b"))
                }, reason: "resetFlood"),
            .init(
                name: "pings",
                bytes: many(3000) { _ in RawFrames.frame(6, [0, 0, 0, 0, 0, 0, 0, 0]) },
                reason: "pingFlood"),
            .init(
                name: "settings", bytes: many(3000) { _ in RawFrames.frame(4) },
                reason: "settingsFlood"),
            .init(
                name: "window updates",
                bytes: many(30_000) { _ in RawFrames.windowUpdate(0, 1) },
                reason: "windowUpdateFlood"),
            .init(
                name: "empty data",
                bytes: RawFrames.frame(1, flags: 4, stream: 1, RawFrames.request("/echo"))
                    + many(3000) { _ in RawFrames.frame(0, stream: 1) },
                reason: "idleFrameFlood"),
            .init(
                name: "priorities",
                bytes: many(3000) { RawFrames.frame(2, stream: $0, [0, 0, 0, 0, 1]) },
                reason: "idleFrameFlood"),
            .init(
                name: "continuations without end",
                bytes: RawFrames.frame(1, flags: 1, stream: 1, RawFrames.request("/"))
                    + many(100) { _ in RawFrames.frame(9, stream: 1) },
                reason: "continuationFlood"),
            .init(
                name: "a header block that unfolds",
                bytes: RawFrames.frame(
                    1, flags: 5, stream: 1, RawFrames.bomb(fieldBytes: 3900, repeats: 10_000)),
                reason: "headerBomb"),
            .init(
                name: "a first frame that is not settings", opening: RawFrames.preface,
                bytes: RawFrames.get("/echo", stream: 1), reason: "protocolViolation", code: 1),
            .init(
                name: "a frame that is too large",
                bytes: RawFrames.frame(0, stream: 1, [], length: 0xff_ffff),
                reason: "protocolViolation", code: 6),
            .init(
                name: "data on no stream", bytes: RawFrames.frame(0, stream: 0, [1]),
                reason: "protocolViolation", code: 1),
            .init(
                name: "a stream of the server's own", bytes: RawFrames.get("/echo", stream: 2),
                reason: "protocolViolation", code: 1),
            .init(
                name: "a window beyond its size", bytes: RawFrames.windowUpdate(0, 0x7fff_ffff),
                reason: "protocolViolation", code: 3),
            .init(
                name: "a header block that is no HPACK",
                bytes: RawFrames.frame(
                    1, flags: 5, stream: 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
                reason: "protocolViolation", code: 9),
            .init(
                name: "a window that is no window",
                bytes: RawFrames.frame(4, [0, 4, 0xff, 0xff, 0xff, 0xff]),
                reason: "protocolViolation", code: 3),
        ]

        @Test("abuse ends its connection, says why and is counted by reason", arguments: attacks)
        func attack(_ given: Attack) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let innocent = try HTTP2LoopbackClient(server)
            let streams = innocent.openStreams(1)
            let client = try server.client()
            client.send(given.opening + given.bytes)
            client.closeWriting()
            let goAway = RawFrames.goAway(in: client.readToEnd())
            #expect(goAway?.code == given.code)
            let series = #"rivulet_http2_connection_errors_total{reason="\#(given.reason)"}"#
            #expect(server.metric(series) == 1)
            #expect(eventually { server.metric("rivulet_http2_connections_open") == 1 })
            #expect(eventually { server.metric("rivulet_http2_streams_open") == 1 })
            try server.onLoop { #expect($0.listener.heldBytes.count == 0) }
            try server.onLoop { #expect($0.handler.streams[0].write([42]) == .all) }
            innocent.run { $0.answers[streams[0]]?.body == [42] }
            #expect(innocent.http.answers[streams[0]]?.body == [42])
        }

        @Test("random bytes after a preface end the connection and nothing else", arguments: 0..<40)
        func garbage(seed: Int) throws {
            let server = try ServerUnderTest { $0.headerTimeout = .milliseconds(50) }
            defer { server.stop() }
            var numbers = SeededNumbers(state: UInt64(seed))
            var bytes = RawFrames.opening
            for _ in 0..<Int.random(in: 1...60, using: &numbers) {
                let type = UInt8.random(in: 0...10, using: &numbers)
                let stream = UInt32.random(in: 0...9, using: &numbers)
                let count = Int.random(in: 0...40, using: &numbers)
                let payload =
                    numbers.next() % 3 == 0
                    ? RawFrames.request("/echo")
                    : (0..<count).map { _ in UInt8.random(in: 0...255, using: &numbers) }
                bytes += RawFrames.frame(
                    type, flags: UInt8(truncatingIfNeeded: numbers.next() & 0x2d), stream: stream,
                    payload)
            }
            let client = try server.client()
            client.send(bytes)
            client.closeWriting()
            _ = client.readToEnd()
            client.close()
            #expect(eventually { server.metric("rivulet_http2_connections_open") == 0 })
            #expect(server.metric("rivulet_http2_streams_open") == 0)
            #expect(server.metric("rivulet_http_streams_open") == 0)
            try server.onLoop { #expect($0.listener.heldBytes.count == 0) }
        }

        @Test("frames of no known type are passed over")
        func unknownFrames() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            #expect(client.answer(to: "/echo").status == 200)
            client.socket.send(
                (0..<3000).flatMap { _ in RawFrames.frame(0x77, stream: 1, [1, 2, 3]) })
            #expect(client.answer(to: "/echo").status == 200)
        }

        @Test("a header block that never ends ends its connection in time")
        func slowHeaders() throws {
            let server = try ServerUnderTest { $0.headerTimeout = .milliseconds(50) }
            defer { server.stop() }
            let client = try server.client()
            client.send(
                RawFrames.opening + RawFrames.frame(1, flags: 1, stream: 1, RawFrames.request("/")))
            #expect(RawFrames.goAway(in: client.readToEnd())?.code == 11)
            let series = #"rivulet_http_bad_requests_total{code="headerTimeout"}"#
            #expect(server.metric(series) == 1)
        }

        @Test("an answer that its client's window keeps out is given up, its connection is not")
        func shutWindow() throws {
            let server = try ServerUnderTest { $0.idleTimeout = .milliseconds(50) }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(
                server, HTTP2TestClient(window: 0, opensWindows: false))
            let streams = client.openStreams(1)
            let answer = client.http.request("GET", "/size/100")
            client.run { $0.answers[answer]?.closedWith != nil }
            #expect(client.http.answers[answer]?.status == 200)
            #expect(client.http.answers[answer]?.closedWith == 8)
            // The end of a stream waits for its window no longer than that, too.
            try server.onLoop { $0.handler.streams[0].finish() }
            client.run { $0.answers[streams[0]]?.closedWith != nil }
            #expect(client.http.answers[streams[0]]?.closedWith == 8)
        }

        @Test("a client that asks and never reads is given up")
        func neverReads() throws {
            let server = try ServerUnderTest {
                $0.idleTimeout = .milliseconds(100)
                $0.sendBufferBytes = 16_384
            }
            defer { server.stop() }
            let client = try server.client(receiveBufferBytes: 4096)
            let window = [UInt8](RawFrames.frame(4, [0, 4, 0x7f, 0xff, 0xff, 0xff]))
            var bytes = RawFrames.preface + window + RawFrames.windowUpdate(0, 0x7000_0000)
            for index in 0..<100 {
                bytes += RawFrames.get("/size/100000", stream: UInt32(index) * 2 + 1)
            }
            client.send(bytes)
            #expect(eventually { server.metric("rivulet_http2_connections_open") == 1 })
            // Answers beyond the limit wait for their handler, not in memory.
            #expect(server.record.withLock { $0.requests.count } < 40)
            #expect(eventually { server.metric("rivulet_http2_connections_open") == 0 })
            client.close()
        }

        @Test("acknowledgements that nobody reads do not pile up")
        func unreadAcknowledgements() throws {
            let server = try ServerUnderTest {
                $0.http2?.pings = .init(burst: 10_000_000, perSecond: 0)
                $0.sendBufferBytes = 4096
                $0.idleTimeout = .milliseconds(200)
            }
            defer { server.stop() }
            let client = try server.client(receiveBufferBytes: 4096)
            client.send(RawFrames.opening)
            let ping = RawFrames.frame(6, [0, 0, 0, 0, 0, 0, 0, 0])
            let pings = Array(repeating: ping, count: 1000).flatMap { $0 }
            // Until the server no longer reads, or ends it.
            let number = client.number
            let writer = NamedThread("pinger") {
                var isOpen = true
                while isOpen {
                    let outcome = unsafe pings.withUnsafeBytes {
                        unsafe StreamSocket.write(number, $0)
                    }
                    if case .transferred(pings.count) = outcome { continue }
                    isOpen = false
                }
            }
            #expect(eventually { server.metric("rivulet_http2_connections_total") == 1 })
            #expect(eventually { server.metric("rivulet_http2_connections_open") == 0 })
            writer.join()
        }

        @Test("unfinished bodies hold no more than the listener may")
        func heldBytes() throws {
            let server = try ServerUnderTest { $0.heldBytes = 100_000 }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let streams = (0..<3).map { _ in
                client.http.request("POST", "/echo", body: pattern(50_000), endsStream: false)
            }
            client.run { http in streams.allSatisfy { http.answers[$0]!.closedWith != nil } }
            for stream in streams {
                #expect(client.http.answers[stream]?.status == 503)
                #expect(client.http.answers[stream]?.header("retry-after") != nil)
            }
            try server.onLoop { #expect($0.listener.heldBytes.count == 0) }
            #expect(client.answer(to: "/echo").status == 200)
        }
    }
}
