// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Bytes
import ClusterHarness
import PosixIO
import Testing
import WebSocketWire

extension BrokerNodeTests {
    /// A handshake, and what the client sends behind it without waiting.
    private static func handshake(_ target: String, _ messages: [String] = []) -> [UInt8] {
        var bytes = ByteWriter()
        bytes.append(
            "GET \(target) HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for message in messages {
            let payload = Array(message.utf8)
            WebSocketFrame.append(.text, payload.span, maskingKey: [9, 8, 7, 6], to: &bytes)
        }
        return bytes.bytes
    }

    /// The head of the answer, and the messages that followed it.
    private static func parts(_ received: [UInt8]) throws
        -> (head: String, messages: [WebSocketMessage])
    {
        let separator = Array("\r\n\r\n".utf8)
        let end = try #require(
            received.indices.first { received[$0...].starts(with: separator) })
        var reader = WebSocketReader(from: .server, messageBytesMax: 1 << 20)
        var messages: [WebSocketMessage] = []
        let frames = Array(received[(end + 4)...])
        try reader.read(frames.span, to: &messages)
        return (String(decoding: received[..<end], as: UTF8.self), messages)
    }

    private static func texts(_ messages: [WebSocketMessage]) -> [String] {
        messages.compactMap { message in
            guard case .text(let text) = message else { return nil }
            return String(decoding: text, as: UTF8.self)
        }
    }

    @Test("a request for a WebSocket that cannot be granted gets a problem, not a socket")
    func webSocketProblems() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let cases: [(target: String, status: Int, holds: String)] = [
            ("/ws", 426, "a WebSocket begins with a GET"),
            ("/ws?channel=cameras", 426, "a WebSocket begins with a GET"),
            ("/ws?channel=nothing", 404, "\"accepted\":[\"cameras\""),
            ("/ws?channel=cameras&channel=system", 400, "\"parameter\":\"channel\""),
            ("/ws?channel=cameras&colour=red", 400, "\"parameter\":\"colour\""),
            ("/ws?channel=cameras&last_event_id=abc", 400, "\"given\":\"abc\""),
            ("/ws?zones=a", 400, "\"accepted\":[\"channels\""),
        ]
        for entry in cases {
            let answer = try get(entry.target, port)
            #expect(answer.status == entry.status, "\(entry.target)")
            let holds = answer.text.contains(entry.holds)
            #expect(holds, "\(entry.target): \(answer.text)")
        }
    }

    @Test("the node's own telemetry reaches a WebSocket, and a drain closes it with 1012")
    func webSocketTelemetry() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        let request = Self.handshake(
            "/ws?channel=system&nodes=node-under-test",
            [
                #"{"type":"subscribe","subscription":"all","filters":{"channels":"system"}}"#,
                #"{"type":"subscribe","subscription":"wrong","channel":"nowhere"}"#,
                #"{"type":"ping"}"#,
            ])
        let received = Lock<[UInt8]>([])
        let client = NamedThread("client") {
            // The socket ends when the node drains.
            let exchange = try? LoopbackHTTP.exchange(request, port: port, within: .seconds(30))
            guard let exchange, case .closed = exchange.end else { return }
            received.withLock { $0 = exchange.received }
        }
        let flowed = Waiting.until(within: .seconds(20)) {
            let health = (try? get("/healthz", port).text) ?? ""
            return health.contains("\"events_delivered\":")
                && !health.contains("\"events_delivered\":0")
        }
        #expect(flowed)
        #expect(try get("/metrics", port).text.contains("rivulet_websockets_open 1\n"))
        bench.stop()
        #expect(client.join(within: .seconds(10)))
        let (head, messages) = try Self.parts(received.withLock { $0 })
        #expect(head.hasPrefix("HTTP/1.1 101 "))
        let texts = Self.texts(messages)
        #expect(texts.filter { $0.hasPrefix(#"{"type":"retry""#) }.count == 2)
        #expect(texts.contains { $0.hasPrefix(#"{"type":"subscribed","subscription":"1""#) })
        #expect(texts.contains { $0.hasPrefix(#"{"type":"subscribed","subscription":"all""#) })
        #expect(texts.contains { $0.contains(#""code":"unknown_channel""#) })
        #expect(texts.contains { $0.hasPrefix(#"{"type":"pong""#) })
        let event = try #require(texts.first { $0.contains(#""event":"system_update""#) })
        #expect(event.contains(#""channel":"system","data":{"event_type":"resource_usage""#))
        guard case .close(let code, _)? = messages.last else {
            Issue.record("no close frame at the end")
            return
        }
        #expect(code == .serviceRestart)
    }
}
