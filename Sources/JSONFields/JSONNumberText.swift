// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A number written as JSON writes it (RFC 8259, section 6), read without loss.
enum JSONNumberText: Sendable, Equatable {
    case signed(Int64)
    /// Only what is too large for `signed`.
    case unsigned(UInt64)
    case double(Double)

    /// Reads all of `text`; `nil` where it is not a JSON number.
    init?(_ text: [UInt8]) {
        guard let first = text.first, first == UInt8(ascii: "-") || Self.isDigit(first) else {
            return nil
        }
        guard let isInteger = Self.form(of: text) else { return nil }
        let string = String(decoding: text, as: UTF8.self)
        if isInteger, let value = Int64(string) {
            self = .signed(value)
        } else if isInteger, let value = UInt64(string) {
            self = .unsigned(value)
        } else if let value = Double(string), value.isFinite {
            self = .double(value)
        } else {
            return nil
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }

    /// Whether `text` is an integer (`true`) or a fraction or power (`false`); `nil` if neither.
    private static func form(of text: [UInt8]) -> Bool? {
        var index = text.first == UInt8(ascii: "-") ? 1 : 0
        func digits() -> Int {
            let start = index
            while index < text.count, isDigit(text[index]) { index += 1 }
            return index - start
        }
        let leadingZero = index < text.count && text[index] == UInt8(ascii: "0")
        let whole = digits()
        guard whole > 0, !leadingZero || whole == 1 else { return nil }
        if index == text.count { return true }
        if text[index] == UInt8(ascii: ".") {
            index += 1
            guard digits() > 0 else { return nil }
        }
        if index < text.count, text[index] | 0x20 == UInt8(ascii: "e") {
            index += 1
            if index < text.count,
                text[index] == UInt8(ascii: "+") || text[index] == UInt8(ascii: "-")
            {
                index += 1
            }
            guard digits() > 0 else { return nil }
        }
        return index == text.count ? false : nil
    }
}
