// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing
import WebSocketWire

/// permessage-deflate (RFC 7692): what is agreed on, what is read, what is written.
@Suite("permessage-deflate")
struct DeflateTests {
    // MARK: - Negotiation

    private static let plain =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

    private func answer(_ fields: String...) throws(WebSocketError) -> String? {
        try PerMessageDeflate(offers: fields)?.answer
    }

    @Test(
        "offers that can be kept",
        arguments: [
            ("permessage-deflate", ""), ("permessage-deflate; client_max_window_bits", ""),
            ("permessage-deflate;client_max_window_bits=10", ""),
            ("permessage-deflate ; server_no_context_takeover;client_no_context_takeover", ""),
            ("permessage-deflate; server_max_window_bits=15", "; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=\"12\"", "; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=11", "; server_max_window_bits=9"),
            ("permessage-deflate; server_max_window_bits=\"\\9\"", "; server_max_window_bits=9"),
            ("x-other; a=b, , permessage-deflate", ""),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; "
                    + "server_max_window_bits=10, permessage-deflate", "; server_max_window_bits=9"
            ),
        ])
    func kept(_ offer: (field: String, bits: String)) throws {
        #expect(try answer(offer.field) == Self.plain + offer.bits)
    }

    @Test(
        "offers that are declined",
        arguments: [
            "", " , ", "x-webkit-deflate-frame", "Permessage-Deflate",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; something_else",
        ])
    func declined(_ field: String) throws {
        #expect(try answer(field) == nil)
    }

    @Test(
        "a field that is no list of extensions fails the handshake, also behind a good offer",
        arguments: [
            ";", "a;", "a;=b", "a=b", "permessage-deflate; a=\"", "a; b=\"\"", "a; b=\"c d\"",
            "a b",
            "permessage-deflate, ;", "a; b=c=d", "a; b=\"c\"d", "ä", "permessage-deflate \r",
        ])
    func malformed(_ field: String) {
        for fields in [[field], ["permessage-deflate", field]] {
            var refusal: WebSocketError?
            do throws(WebSocketError) {
                _ = try PerMessageDeflate(offers: fields)
            } catch { refusal = error }
            #expect(refusal?.code == .extensionsMalformed)
        }
    }

    @Test("of very many offers the first few are looked at")
    func manyOffers() throws {
        let others = String(repeating: "x,", count: 10_000)
        #expect(try answer(others + "permessage-deflate") == nil)
        #expect(try answer("permessage-deflate," + others) == Self.plain)
    }

    // MARK: - Reading

    /// "Hello" as the RFC's examples have it (section 7.2.3).
    private static let hello: [UInt8] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]
    private static let helloText = WebSocketMessage.text(Array("Hello".utf8))

    private static func compressed(
        _ payload: [UInt8], opcode: UInt8 = 1, isFinal: Bool = true
    ) -> SentFrame {
        SentFrame(opcode: opcode, payload: payload, isFinal: isFinal, reservedBits: 4)
    }

    static let cases: [FrameCase] = [
        FrameCase("the RFC's message in one frame", [compressed(hello)], Reading([helloText])),
        FrameCase(
            "the RFC's message in two frames",
            [compressed([0xf2, 0x48, 0xcd], isFinal: false), .more([0xc9, 0xc9, 0x07, 0x00])],
            Reading([helloText])),
        FrameCase(
            "a ping between the frames of a compressed message",
            [compressed([0xf2], isFinal: false), .ping([7]), .more(Array(hello.dropFirst()))],
            Reading([.ping([7]), helloText])),
        FrameCase(
            "a block without compression (section 7.2.3.3)",
            [
                compressed([
                    0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
                ])
            ], Reading([helloText])),
        FrameCase(
            "a block that says it is the last (section 7.2.3.4)",
            [compressed([0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])], Reading([helloText])),
        FrameCase(
            "two blocks in one message (section 7.2.3.5)",
            [
                compressed([
                    0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
                ])
            ], Reading([helloText])),
        FrameCase(
            "an empty message (section 7.2.3.6)", [compressed([0x00])], Reading([.text([])])),
        FrameCase(
            "compressed and plain messages in turn",
            [.text("a"), compressed(hello), .text("b"), compressed(hello, opcode: 2)],
            Reading([
                .text(Array("a".utf8)), helloText, .text(Array("b".utf8)),
                .binary(Array("Hello".utf8)),
            ])),
        FrameCase(
            "a message that refers to the one before (section 7.2.3.2)",
            [compressed(hello), compressed([0xf2, 0x00, 0x11, 0x00, 0x00])],
            Reading([helloText], .deflateMalformed)),
        FrameCase(
            "no deflate", [compressed([0xff, 0xff, 0xff])], Reading([], .deflateMalformed)),
        FrameCase(
            "a message that ends within a block", [compressed([0xf2, 0x48, 0xcd])],
            Reading([], .deflateMalformed)),
        FrameCase("a message of no bytes", [compressed([])], Reading([], .deflateMalformed)),
        FrameCase(
            "the bit on a continuation",
            [compressed([0xf2], isFinal: false), compressed([0x48], opcode: 0)],
            Reading([], .frameMalformed)),
        FrameCase("the bit on a ping", [compressed([], opcode: 9)], Reading([], .frameMalformed)),
        FrameCase(
            "the bit on a close", [compressed([3, 232], opcode: 8)],
            Reading([], .frameMalformed)),
        FrameCase(
            "another bit beside it", [SentFrame(opcode: 1, payload: hello, reservedBits: 6)],
            Reading([], .frameMalformed)),
        FrameCase(
            "text that is not UTF-8 once it is decompressed, found before its message ends",
            [compressed([0x00, 0x02, 0x00, 0xfd, 0xff, 0x61, 0xff], isFinal: false)],
            Reading([], .textNotUTF8)),
        FrameCase(
            "a character cut between two frames",
            [
                compressed([0x00, 0x01, 0x00, 0xfe, 0xff, 0xce], isFinal: false),
                .more([0x00, 0x01, 0x00, 0xfe, 0xff, 0xba, 0x00]),
            ], Reading([.text([0xce, 0xba])])),
        FrameCase(
            "a character cut by the end of the message",
            [compressed([0x00, 0x01, 0x00, 0xfe, 0xff, 0xce, 0x00])],
            Reading([], .textNotUTF8)),
    ]

    @Test("compressed messages are read as RFC 7692 says, however they come", arguments: cases)
    func reading(_ entry: FrameCase) {
        let bytes = entry.frames.flatMap(\.bytes)
        for partBytes in [bytes.count, 1, 2, 3, 7] {
            let found = Reading(of: bytes, partBytes: partBytes, inflates: true)
            #expect(found == entry.outcome, "in parts of \(partBytes)")
        }
        let refused = Reading(of: bytes, partBytes: 3)
        #expect(refused.error == .frameMalformed, "without the extension")
    }

    /// Frames of a server made readable for a reader of clients: the payload under a mask of zeros.
    private static func asClient(_ frame: [UInt8]) -> [UInt8] {
        var bytes = frame
        let payload = WebSocketFrame.payloadRange(at: 0, of: frame.span)
        bytes[1] |= 0x80
        bytes.insert(contentsOf: [0, 0, 0, 0], at: payload.lowerBound)
        return bytes
    }

    private static func written(_ payload: [UInt8], _ window: DeflateWindow = .wide) throws
        -> [UInt8]
    {
        let deflater = try #require(MessageDeflater(window))
        var frames = ByteWriter()
        deflater.append(.binary, payload.span, to: &frames)
        return frames.bytes
    }

    @Test("a message that would become huge costs its limit and no more")
    func bomb() throws {
        // One megabyte of zeros in about a kilobyte.
        let bomb = try Self.asClient(Self.written([UInt8](repeating: 0, count: 1 << 20)))
        #expect(bomb.count < 8192)
        for partBytes in [bomb.count, 100, 1] {
            #expect(
                Reading(of: bomb, partBytes: partBytes, messageBytesMax: 16 << 10, inflates: true)
                    == Reading([], .messageTooLarge))
        }
        for (size, outcome) in [(100, nil), (101, WebSocketError.Code.messageTooLarge)] {
            let frame = try Self.asClient(Self.written([UInt8](repeating: 0, count: size)))
            let found = Reading(of: frame, partBytes: 5, messageBytesMax: 100, inflates: true)
            #expect(found.error == outcome)
        }
    }

    // MARK: - Writing

    private static func event(_ number: Int, padding: Int) -> [UInt8] {
        var text = "{\"id\":\"1763683200123-\(number)\",\"data\":{\"values\":["
        for index in 0..<padding { text += "\(index &* 7919 &+ number)," }
        return Array((text + "0]}}").utf8)
    }

    private func read(_ frames: [UInt8], step: Int) throws -> [WebSocketMessage] {
        var reader = WebSocketReader(from: .server, messageBytesMax: 1 << 22, inflates: true)
        var messages: [WebSocketMessage] = []
        var start = 0
        while start < frames.count {
            let end = min(frames.count, start + step)
            try reader.read(frames.span.extracting(start..<end), to: &messages)
            start = end
        }
        return messages
    }

    @Test(
        "messages come back whole and in any order, however long",
        arguments: DeflateWindow.allCases, [1, 1000])
    func anyOrder(_ window: DeflateWindow, step: Int) throws {
        let deflater = try #require(MessageDeflater(window))
        let events = [0, 1, 5, 40, 300, 3000].map { Self.event($0, padding: $0) }
        let frames = events.map { event in
            var frame = ByteWriter()
            deflater.append(.text, event.span, to: &frame)
            return frame.bytes
        }
        for (event, frame) in zip(events, frames) where event.count > 200 {
            #expect(frame[0] == 0xc1, "of \(event.count) bytes")
            #expect(frame.count < event.count)
            #expect(WebSocketFrame.byteCount(at: 0, of: frame.span) == frame.count)
        }
        let order = [3, 5, 0, 3, 4, 1, 2, 5]
        #expect(
            try read(order.flatMap { frames[$0] }, step: step) == order.map { .text(events[$0]) })
    }

    @Test("what would not become smaller goes as it is")
    func incompressible() throws {
        var state: UInt32 = 9
        let noise = (0..<1000).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return UInt8(state >> 24)
        }
        for payload in [[], [1], [UInt8](repeating: 2, count: 63), noise] {
            let frame = try Self.written(payload)
            #expect(frame[0] == 0x82)
            #expect(
                frame.count == payload.count
                    + WebSocketFrame.headerBytes(payloadBytes: payload.count))
            #expect(try read(frame, step: 64) == [.binary(payload)])
        }
        #expect(try Self.written([UInt8](repeating: 2, count: 64))[0] == 0xc2)
    }

    @Test("random bytes in compressed messages never do harm, and read the same however they come")
    func randomBytes() throws {
        var state: UInt64 = 7
        func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
        }
        for round in 0..<2000 {
            var payload: [UInt8] = []
            if round % 2 == 0 {
                let frame = try Self.written(Self.event(round, padding: Int(next() % 200)))
                payload = Array(frame[WebSocketFrame.payloadRange(at: 0, of: frame.span)])
                for _ in 0..<(next() % 4) {
                    payload[Int(next()) % payload.count] ^= UInt8(1 << (next() % 8))
                }
            } else {
                for _ in 0..<(next() % 64) { payload.append(UInt8(truncatingIfNeeded: next())) }
            }
            let opcode = UInt8(next() % 2) + 1
            let bytes = Self.compressed(payload, opcode: opcode).bytes + SentFrame.ping().bytes
            let whole = Reading(
                of: bytes, partBytes: bytes.count, messageBytesMax: 2000, inflates: true)
            let single = Reading(of: bytes, partBytes: 1, messageBytesMax: 2000, inflates: true)
            #expect(whole == single)
        }
    }
}
