// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import Glibc
import HTTP1Wire
import HTTP2TestKit
import HTTP2Wire
import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("HTTP/2 requests")
    struct HTTP2RequestTests {
        @Test("one port speaks HTTP/1.1 and HTTP/2, as each client begins")
        func bothOnOnePort() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let second = try HTTP2LoopbackClient(server)
            let answer = second.answer(to: "/echo")
            #expect(answer.status == 200)
            #expect(answer.text == "GET /echo|")
            #expect(answer.header("content-type") == "text/plain")
            #expect(answer.header("content-length") == "10")
            #expect(answer.header("server") == "rivulet")
            #expect(answer.header("date") != nil)
            #expect(answer.closedWith == 0)
            let first = try server.client()
            first.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            #expect(first.readAnswer()?.text == "POST /echo|x")
            #expect(server.metric("rivulet_http2_connections_open") == 1)
            #expect(server.metric("rivulet_http_connections_open") == 2)
        }

        @Test("a preface in pieces is one, and a method that begins like it is none")
        func prefaceInPieces() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let stream = client.http.request("GET", "/echo")
            for byte in client.http.takeOutput() { client.socket.send([byte]) }
            #expect(client.run { $0.answers[stream]?.isEnded == true })
            #expect(client.http.answers[stream]?.text == "GET /echo|")
            for method in ["PRI", "PR", "PRIVATE", "PUT"] {
                let other = try server.client()
                for byte in method.utf8 { other.send([byte]) }
                other.send(" /echo HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(other.readAnswer()?.text == "\(method) /echo|")
            }
        }

        @Test("a server without HTTP/2 says so to its preface")
        func disabled() throws {
            let server = try ServerUnderTest { $0.http2 = nil }
            defer { server.stop() }
            let client = try server.client()
            client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            #expect(client.readAnswer()?.status == 505)
        }

        @Test("many requests are answered on one connection, whatever their bodies")
        func manyRequests() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let bodies = (0..<200).map { index in
                (0..<index * 97).map { UInt8(ascii: "a") + UInt8((index + $0) % 26) }
            }
            let streams = bodies.map { client.http.request("POST", "/echo", body: $0) }
            #expect(client.run { http in streams.allSatisfy { http.answers[$0]!.isEnded } })
            for (stream, body) in zip(streams, bodies) {
                #expect(client.http.answers[stream]?.body == Array("POST /echo|".utf8) + body)
            }
            let large = client.answer(to: "/size/700000")
            #expect(large.body == pattern(700_000))
            #expect(server.metric("rivulet_http2_streams_open") == 0)
            #expect(server.metric("rivulet_http2_streams_total") == 201)
        }

        @Test("HEAD, 204 and an answer that is dropped have their heads and ends")
        func bodyless() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let head = client.answer(to: "/size/1000", "HEAD")
            #expect(head.status == 200)
            #expect(head.header("content-length") == "1000")
            #expect(head.body == [] && head.dataFrames == 0)
            let none = client.answer(to: "/none")
            #expect(none.status == 204)
            #expect(none.header("content-length") == nil)
            let empty = client.answer(to: "/size/0")
            #expect(empty.header("content-length") == "0")
            #expect(client.answer(to: "/drop").status == 500)
            let stream = client.answer(to: "/stream", "HEAD")
            #expect(stream.status == 200 && stream.isEnded)
            #expect(server.metric("rivulet_http_streams_opened_total") == 0)
            let hostile = client.answer(
                to: "/hostile", "POST", body: Array(" a\r\nb\u{0}: c ".utf8))
            #expect(hostile.header("x-given") == "a  b : c")
            #expect(client.answer(to: "/echo").status == 200)
        }

        struct Refused: Sendable, CustomTestStringConvertible {
            let name: String
            var method = "GET"
            var path = "/echo"
            var headers: [(String, String)] = []
            var body: [UInt8]?
            let status: Int
            var testDescription: String { name }
        }

        static let refused: [Refused] = [
            .init(name: "dots in the path", path: "/a/../b", status: 400),
            .init(
                name: "a long path", path: "/" + String(repeating: "a", count: 9000), status: 414),
            .init(name: "a long method", method: String(repeating: "M", count: 33), status: 501),
            .init(
                name: "many fields", headers: (0..<101).map { ("x-\($0)", "y") }, status: 431),
            .init(
                name: "large fields", headers: [("x", String(repeating: "y", count: 17_000))],
                status: 431),
            .init(name: "another host", headers: [("host", "other")], status: 400),
            .init(name: "an unknown expectation", headers: [("expect", "tea")], status: 417),
            .init(
                name: "a body that grows too large", method: "POST", body: pattern(1_100_000),
                status: 413),
        ]

        @Test("what is no request gets its status and a problem document", arguments: refused)
        func refuses(_ given: Refused) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let answer = client.answer(
                to: given.path, given.method, headers: given.headers, body: given.body)
            #expect(answer.status == given.status)
            #expect(answer.header("content-type") == ProblemDetails.mediaType)
            #expect(answer.text.contains("\"status\":\(given.status)"))
            // The connection and its other streams are in order.
            #expect(client.answer(to: "/echo").status == 200)
            #expect(server.record.withLock { $0.requests } == ["GET /echo"])
        }

        @Test(
            "a head that breaks the rules of HTTP/2 resets its stream alone",
            arguments: [
                [(":method", "GET"), (":path", "/echo"), (":authority", "a")],
                [(":method", "GET"), (":scheme", "http"), (":authority", "a")],
                [(":method", "GET"), (":scheme", "http"), (":path", "/echo")],
                [(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/")],
                [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")],
                [(":scheme", "http"), (":path", "/"), (":authority", "a"), ("x", "y")],
                [(":method", "GET"), (":scheme", "http"), (":path", "echo"), (":authority", "a")],
                [
                    (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"),
                    ("connection", "close"),
                ],
                [
                    (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"),
                    ("transfer-encoding", "chunked"),
                ],
            ])
        func malformedHeads(fields: [(String, String)]) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let stream = client.http.request(fields: fields)
            client.run { $0.answers[stream]?.closedWith != nil }
            #expect(client.http.answers[stream]?.closedWith == 1)
            #expect(client.http.answers[stream]?.status == 0)
            #expect(client.answer(to: "/echo").status == 200)
        }

        @Test("crumbs of a cookie are one field, and a host is the authority")
        func cookies() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            #expect(
                client.answer(to: "/fields", headers: [("cookie", "a=1"), ("cookie", "b=2")]).text
                    == "test|a=1; b=2")
        }

        @Test("a client that asks whether to send its body is told to")
        func continues() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let answer = client.answer(
                to: "/echo", "POST",
                headers: [("expect", "100-continue"), ("content-length", "4")],
                body: Array("body".utf8))
            #expect(answer.interim == [100])
            #expect(answer.text == "POST /echo|body")
        }

        @Test("an answer before the end of its request stops the rest of that")
        func earlyAnswer() throws {
            let server = try ServerUnderTest { $0.bodyTimeout = .milliseconds(50) }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let bad = client.http.request("POST", "/a/../b", body: [1], endsStream: false)
            client.run { $0.answers[bad]?.closedWith != nil }
            #expect(client.http.answers[bad]?.status == 400)
            #expect(client.http.answers[bad]?.closedWith == 0)
            let large = client.http.request(
                "POST", "/echo", headers: [("content-length", "2000000")], body: [1],
                endsStream: false)
            client.run { $0.answers[large]?.closedWith != nil }
            #expect(client.http.answers[large]?.status == 413)
            let slow = client.http.request("POST", "/echo", body: [1], endsStream: false)
            client.run { $0.answers[slow]?.closedWith != nil }
            #expect(client.http.answers[slow]?.status == 408)
            #expect(server.metric(#"rivulet_http_bad_requests_total{code="bodyTimeout"}"#) == 1)
            #expect(client.answer(to: "/echo").status == 200)
        }

        @Test("a connection over the limit is answered in its own language")
        func overLimit() throws {
            let budget = ConnectionBudget(limit: 1)
            let server = try ServerUnderTest(budget: budget) { $0.retryAfterSeconds = 7 }
            defer { server.stop() }
            let first = try HTTP2LoopbackClient(server)
            #expect(first.answer(to: "/echo").status == 200)
            #expect(first.answer(to: "/echo").status == 200)
            #expect(budget.inUse == 1)
            let second = try HTTP2LoopbackClient(server)
            let answer = second.answer(to: "/echo")
            #expect(answer.status == 503)
            #expect(answer.header("retry-after") == "7")
            second.runToEnd()
            #expect(second.http.goAway?.code == 0)
            #expect(second.socket.sawEnd)
            first.socket.close()
            #expect(eventually { budget.inUse == 0 })
        }

        @Test("more streams than a connection may have are refused, and can be tried again")
        func concurrency() throws {
            let server = try ServerUnderTest { $0.http2?.concurrentStreams = 4 }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            // All of them before the client has heard of the limit.
            let streams = (0..<6).map { _ in client.http.request("GET", "/stream") }
            client.run { http in streams[4...].allSatisfy { http.answers[$0]!.closedWith != nil } }
            let refusedStream: UInt32 = 7
            #expect(
                streams.map { client.http.answers[$0]!.closedWith }
                    == [nil, nil, nil, nil, refusedStream, refusedStream])
            #expect(client.http.serverSettings[3] == 4)
            try server.onLoop { $0.handler.streams[0].finish() }
            client.run { $0.answers[streams[0]]!.isEnded }
            #expect(client.answer(to: "/echo").status == 200)
        }

        @Test("curl is served where it is installed")
        func curl() throws {
            guard unsafe access("/usr/bin/curl", X_OK) == 0 else { return }
            let server = try ServerUnderTest()
            defer { server.stop() }
            let folder = try TemporaryDirectory("http2-curl")
            let output = folder.path + "/curl.txt"
            let curl = ChildProcess(
                [
                    "/usr/bin/curl", "-sS", "--http2-prior-knowledge", "-w", "|%{http_version}",
                    "-d", "hello", "http://\(server.address)/echo",
                ], output: output)
            #expect(curl.waitForEnd(within: .seconds(20)) == .exited(0))
            #expect(folder.end(of: "curl.txt", bytes: 4096) == "POST /echo|hello|2")
        }
    }
}
