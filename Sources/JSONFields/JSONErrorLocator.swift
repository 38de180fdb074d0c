// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Finds where an event that was refused stops being JSON (RFC 8259), which simdjson does not say.
///
/// Only for events that are bad anyway: it reads them byte by byte, once, without recursion.
struct JSONErrorLocator: ~Escapable {
    private let input: Span<UInt8>
    private var offset = 0
    /// The open containers, `true` for an object; never more than ``JSONFieldLimits/depth``.
    private var isObject: [Bool] = []

    @_lifetime(copy input)
    init(_ input: Span<UInt8>) { self.input = input }

    /// The offset of the first byte that cannot be there, the length of the event where it ends
    /// too early, or `nil` where the grammar finds no fault.
    mutating func firstError() -> Int? {
        skipSpace()
        // Each round reads one value, or the opening of one, and then what may follow it.
        while true {
            guard let opened = readValue() else { return offset }
            if opened, !closesAtOnce() {
                if isObject.last == true, !readKey() { return offset }
                continue
            }
            guard readAfterValue() else { return offset }
            if isObject.isEmpty { return offset == input.count ? nil : offset }
        }
    }

    // MARK: - Grammar

    private func peek() -> UInt8? { offset < input.count ? input[offset] : nil }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d {
            offset += 1
        }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        offset += 1
        return true
    }

    /// Reads a scalar (`false`) or an opening bracket (`true`); `nil` where neither is there.
    private mutating func readValue() -> Bool? {
        switch peek() {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard isObject.count < JSONFieldLimits.depth else { return nil }
            isObject.append(peek() == UInt8(ascii: "{"))
            offset += 1
            skipSpace()
            return true
        case UInt8(ascii: "\""): return readString() ? false : nil
        case UInt8(ascii: "t"): return readLiteral("true") ? false : nil
        case UInt8(ascii: "f"): return readLiteral("false") ? false : nil
        case UInt8(ascii: "n"): return readLiteral("null") ? false : nil
        default: return readNumber() ? false : nil
        }
    }

    private mutating func closesAtOnce() -> Bool {
        guard let object = isObject.last else { return false }
        guard skip(object ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { return false }
        isObject.removeLast()
        return true
    }

    /// Reads closing brackets up to the comma before the next value, or up to the end.
    private mutating func readAfterValue() -> Bool {
        while true {
            skipSpace()
            if isObject.isEmpty { return true }
            if closesAtOnce() { continue }
            guard skip(UInt8(ascii: ",")) else { return false }
            skipSpace()
            return isObject.last == true ? readKey() : true
        }
    }

    private mutating func readKey() -> Bool {
        guard readString() else { return false }
        skipSpace()
        guard skip(UInt8(ascii: ":")) else { return false }
        skipSpace()
        return true
    }

    // MARK: - Scalars

    private mutating func readLiteral(_ word: String) -> Bool {
        for byte in word.utf8 {
            guard skip(byte) else { return false }
        }
        return true
    }

    private mutating func readString() -> Bool {
        guard skip(UInt8(ascii: "\"")) else { return false }
        while let byte = peek() {
            switch byte {
            case UInt8(ascii: "\""):
                offset += 1
                return true
            case UInt8(ascii: "\\"):
                guard readEscape() else { return false }
            case 0..<0x20: return false
            default: offset += 1
            }
        }
        return false
    }

    /// Reads an escape; a wrong one leaves the offset at its backslash.
    private mutating func readEscape() -> Bool {
        let start = offset
        offset += 1
        guard let kind = peek() else { return false }
        offset += 1
        switch kind {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
            UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return true
        case UInt8(ascii: "u"):
            if let first = readFourHexDigits() {
                switch first {
                case 0xd800..<0xdc00:
                    if skip(UInt8(ascii: "\\")), skip(UInt8(ascii: "u")),
                        let second = readFourHexDigits(), (0xdc00..<0xe000).contains(second)
                    {
                        return true
                    }
                case 0xdc00..<0xe000: break
                default: return true
                }
            }
        default: break
        }
        offset = start
        return false
    }

    private mutating func readFourHexDigits() -> UInt32? {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek() else { return nil }
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: return nil
            }
            offset += 1
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    /// Reads a number; one that is malformed or out of range leaves the offset at its start.
    private mutating func readNumber() -> Bool {
        let start = offset
        while let byte = peek(), Self.isOfNumber(byte) { offset += 1 }
        let token = (start..<offset).map { input[$0] }
        if !token.isEmpty, JSONNumberText(token)?.isExtractable(from: token) == true { return true }
        offset = start
        return false
    }

    private static func isOfNumber(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"),
            UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
            true
        default: false
        }
    }
}

extension JSONNumberText {
    /// Whether an event may hold this number: an integer has to fit into 64 bits.
    fileprivate func isExtractable(from token: [UInt8]) -> Bool {
        guard case .double = self else { return true }
        return token.contains {
            $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "e") || $0 == UInt8(ascii: "E")
        }
    }
}
