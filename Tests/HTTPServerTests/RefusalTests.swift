// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Refusals and limits")
    struct RefusalTests {
        struct Malformed: Sendable, CustomTestStringConvertible {
            let name: String
            let bytes: [UInt8]
            let status: Int
            let code: String

            init(_ name: String, _ text: String, _ status: Int, _ code: String) {
                self.init(name, Array(text.utf8), status, code)
            }

            init(_ name: String, _ bytes: [UInt8], _ status: Int, _ code: String) {
                self.name = name
                self.bytes = bytes
                self.status = status
                self.code = code
            }

            var testDescription: String { name }
        }

        static let malformed: [Malformed] = [
            .init("no target", "GET\r\n\r\n", 400, "requestLineMalformed"),
            .init("no host", "GET / HTTP/1.1\r\n\r\n", 400, "hostMissing"),
            .init(
                "another version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "versionUnsupported"),
            .init(
                "a preface of HTTP/2 with one wrong letter", "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n",
                505, "versionUnsupported"),
            .init(
                "folded header", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400,
                "foldedHeader"),
            .init("bare line feed", "GET / HTTP/1.1\nHost: a\n\n", 400, "bareLineFeed"),
            .init(
                "long target", "GET /" + String(repeating: "a", count: 9000), 414, "targetTooLong"),
            .init(
                "many headers",
                "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "A: b\r\n", count: 101), 431,
                "tooManyHeaders"),
            .init(
                "two lengths",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400,
                "contentLengthRepeated"),
            .init(
                "length and chunks",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                    + "Transfer-Encoding: chunked\r\n\r\n", 400,
                "contentLengthWithTransferEncoding"),
            .init(
                "announced body too large",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n", 413,
                "bodyTooLarge"),
            .init(
                "chunks too large",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n", 413,
                "bodyTooLarge"),
            .init(
                "malformed chunk",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400,
                "chunkMalformed"),
            .init(
                "unknown expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417,
                "expectationUnsupported"),
            .init(
                "binary garbage", (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ 1) }, 400,
                "requestLineMalformed"),
            .init(
                "TLS", [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03], 400,
                "tlsOnPlainPort"),
        ]

        @Test(
            "what is no request gets its status, a problem document and the end",
            arguments: malformed)
        func refused(_ given: Malformed) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(given.bytes)
            let answer = try #require(client.readAnswer())
            #expect(answer.status == given.status)
            #expect(answer.header("content-type") == "application/problem+json")
            #expect(answer.header("connection") == "close")
            #expect(answer.text.contains("\"status\":\(given.status)"))
            #expect(client.readToEnd() == [])
            #expect(client.sawEnd)
            let series = #"rivulet_http_bad_requests_total{code="\#(given.code)"}"#
            #expect(server.metric(series) == 1)
            #expect(server.record.withLock { $0.requests } == [])
        }

        @Test("TLS on the plain port is told what it is")
        func tlsHint() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            // Whole in one read, and in pieces.
            let client = try server.client()
            client.send([0x16])
            #expect(client.readAnswer()?.text.contains("plain HTTP") == true)
        }

        @Test("a good request before a bad one is still answered")
        func goodThenBad() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n\u{16}\u{3}garbage")
            #expect(client.readAnswer()?.status == 200)
            #expect(client.readAnswer()?.status == 400)
            #expect(client.readToEnd() == [])
        }

        @Test("a header of a megabyte is refused, and its sender sees why")
        func hugeHeader() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "x", count: 1 << 20))
            let answer = try #require(client.readAnswer())
            #expect(answer.status == 431)
            #expect(client.readToEnd() == [])
            #expect(client.sawEnd && !client.sawReset)
        }

        @Test("half a head is answered 408 when its time is up, however it dribbles in")
        func headerTimeout() throws {
            let server = try ServerUnderTest { $0.headerTimeout = .milliseconds(100) }
            defer { server.stop() }
            let client = try server.client()
            client.send("GET / HTTP/1.1\r\nHost: a\r\n")
            // Bytes that keep coming do not move the deadline.
            var sent = 0
            while sent < 10_000, client.send("X"), server.metric(timeouts("headerTimeout")) < 1 {
                sent += 1
                _ = poll(nil, 0, 1)
            }
            #expect(client.readAnswer()?.status == 408)
            #expect(server.metric(timeouts("headerTimeout")) == 1)
            #expect(client.readToEnd() == [])
        }

        @Test("half a later head is answered 408 too, and half a body")
        func laterTimeouts() throws {
            let server = try ServerUnderTest {
                $0.headerTimeout = .milliseconds(50)
                $0.bodyTimeout = .milliseconds(50)
            }
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\nGET /ec")
            #expect(client.readAnswer()?.status == 200)
            #expect(client.readAnswer()?.status == 408)
            let other = try server.client()
            other.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            #expect(other.readAnswer()?.status == 408)
            #expect(server.metric(timeouts("bodyTimeout")) == 1)
        }

        @Test("a connection that sends nothing is closed without a word")
        func silent() throws {
            let server = try ServerUnderTest {
                $0.headerTimeout = .milliseconds(50)
                $0.idleTimeout = .milliseconds(50)
            }
            defer { server.stop() }
            let silent = try server.client()
            #expect(silent.readToEnd() == [])
            #expect(silent.sawEnd)
            let idle = try server.client()
            idle.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(idle.readAnswer()?.status == 200)
            #expect(idle.readToEnd() == [])
            #expect(server.metric("rivulet_http_idle_closes_total") == 2)
        }

        @Test("a client that never reads its answer is given up")
        func neverReads() throws {
            let server = try ServerUnderTest {
                $0.idleTimeout = .milliseconds(100)
                $0.sendBufferBytes = 16_384
            }
            defer { server.stop() }
            let client = try server.client(receiveBufferBytes: 4096)
            client.send("GET /size/5000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { server.metric("rivulet_http_connections_open") == 1 })
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            #expect(server.metric("rivulet_http_idle_closes_total") == 1)
            client.close()
        }

        @Test("a connection over the limit is told so, and a slot that comes free is used")
        func overLimit() throws {
            let budget = ConnectionBudget(limit: 2)
            let server = try ServerUnderTest(budget: budget) { $0.retryAfterSeconds = 7 }
            defer { server.stop() }
            let first = try server.client()
            let second = try server.client()
            for client in [first, second] {
                client.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(client.readAnswer()?.status == 200)
            }
            let third = try server.client()
            third.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(third.readAnswer())
            #expect(answer.status == 503)
            #expect(answer.header("retry-after") == "7")
            #expect(answer.text.contains("at most 2 connections"))
            #expect(third.readToEnd() == [])
            #expect(third.sawEnd)
            #expect(rejections(server, "connectionLimit") == 1)
            #expect(budget.inUse == 2)
            first.close()
            #expect(eventually { budget.inUse == 1 })
            let fourth = try server.client()
            fourth.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(fourth.readAnswer()?.status == 200)
        }

        @Test("more rejections than are waited for are answered at once")
        func manyRejections() throws {
            let server = try ServerUnderTest(budget: ConnectionBudget(limit: 0)) {
                $0.rejectionsPending = 1
                $0.lingerTimeout = .seconds(60)
            }
            defer { server.stop() }
            let waiting = try server.client()
            #expect(eventually { rejections(server, "connectionLimit") == 1 })
            let other = try server.client()
            // It has sent nothing yet.
            #expect(other.readAnswer()?.status == 503)
            waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(waiting.readAnswer()?.status == 503)
        }

        @Test("unfinished requests of many clients hold no more than the listener may")
        func heldBytes() throws {
            let server = try ServerUnderTest { $0.heldBytes = 100_000 }
            defer { server.stop() }
            let announced = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60001\r\n\r\n"
            let body = String(repeating: "x", count: 60_000)
            let first = try server.client()
            first.send(announced + body)
            #expect(eventually { (try? server.onLoop { $0.listener.heldBytes.count }) == 60_000 })
            let second = try server.client()
            second.send(announced + body)
            let answer = try #require(second.readAnswer())
            #expect(answer.status == 503)
            #expect(answer.header("retry-after") != nil)
            first.send("x")
            #expect(first.readAnswer()?.status == 200)
            try server.onLoop { #expect($0.listener.heldBytes.count == 0) }
        }

        private func timeouts(_ code: String) -> String {
            #"rivulet_http_bad_requests_total{code="\#(code)"}"#
        }
    }
}

private func rejections(_ server: ServerUnderTest, _ reason: String) -> Double {
    server.metric(#"rivulet_http_connections_rejected_total{reason="\#(reason)"}"#)
}
