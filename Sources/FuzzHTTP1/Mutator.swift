// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Changes inputs at random, and always in the same way for the same seed.
package struct Mutator {
    private static let tokens: [[UInt8]] = [
        "\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", "\u{0}", "0\r\n\r\n", "5\r\n", "ffffffff",
        "GET / HTTP/1.1\r\n", "HTTP/1.0", "HTTP/1.1 200 OK\r\n", "Host: a\r\n", "Host: b\r\n",
        "Content-Length: 3\r\n", "Content-Length: +3\r\n", "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Connection: close\r\n", "%2e%2e/", "%2f", "%00",
        "%zz", "?a=1&b=%20", "http://a@b/", "*", "Expect: 100-continue\r\n", ";x=y", " \r\n ",
    ].map { Array($0.utf8) }

    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// The next number of SplitMix64.
    private mutating func next(below bound: Int) -> Int {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return Int((mixed ^ (mixed >> 31)) % UInt64(max(1, bound)))
    }

    /// One of `corpus`, changed in a few places.
    package mutating func input(from corpus: [[UInt8]]) -> [UInt8] {
        guard !corpus.isEmpty else { return [] }
        var bytes = corpus[next(below: corpus.count)]
        for _ in 0...next(below: 4) {
            let position = next(below: bytes.count + 1)
            let length = next(below: min(40, bytes.count - position + 1))
            switch next(below: 6) {
            case 0 where position < bytes.count:
                bytes[position] ^= UInt8(1 << next(below: 8))
            case 1:
                let token = Self.tokens[next(below: Self.tokens.count)]
                bytes.insert(contentsOf: token, at: position)
            case 2:
                bytes.removeSubrange(position..<(position + length))
            case 3:
                bytes.insert(contentsOf: Array(bytes[position..<(position + length)]), at: position)
            case 4:
                let other = corpus[next(below: corpus.count)]
                bytes = Array(bytes[..<position]) + other[next(below: other.count + 1)...]
            default:
                bytes.insert(UInt8(next(below: 256)), at: position)
            }
        }
        return bytes
    }
}
