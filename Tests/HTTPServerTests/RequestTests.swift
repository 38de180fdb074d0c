// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Requests and answers")
    struct RequestTests {
        @Test("a connection serves one request after another")
        func keepAlive() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            for number in 0..<5 {
                client.send("GET /echo/\(number) HTTP/1.1\r\nHost: a\r\n\r\n")
                let answer = try #require(client.readAnswer())
                #expect(answer.status == 200)
                #expect(answer.text == "GET /echo/\(number)|")
                #expect(answer.header("connection") == nil)
                #expect(answer.header("server") == "rivulet")
                #expect(answer.header("date")?.hasSuffix(" GMT") == true)
            }
            #expect(server.metric("rivulet_http_connections_accepted_total") == 1)
            #expect(
                server.metric(#"rivulet_http_requests_total{method="GET",status="2xx"}"#) == 5)
        }

        @Test(
            "a client that asks for it, or speaks HTTP/1.0, is answered and the connection closes")
        func closes() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            for request in [
                "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "GET /echo HTTP/1.0\r\n\r\n",
            ] {
                let client = try server.client()
                client.send(request)
                let answer = try #require(client.readAnswer())
                #expect(answer.text == "GET /echo|")
                #expect(answer.header("connection") == "close")
                #expect(client.readToEnd() == [])
                #expect(client.sawEnd)
            }
        }

        @Test("an HTTP/1.0 client that asks to stay is told that it may")
        func oldKeepAlive() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            for _ in 0..<2 {
                client.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                let answer = try #require(client.readAnswer())
                #expect(answer.header("connection") == "keep-alive")
            }
        }

        @Test("pipelined requests are answered in order, also past one turn's share")
        func pipelining() throws {
            let server = try ServerUnderTest { $0.requestsPerTurn = 3 }
            defer { server.stop() }
            let client = try server.client()
            let requests = (0..<100).map { "GET /echo/\($0) HTTP/1.1\r\nHost: a\r\n\r\n" }
            client.send(requests.joined())
            for number in 0..<100 {
                #expect(client.readAnswer()?.text == "GET /echo/\(number)|")
            }
            // The connection still waits for more.
            client.send("GET /echo/last HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer()?.text == "GET /echo/last|")
        }

        @Test("the next request is handled only once the one before it is answered")
        func pipeliningWaits() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(
                "GET /later HTTP/1.1\r\nHost: a\r\n\r\nGET /echo/2 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { server.record.withLock { $0.requests.count } == 1 })
            // More input while the answer is outstanding does not change that.
            client.send("GET /echo/3 HTTP/1.1\r\nHost: a\r\n\r\n")
            try server.onLoop { shard in
                #expect(shard.handler.waiting.count == 1)
                shard.handler.waiting.removeFirst().respond(status: 202, body: [0x31])
            }
            #expect(client.readAnswer()?.status == 202)
            #expect(client.readAnswer()?.text == "GET /echo/2|")
            #expect(client.readAnswer()?.text == "GET /echo/3|")
            #expect(
                server.record.withLock { $0.requests }
                    == ["GET /later", "GET /echo/2", "GET /echo/3"])
        }

        @Test("a request that arrives byte by byte is the same request")
        func dribble() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            let requests =
                "POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                + "POST /echo/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "3\r\nfoo\r\n3;x=y\r\nbar\r\n0\r\nTrailer: t\r\n\r\n"
                + "GET /echo/c HTTP/1.1\r\nHost: a\r\n\r\n"
            for byte in requests.utf8 { client.send([byte]) }
            #expect(client.readAnswer()?.text == "POST /echo/a|hello")
            #expect(client.readAnswer()?.text == "POST /echo/b|foobar")
            #expect(client.readAnswer()?.text == "GET /echo/c|")
        }

        @Test("a body larger than one read is put together")
        func largeBody() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            let body = String(repeating: "0123456789abcdef", count: 40_000)
            client.send(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n")
            client.send(body)
            #expect(client.readAnswer()?.text == "POST /echo|" + body)
        }

        @Test("a client that expects it is told to go on, and not before it has to be")
        func continues() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            #expect(client.readAnswer()?.status == 100)
            client.send("hi")
            #expect(client.readAnswer()?.text == "POST /echo|hi")
            client.send(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi"
            )
            #expect(client.readAnswer()?.status == 200)
        }

        @Test("HEAD is answered with the head of GET and nothing else")
        func head() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("HEAD /size/1234 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer(bodyless: true)?.header("content-length") == "1234")
            client.send("GET /size/3 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer()?.body == pattern(3))
            client.send("HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(client.readAnswer(bodyless: true))
            #expect(answer.header("content-type") == "text/event-stream")
            #expect(client.readToEnd() == [])
            #expect(server.metric("rivulet_http_streams_opened_total") == 0)
        }

        @Test("204 has no length, and OPTIONS reaches the handler")
        func bodylessStatus() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(client.readAnswer())
            #expect(answer.status == 204)
            #expect(answer.header("content-length") == nil)
            client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer()?.text == "OPTIONS *|")
        }

        @Test("a value that a peer gave cannot end its header line")
        func hostileHeader() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(
                "POST /hostile HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nx\r\nEvil: yes")
            let answer = try #require(client.readAnswer())
            #expect(answer.header("evil") == nil)
            #expect(answer.header("x-given") == "x  Evil: yes")
        }

        @Test("a request that the handler forgets is answered 500, and the connection closes")
        func dropped() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /drop HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(client.readAnswer())
            #expect(answer.status == 500)
            #expect(answer.header("content-type") == "application/problem+json")
            #expect(client.readToEnd() == [])
            #expect(server.metric("rivulet_http_requests_unanswered_total") == 1)
        }

        @Test("a client that has gone before the answer is nobody's error")
        func goneBeforeAnswer() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { server.record.withLock { $0.requests.count } == 1 })
            client.reset()
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            try server.onLoop { shard in
                #expect(shard.handler.waiting[0].clientHasGone)
                shard.handler.waiting.removeFirst().respond(status: 200)
            }
        }

        @Test("a client that half-closes after its request still gets the answer")
        func halfClosed() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
            client.closeWriting()
            #expect(client.readAnswer()?.text == "GET /echo|")
            #expect(client.readToEnd() == [])
        }

        @Test("a large answer reaches a slow reader whole, and then the next request is served")
        func largeAnswer() throws {
            let server = try ServerUnderTest { $0.sendBufferBytes = 16_384 }
            defer { server.stop() }
            let client = try server.client(receiveBufferBytes: 4096)
            let size = 3_000_000
            client.send("GET /size/\(size) HTTP/1.1\r\nHost: a\r\n\r\n")
            client.send("GET /echo/next HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer()?.body == pattern(size))
            #expect(client.readAnswer()?.text == "GET /echo/next|")
            #expect(eventually { server.metric("rivulet_http_sent_bytes_total") > Double(size) })
        }

        @Test("answering twice is a mistake of the program")
        func twice() async {
            await #expect(processExitsWith: .failure) {
                let server = try ServerUnderTest()
                let client = try server.client()
                client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = eventually { server.record.withLock { $0.requests.count } == 1 }
                try server.onLoop { shard in
                    shard.handler.waiting[0].respond(status: 200)
                    shard.handler.waiting[0].respond(status: 200)
                }
            }
        }
    }
}
