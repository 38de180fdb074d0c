// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@Suite("Text from a peer")
struct PeerTextTests {
    @Test("what could forge a line or hide text is escaped, and the rest stays readable")
    func escapes() {
        #expect(
            PeerText.display("näin\r\n\u{1b}[31m\u{202e}\u{0}")
                == #"näin\u{d}\u{a}\u{1b}[31m\u{202e}\u{0}"#)
        let invalid: [UInt8] = [0x61, 0xff, 0x62]
        #expect(PeerText.display(invalid.span) == "a\u{fffd}b")
    }

    @Test("long text is cut at a character and marked")
    func cut() {
        #expect(PeerText.display("abcdef", limit: 3) == "abc…")
        #expect(PeerText.display("abc", limit: 3) == "abc")
        #expect(PeerText.display("ab\u{e9}", limit: 3) == "ab…")
        let bytes = Array(String(repeating: "\u{1F642}", count: 50).utf8)
        #expect(PeerText.display(bytes.span, limit: 9) == "\u{1F642}\u{1F642}…")
        #expect(PeerText.display(bytes.span, limit: 8) == "\u{1F642}\u{1F642}…")
    }

    @Test("a byte is found at or after the start, and only there")
    func search() {
        let bytes = Array("a-b-c".utf8)
        #expect(bytes.span.firstIndex(of: UInt8(ascii: "-")) == 1)
        #expect(bytes.span.firstIndex(of: UInt8(ascii: "-"), from: 2) == 3)
        #expect(bytes.span.firstIndex(of: UInt8(ascii: "-"), from: 5) == nil)
        #expect([UInt8]().span.firstIndex(of: 0) == nil)
    }
}
