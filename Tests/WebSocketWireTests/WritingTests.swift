// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing
import WebSocketWire

@Suite("WebSocket frames and handshake")
struct WritingTests {
    @Test("frames come out as the RFC's own examples (section 5.7)")
    func examples() {
        #expect(
            WebSocketFrame.text(Array("Hello".utf8))
                == [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        var masked = ByteWriter()
        let hello = Array("Hello".utf8)
        WebSocketFrame.append(
            .text, hello.span, maskingKey: [0x37, 0xfa, 0x21, 0x3d], to: &masked)
        #expect(
            masked.bytes
                == [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
        var fragments = ByteWriter()
        WebSocketFrame.append(
            .text, hello.span.extracting(0..<3), isFinal: false, to: &fragments)
        WebSocketFrame.append(.continuation, hello.span.extracting(3..<5), to: &fragments)
        #expect(fragments.bytes == [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f])
    }

    @Test(
        "a server's frame of any size is read back by a client, and its length from its head",
        arguments: [0, 1, 125, 126, 65_535, 65_536, 200_000])
    func sizes(_ size: Int) throws {
        let payload = [UInt8](repeating: 0x2a, count: size)
        let frame = WebSocketFrame.text(payload)
        #expect(frame.count == WebSocketFrame.headerBytes(payloadBytes: size) + size)
        #expect(WebSocketFrame.byteCount(at: 0, of: frame.span) == frame.count)
        var reader = WebSocketReader(from: .server, messageBytesMax: size)
        var messages: [WebSocketMessage] = []
        try reader.read(frame.span, to: &messages)
        #expect(messages == [.text(payload)])
    }

    @Test("a client refuses a server's frame that is masked")
    func maskedServer() {
        var reader = WebSocketReader(from: .server, messageBytesMax: 10)
        var messages: [WebSocketMessage] = []
        let frame = SentFrame.text("a").bytes
        var refusal: WebSocketError?
        do throws(WebSocketError) {
            try reader.read(frame.span, to: &messages)
        } catch { refusal = error }
        #expect(refusal?.code == .frameMalformed)
    }

    @Test("a reason that does not fit is cut between two characters")
    func longReason() throws {
        let frame = WebSocketFrame.close(
            .serviceRestart, reason: String(repeating: "é", count: 100))
        #expect(frame.count <= 127)
        var reader = WebSocketReader(from: .server, messageBytesMax: 10)
        var messages: [WebSocketMessage] = []
        try reader.read(frame.span, to: &messages)
        #expect(
            messages == [.close(.serviceRestart, reason: String(repeating: "é", count: 61))])
    }

    @Test("the handshake answers the RFC's own key (section 1.3)")
    func accept() throws {
        let accept = try WebSocketHandshake.accept(
            asksForWebSocket: true, asksForUpgrade: true, versions: ["13"],
            keys: ["dGhlIHNhbXBsZSBub25jZQ=="])
        #expect(accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }

    @Test("a request that is not quite a handshake is told what is missing")
    func refusals() {
        func refusal(
            _ webSocket: Bool = true, _ upgrade: Bool = true, _ versions: [String] = ["13"],
            _ keys: [String] = ["dGhlIHNhbXBsZSBub25jZQ=="]
        ) -> WebSocketError.Code? {
            do throws(WebSocketError) {
                _ = try WebSocketHandshake.accept(
                    asksForWebSocket: webSocket, asksForUpgrade: upgrade, versions: versions,
                    keys: keys)
                return nil
            } catch { return error.code }
        }
        #expect(refusal() == nil)
        #expect(refusal(false) == .notAnUpgrade)
        #expect(refusal(true, false) == .notAnUpgrade)
        #expect(refusal(true, true, []) == .versionUnsupported)
        #expect(refusal(true, true, ["8"]) == .versionUnsupported)
        #expect(refusal(true, true, ["13", "8"]) == .versionUnsupported)
        for keys in [
            [], [""], ["short"], ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="],
            ["dGhlIHNhbXBsZSBub25jZQ="], ["dGhlIHNhbXBsZSBub25jZ!=="],
            ["dGhlIHNhbXBsZSBub25jZQAA"],
        ] {
            #expect(refusal(true, true, ["13"], keys) == .keyMalformed)
        }
    }
}
