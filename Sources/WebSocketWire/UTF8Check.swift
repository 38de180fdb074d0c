// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Checks UTF-8 that comes in parts, and finds a fault at the first byte that cannot be there.
struct UTF8Check {
    /// Bytes that the character in progress still needs.
    private var needed = 0
    /// What the next of them may be; only the first one's range depends on the character.
    private var range: ClosedRange<UInt8> = 0x80...0xbf

    /// Nothing of a character is missing.
    var isComplete: Bool { needed == 0 }

    /// False where `bytes` cannot go on what came before (RFC 3629, section 4).
    mutating func accept(_ bytes: borrowing Span<UInt8>) -> Bool {
        for index in bytes.indices where !accept(bytes[index]) { return false }
        return true
    }

    private mutating func accept(_ byte: UInt8) -> Bool {
        if needed > 0 {
            guard range.contains(byte) else { return false }
            range = 0x80...0xbf
            needed -= 1
            return true
        }
        switch byte {
        case 0...0x7f: return true
        case 0xc2...0xdf: begin(1)
        case 0xe0: begin(2, 0xa0...0xbf)  // Less would be a longer form of a shorter character.
        case 0xed: begin(2, 0x80...0x9f)  // More would be a surrogate.
        case 0xe1...0xef: begin(2)
        case 0xf0: begin(3, 0x90...0xbf)
        case 0xf1...0xf3: begin(3)
        case 0xf4: begin(3, 0x80...0x8f)  // More would be past U+10FFFF.
        default: return false
        }
        return true
    }

    private mutating func begin(_ count: Int, _ first: ClosedRange<UInt8> = 0x80...0xbf) {
        needed = count
        range = first
    }
}
