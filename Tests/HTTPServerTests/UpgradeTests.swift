// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP2TestKit
import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Upgrades to WebSocket")
    struct UpgradeTests {
        private static let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        private static func request(
            _ line: String = "GET /upgrade HTTP/1.1", upgrade: String = "websocket",
            connection: String = "keep-alive, Upgrade", version: String = "13",
            key: String = Self.key
        ) -> String {
            "\(line)\r\nHost: a\r\nUpgrade: \(upgrade)\r\nConnection: \(connection)\r\n"
                + "Sec-WebSocket-Version: \(version)\r\n\(key)\r\n"
        }

        /// A client whose connection is upgraded, the answer read.
        private func upgraded(_ server: ServerUnderTest) throws -> LoopbackClient {
            let client = try server.client()
            client.send(Self.request())
            let answer = try #require(client.readAnswer(bodyless: true))
            #expect(answer.status == 101)
            return client
        }

        private func ends(_ server: ServerUnderTest) -> [StreamEnd] {
            server.record.withLock { $0.ended }
        }

        @Test("the answer is the handshake's, and then bytes go both ways")
        func bothWays() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(Self.request())
            let answer = try #require(client.readAnswer(bodyless: true))
            #expect(answer.status == 101)
            #expect(answer.header("upgrade") == "websocket")
            #expect(answer.header("connection") == "Upgrade")
            #expect(answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            #expect(answer.header("content-length") == nil)
            #expect(answer.header("sec-websocket-protocol") == nil)
            let sent = [UInt8](1...200)
            for _ in 0..<3 {
                client.send(sent)
                #expect(client.read(200) == sent)
            }
            // More than an ordinary stream's peer may send.
            let large = [UInt8](repeating: 7, count: 1000)
            for _ in 0..<20 {
                client.send(large)
                #expect(client.read(1000) == large)
            }
            #expect(server.metric(#"rivulet_http_requests_total{method="GET",status="1xx"}"#) == 1)
        }

        @Test("permessage-deflate is agreed on where an offer can be kept, and told so")
        func deflate() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let field = "sec-websocket-extensions"
            let agreed =
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            let cases: [(offer: String, answer: String?)] = [
                ("permessage-deflate; client_max_window_bits", agreed),
                ("permessage-deflate; server_max_window_bits=8", nil), ("x-unknown", nil),
            ]
            for entry in cases {
                let client = try server.client()
                client.send(
                    Self.request(key: Self.key + "Sec-WebSocket-Extensions: \(entry.offer)\r\n"))
                let answer = try #require(client.readAnswer(bodyless: true))
                #expect(answer.status == 101)
                #expect(answer.header(field) == entry.answer, "\(entry.offer)")
            }
            let client = try server.client()
            client.send(Self.request(key: Self.key + "Sec-WebSocket-Extensions: a;;b\r\n"))
            let refused = try #require(client.readAnswer())
            #expect(refused.status == 400)
            #expect(refused.text.contains("Sec-WebSocket-Extensions"))
        }

        @Test("what a hasty client sends behind its request is not lost")
        func early() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            client.send(Self.request() + "early")
            #expect(client.readAnswer(bodyless: true)?.status == 101)
            #expect(client.read(5) == Array("early".utf8))
            client.send("late")
            #expect(client.read(4) == Array("late".utf8))
            #expect(server.record.withLock { $0.received } == Array("earlylate".utf8))
        }

        @Test("the last bytes of a peer that closes are read before its end is told")
        func lastBytes() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try upgraded(server)
            let sent = [UInt8](repeating: 9, count: 100_000)
            client.send(sent)
            client.closeWriting()
            #expect(eventually { ends(server) == [.peerClosed] })
            #expect(server.record.withLock { $0.received } == sent)
            #expect(client.readToEnd() == sent)
        }

        @Test("a stream that its observer finishes ends after what was written")
        func finish() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try upgraded(server)
            client.send([1, 2, 0])
            #expect(client.readToEnd() == [1, 2, 0])
            #expect(client.sawEnd)
            #expect(eventually { ends(server) == [.finished] })
            client.send([5, 6])
            client.close()
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            #expect(server.record.withLock { $0.received } == [1, 2, 0])
        }

        @Test("over HTTP/2 a WebSocket is refused, and the connection goes on")
        func overHTTP2() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let refused = client.answer(to: "/upgrade")
            #expect(refused.status == 426)
            #expect(refused.header("sec-websocket-version") == "13")
            #expect(refused.header("upgrade") == nil)
            #expect(refused.header("connection") == nil)
            #expect(client.answer(to: "/echo").text == "GET /echo|")
        }

        @Test("a request that is no handshake is refused, and the connection goes on")
        func refusals() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try server.client()
            let cases: [(request: String, status: Int)] = [
                ("GET /upgrade HTTP/1.1\r\nHost: a\r\n\r\n", 426),
                (Self.request(upgrade: "h2c"), 426),
                (Self.request(connection: "keep-alive"), 426),
                (Self.request(version: "8"), 426),
                (Self.request("POST /upgrade HTTP/1.1"), 426),
                (Self.request(key: ""), 400),
                (Self.request(key: "Sec-WebSocket-Key: short\r\n"), 400),
                (Self.request(key: Self.key + Self.key), 400),
            ]
            for entry in cases {
                client.send(entry.request)
                let answer = try #require(client.readAnswer(), "\(entry.request)")
                #expect(answer.status == entry.status, "\(entry.request)")
                #expect(answer.header("content-type") == "application/problem+json")
                if entry.status == 426 {
                    #expect(answer.header("sec-websocket-version") == "13")
                    #expect(answer.header("upgrade") == "websocket")
                }
            }
            client.send(Self.request(upgrade: "h2c, WebSocket", connection: "UPGRADE"))
            #expect(client.readAnswer(bodyless: true)?.status == 101)
        }
    }
}
