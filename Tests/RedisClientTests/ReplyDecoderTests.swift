// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import RedisClient
import Testing

@Suite("Reply decoder")
struct ReplyDecoderTests {
    private let wire =
        "+OK\r\n:-42\r\n$5\r\nhe\r\no\r\n$0\r\n\r\n$-1\r\n*0\r\n*-1\r\n-ERR no\r\n"
        + "*2\r\n*3\r\n:1\r\n$1\r\na\r\n*1\r\n+x\r\n-MOVED 1\r\n"

    private let replies: [RedisReply] = [
        .simple("OK"), .integer(-42), bulk("he\r\no"), bulk(""), .null, .array([]), .null,
        .error("ERR no"),
        .array([
            .array([.integer(1), bulk("a"), .array([.simple("x")])]), .error("MOVED 1"),
        ]),
    ]

    private func decode(_ pieces: [[UInt8]], bytesMax: Int = 1000, elementsMax: Int = 100)
        throws(RedisError) -> [RedisReply]
    {
        let decoder = ReplyDecoder(bytesMax: bytesMax, elementsMax: elementsMax)
        var decoded: [RedisReply] = []
        for piece in pieces {
            try decoder.feed(piece.span)
            while let reply = try decoder.next() {
                decoded.append(reply.view.copy())
                decoder.recycle(reply)
            }
        }
        return decoded
    }

    @Test("replies are the same wherever the stream is cut in two")
    func everySplit() throws {
        let bytes = Array(wire.utf8)
        for cut in 0...bytes.count {
            let decoded = try decode([Array(bytes[..<cut]), Array(bytes[cut...])])
            #expect(decoded == replies, "cut at \(cut)")
        }
    }

    @Test("replies are the same when each byte comes alone")
    func singleBytes() throws {
        #expect(try decode(wire.utf8.map { [$0] }) == replies)
    }

    @Test(
        "what goes past a bound is refused before it has arrived",
        arguments: [
            "$1001\r\n", "$99999999999999\r\n", "$9223372036854775807\r\n",
            "$99999999999999999999999\r\n", "*101\r\n", "*2147483647\r\n", "*4294967296\r\n",
            "*99999999999999999999\r\n",
            "*2\r\n$600\r\n" + String(repeating: "a", count: 600)
                + "\r\n$401\r\n", "*50\r\n*50\r\n",
        ])
    func bounds(wire: String) {
        let error = #expect(throws: RedisError.self) { try decode([Array(wire.utf8)]) }
        #expect(error?.code == .protocolViolated)
    }

    @Test("a reply may fill its bounds exactly")
    func exactBounds() throws {
        let text = String(repeating: "a", count: 1000)
        #expect(try decode([Array("$1000\r\n\(text)\r\n".utf8)]) == [bulk(text)])
        let array = "*99\r\n" + String(repeating: ":1\r\n", count: 99)
        #expect(
            try decode([Array(array.utf8)]) == [.array(Array(repeating: .integer(1), count: 99))])
    }

    @Test(
        "what is not RESP2 is refused",
        arguments: [
            "HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "$-2\r\n", ":1x\r\n", "*-2\r\n", "*x\r\n",
            "\0\0\0\0", ":99999999999999999999\r\n",
            String(repeating: "*1\r\n", count: 20) + ":1\r\n",
        ])
    func garbage(wire: String) {
        let error = #expect(throws: RedisError.self) { try decode([Array(wire.utf8)]) }
        #expect(error?.code == .protocolViolated)
    }

    @Test("a line without an end is refused")
    func endlessLine() {
        let pieces = Array(repeating: [UInt8](repeating: 0x2b, count: 10_000), count: 10)
        let error = #expect(throws: RedisError.self) { try decode(pieces) }
        #expect(error?.code == .protocolViolated)
    }

    @Test("no bytes whatever make the decoder crash or hold more than its bounds")
    func noise() {
        var random = SeededRandom(seed: 7)
        let alphabet = Array("*$:+-0123\r\n\r\n\r\na".utf8)
        for _ in 0..<5_000 {
            let count = Int.random(in: 1...40, using: &random)
            let bytes = (0..<count).map { _ in alphabet.randomElement(using: &random)! }
            guard let decoded = try? decode([bytes]) else { continue }
            #expect(decoded.count <= bytes.count)
        }
    }

    @Test("a value of another type or place reads as missing, not as a crash")
    func wrongTypes() throws {
        let decoder = ReplyDecoder(bytesMax: 100, elementsMax: 10)
        try decoder.feed(Array("*1\r\n:7\r\n".utf8).span)
        let reply = try #require(try decoder.next())
        let view = reply.view
        let element = view[0]
        // Read beside the expectations, whose macro takes no borrowed value.
        let counts = [view.count, view.bytes.count, element.count, element.bytes.count]
        let integers = [view.integer, element.integer, element[0].integer]
        let texts = [view.text, element.text]
        let nulls = [view[1].isNull, view[-1].isNull, element[0].isNull, view.isNull]
        let isEqual = element.equals("7")
        #expect(counts == [1, 0, 0, 0])
        #expect(integers == [nil, 7, nil])
        #expect(texts == [nil, nil])
        #expect(nulls == [true, true, true, false])
        #expect(!isEqual)
    }
}

/// A generator whose draws a seed decides (splitmix64).
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
