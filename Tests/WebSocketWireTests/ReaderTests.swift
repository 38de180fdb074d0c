// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing
import WebSocketWire

/// What RFC 6455 says of one sequence of frames.
struct FrameCase: CustomTestStringConvertible {
    let name: String
    let frames: [SentFrame]
    let outcome: Reading

    init(_ name: String, _ frames: [SentFrame], _ outcome: Reading) {
        self.name = name
        self.frames = frames
        self.outcome = outcome
    }

    var testDescription: String { name }
}

private func text(_ value: String) -> WebSocketMessage { .text(Array(value.utf8)) }
private func bytes(_ count: Int, _ value: UInt8 = 0xfe) -> [UInt8] {
    [UInt8](repeating: value, count: count)
}

/// The reader against the protocol. Each case is read whole, in small parts and byte by byte: how
/// the bytes come must make no difference.
@Suite("WebSocket reader")
struct ReaderTests {
    /// Sections 5.2 and 5.6: every size at which the form of the length changes.
    static let sizes: [FrameCase] = [0, 125, 126, 127, 128, 65_535, 65_536].flatMap { size in
        [
            FrameCase(
                "a text of \(size) bytes", [.text(String(repeating: "*", count: size))],
                Reading([text(String(repeating: "*", count: size))])),
            FrameCase(
                "a binary message of \(size) bytes", [.binary(bytes(size))],
                Reading([.binary(bytes(size))])),
        ]
    }

    /// Section 5.5: pings and pongs.
    static let control: [FrameCase] = [
        FrameCase("a ping without payload", [.ping()], Reading([.ping([])])),
        FrameCase(
            "a ping with text", [.ping(Array("Hello".utf8))],
            Reading([.ping(Array("Hello".utf8))])),
        FrameCase(
            "a ping with bytes that are not UTF-8", [.ping([0, 0xff, 0xfe, 0xfd])],
            Reading([.ping([0, 0xff, 0xfe, 0xfd])])),
        FrameCase("the largest ping", [.ping(bytes(125))], Reading([.ping(bytes(125))])),
        FrameCase("a ping of 126 bytes", [.ping(bytes(126))], Reading([], .frameMalformed)),
        FrameCase(
            "a ping whose length takes more bytes than it needs",
            [SentFrame(opcode: 9, payload: bytes(3), lengthBytes: 2)],
            Reading([], .frameMalformed)),
        FrameCase(
            "a pong that nobody asked for, then a ping", [.pong([1]), .ping([2])],
            Reading([.pong([1]), .ping([2])])),
        FrameCase(
            "ten pings", (0..<10).map { .ping([$0]) }, Reading((0..<10).map { .ping([$0]) })),
    ]

    /// Section 5.2: bits and opcodes that mean nothing yet.
    static let reserved: [FrameCase] =
        (1...7).map { bits in
            FrameCase(
                "reserved bits \(bits) after a whole message",
                [
                    .text("a"),
                    SentFrame(opcode: 1, payload: [0x62], reservedBits: UInt8(bits)), .ping(),
                ],
                Reading([text("a")], .frameMalformed))
        }
        + [
            FrameCase(
                "a reserved bit on a ping",
                [SentFrame(opcode: 9, payload: [1], reservedBits: 4)],
                Reading([], .frameMalformed))
        ]
        + [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap { opcode in
            [
                FrameCase(
                    "opcode \(opcode)", [SentFrame(opcode: opcode)],
                    Reading([], .frameMalformed)),
                FrameCase(
                    "opcode \(opcode) with a payload, between messages",
                    [.text("a"), SentFrame(opcode: opcode, payload: [0x62]), .ping()],
                    Reading([text("a")], .frameMalformed)),
            ]
        }

    /// Section 5.4: messages in several frames.
    static let fragments: [FrameCase] = [
        FrameCase(
            "a ping in two frames",
            [SentFrame(opcode: 9, payload: [1], isFinal: false), .more([2])],
            Reading([], .frameMalformed)),
        FrameCase(
            "a pong in two frames",
            [SentFrame(opcode: 10, payload: [1], isFinal: false), .more([2])],
            Reading([], .frameMalformed)),
        FrameCase(
            "a close in two frames",
            [SentFrame(opcode: 8, payload: [3, 232], isFinal: false), .more([2])],
            Reading([], .frameMalformed)),
        FrameCase(
            "a text in two frames", [.text("frag", isFinal: false), .more("ment")],
            Reading([text("fragment")])),
        FrameCase(
            "a ping between the frames of a text",
            [.text("frag", isFinal: false), .ping([7]), .more("ment")],
            Reading([.ping([7]), text("fragment")])),
        FrameCase(
            "several frames, pings and pongs between all of them",
            [
                .text("a", isFinal: false), .ping([1]), .more("b", isFinal: false), .pong([2]),
                .more("c", isFinal: false), .ping([3]), .more("d"),
            ], Reading([.ping([1]), .pong([2]), .ping([3]), text("abcd")])),
        FrameCase(
            "a continuation of nothing", [.more("a")], Reading([], .frameMalformed)),
        FrameCase(
            "a continuation of nothing that is not the last", [.more("a", isFinal: false)],
            Reading([], .frameMalformed)),
        FrameCase(
            "a continuation after a whole message", [.text("a"), .more("b")],
            Reading([text("a")], .frameMalformed)),
        FrameCase(
            "a text inside a text", [.text("a", isFinal: false), .text("b")],
            Reading([], .frameMalformed)),
        FrameCase(
            "a binary message inside a text", [.text("a", isFinal: false), .binary([1])],
            Reading([], .frameMalformed)),
        FrameCase(
            "empty frames", [.text("", isFinal: false), .more("", isFinal: false), .more("")],
            Reading([text("")])),
        FrameCase(
            "empty frames around one that is not",
            [.text("", isFinal: false), .more("mid", isFinal: false), .more("")],
            Reading([text("mid")])),
        FrameCase(
            "a binary message byte by byte",
            [.binary([0], isFinal: false)] + (1..<50).map { .more([$0], isFinal: false) }
                + [.more([50])], Reading([.binary(Array(0...50))])),
        FrameCase(
            "two messages in a row, the first in frames",
            [.binary([1], isFinal: false), .more([2]), .text("b")],
            Reading([.binary([1, 2]), text("b")])),
    ]

    /// Section 8.1: text is UTF-8, and what is not is refused at the first wrong byte.
    static let encoding: [FrameCase] = [
        FrameCase(
            "text in several scripts", [.text("Hello-µ@ßöäüàá-UTF-8!! κόσμε 🙂 한")],
            Reading([text("Hello-µ@ßöäüàá-UTF-8!! κόσμε 🙂 한")])),
        FrameCase(
            "a character cut by the end of a frame",
            [SentFrame(opcode: 1, payload: [0xce], isFinal: false), .more([0xba])],
            Reading([text("κ")])),
        FrameCase(
            "a character cut by the end of the message", [SentFrame(opcode: 1, payload: [0xce])],
            Reading([], .textNotUTF8)),
        FrameCase(
            "a fault in the first of two frames, found before the second",
            [SentFrame(opcode: 1, payload: [0x61, 0xf4, 0x90], isFinal: false)],
            Reading([], .textNotUTF8)),
        FrameCase(
            "binary messages may hold anything", [.binary([0xff, 0xc0, 0x80])],
            Reading([.binary([0xff, 0xc0, 0x80])])),
    ]

    static let wrongUTF8: [[UInt8]] = [
        [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xc2, 0x20], [0xe0, 0x80, 0x80],
        [0xe0, 0x9f, 0xbf], [0xe1, 0x80], [0xe1, 0x80, 0xc0], [0xed, 0xa0, 0x80],
        [0xed, 0xbf, 0xbf], [0xf0, 0x80, 0x80, 0x80], [0xf0, 0x8f, 0xbf, 0xbf],
        [0xf0, 0x90, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80],
        [0xf8, 0x88, 0x80, 0x80, 0x80], [0xfe], [0xff],
        [0xce, 0xba, 0xed, 0xa0, 0x80, 0x65, 0x64],
    ]

    static let rightUTF8: [[UInt8]] = [
        [0x00], [0x7f], [0xc2, 0x80], [0xdf, 0xbf], [0xe0, 0xa0, 0x80], [0xed, 0x9f, 0xbf],
        [0xee, 0x80, 0x80], [0xef, 0xbf, 0xbd], [0xef, 0xbf, 0xbf], [0xf0, 0x90, 0x80, 0x80],
        [0xf0, 0x9f, 0xbf, 0xbe], [0xf4, 0x8f, 0xbf, 0xbf],
    ]

    /// Sections 5.5.1 and 7.4: the closing handshake.
    static let closing: [FrameCase] =
        [
            FrameCase(
                "a close without a code",
                [SentFrame(opcode: 8)], Reading([.close(nil, reason: "")])),
            FrameCase(
                "a close with half a code",
                [SentFrame(opcode: 8, payload: [3])], Reading([], .frameMalformed)),
            FrameCase(
                "a close with a reason", [.close(1000, Array("Bye, κόσμε".utf8))],
                Reading([.close(.normal, reason: "Bye, κόσμε")])),
            FrameCase(
                "the longest reason", [.close(1001, bytes(123, 0x2a))],
                Reading([.close(.goingAway, reason: String(repeating: "*", count: 123))])),
            FrameCase(
                "a reason that is too long", [.close(1000, bytes(124, 0x2a))],
                Reading([], .frameMalformed)),
            FrameCase(
                "a reason that is not UTF-8", [.close(1000, [0xce, 0xba, 0xe1, 0xbd])],
                Reading([], .textNotUTF8)),
            FrameCase(
                "nothing is read after a close", [.text("a"), .close(1000), .text("b"), .ping()],
                Reading([text("a"), .close(.normal, reason: "")])),
            FrameCase(
                "a close between the frames of a text",
                [.text("a", isFinal: false), .close(1000), .more("b")],
                Reading([.close(.normal, reason: "")])),
        ]
        + [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ].map { code in
            FrameCase(
                "close code \(code)", [.close(code)],
                Reading([.close(WebSocketCloseCode(rawValue: code), reason: "")]))
        }
        + [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535].map { code in
            FrameCase("close code \(code)", [.close(code)], Reading([], .frameMalformed))
        }

    /// Sections 5.1 and 5.2: what the head of a frame may not say.
    static let heads: [FrameCase] = [
        FrameCase(
            "a client's frame without a mask",
            [SentFrame(opcode: 1, payload: [0x61], isMasked: false)],
            Reading([], .frameMalformed)),
        FrameCase(
            "a length in two bytes that fits in one",
            [SentFrame(opcode: 2, payload: bytes(125), lengthBytes: 2)],
            Reading([], .frameMalformed)),
        FrameCase(
            "a length in eight bytes that fits in two",
            [SentFrame(opcode: 2, payload: bytes(65_535), lengthBytes: 8)],
            Reading([], .frameMalformed)),
    ]

    @Test(
        "frames are read as RFC 6455 says, however their bytes come",
        arguments: sizes + control + reserved + fragments + encoding + closing + heads)
    func frames(_ entry: FrameCase) {
        let bytes = entry.frames.flatMap(\.bytes)
        for partBytes in [bytes.count, 1, 2, 3, 7, 997, 4096, 4097] where partBytes > 0 {
            let found = Reading(of: bytes, partBytes: partBytes)
            #expect(found == entry.outcome, "in parts of \(partBytes)")
        }
    }

    @Test("text that is not UTF-8 is refused, whole or in frames", arguments: wrongUTF8)
    func wrongText(_ wrong: [UInt8]) {
        for partBytes in [64, 1] {
            let whole = SentFrame(opcode: 1, payload: [0x61] + wrong + [0x62]).bytes
            #expect(Reading(of: whole, partBytes: partBytes) == Reading([], .textNotUTF8))
            let cut = wrong.map { SentFrame.more([$0], isFinal: false) }
            let framed = ([.text("a", isFinal: false)] + cut + [.more("b")]).flatMap(\.bytes)
            #expect(Reading(of: framed, partBytes: partBytes) == Reading([], .textNotUTF8))
        }
    }

    @Test("every edge of UTF-8 is taken", arguments: rightUTF8)
    func rightText(_ right: [UInt8]) {
        let cut = right.map { SentFrame.more([$0], isFinal: false) }
        let framed = ([.text("a", isFinal: false)] + cut + [.more("b")]).flatMap(\.bytes)
        #expect(
            Reading(of: framed, partBytes: 3) == Reading([.text([0x61] + right + [0x62])]))
    }

    @Test("a message over the limit is refused by its length, before its bytes come")
    func tooLarge() {
        let limit = 100
        let fits = SentFrame.binary(bytes(100)).bytes
        #expect(
            Reading(of: fits, partBytes: 7, messageBytesMax: limit)
                == Reading([.binary(bytes(100))]))
        let huge: [UInt8] = [
            0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
        ]
        #expect(
            Reading(of: huge + [1], partBytes: 64, messageBytesMax: limit)
                == Reading([], .messageTooLarge))
        let negative: [UInt8] = [0x82, 0xff, 0xff] + bytes(11)
        #expect(
            Reading(of: negative, partBytes: 64, messageBytesMax: limit)
                == Reading([], .frameMalformed))
        let framed = [.binary(bytes(60), isFinal: false), SentFrame.more(bytes(41))]
            .flatMap(\.bytes)
        #expect(
            Reading(of: framed, partBytes: 9, messageBytesMax: limit)
                == Reading([], .messageTooLarge))
        let between = [.binary(bytes(60), isFinal: false), .ping(bytes(90)), .more(bytes(40))]
            .flatMap { (frame: SentFrame) in frame.bytes }
        #expect(
            Reading(of: between, partBytes: 9, messageBytesMax: limit)
                == Reading([.ping(bytes(90)), .binary(bytes(100))]))
    }

    @Test("a message in endless frames is refused, even where they are empty")
    func endless() {
        let more = [UInt8](
            (1..<WebSocketReader.framesPerMessage).map { _ in SentFrame.more("", isFinal: false) }
                .flatMap(\.bytes))
        let begin = SentFrame.text("a", isFinal: false).bytes
        let last = SentFrame.more("b").bytes
        let fits = begin + more.dropLast(6) + last
        #expect(Reading(of: fits, partBytes: 4096) == Reading([text("ab")]))
        #expect(Reading(of: begin + more + last, partBytes: 4096) == Reading([], .messageTooLarge))
    }

    @Test("between messages the reader holds nothing, and after an error it ignores input")
    func holdsNothing() throws {
        var reader = WebSocketReader(from: .client, messageBytesMax: 1000)
        var messages: [WebSocketMessage] = []
        var held: [Bool] = []
        let frame = SentFrame.text("abc").bytes
        for end in 1...frame.count {
            try reader.read(frame.span.extracting((end - 1)..<end), to: &messages)
            held.append(reader.isInMessage)
        }
        #expect(held == [Bool](repeating: true, count: frame.count - 1) + [false])
        #expect(messages == [text("abc")])
        let first = SentFrame.text("a", isFinal: false).bytes
        try reader.read(first.span, to: &messages)
        let isInMessage = reader.isInMessage
        #expect(isInMessage)
        let wrong = SentFrame.text("b").bytes
        var refusal: WebSocketError?
        do throws(WebSocketError) {
            try reader.read(wrong.span, to: &messages)
        } catch { refusal = error }
        #expect(refusal?.code == .frameMalformed)
        try reader.read(frame.span, to: &messages)
        #expect(messages == [text("abc")])
        let holds = reader.isInMessage
        #expect(!holds)
    }

    @Test("random bytes never do harm, and read the same however they come")
    func randomBytes() {
        var state: UInt64 = 42
        func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
        }
        for _ in 0..<2000 {
            var bytes: [UInt8] = []
            // Half of the time a right frame with a few wrong bits, so that more than heads is met.
            if next() % 2 == 0 {
                bytes = SentFrame.text(String(repeating: "ä", count: Int(next() % 300))).bytes
                for _ in 0..<(next() % 4) {
                    bytes[Int(next()) % bytes.count] ^= UInt8(1 << (next() % 8))
                }
                bytes += SentFrame.close(1000).bytes
            } else {
                for _ in 0..<(next() % 64) { bytes.append(UInt8(truncatingIfNeeded: next())) }
            }
            guard !bytes.isEmpty else { continue }
            let whole = Reading(of: bytes, partBytes: bytes.count, messageBytesMax: 4000)
            let single = Reading(of: bytes, partBytes: 1, messageBytesMax: 4000)
            #expect(whole == single)
        }
    }
}
