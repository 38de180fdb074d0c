// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Single fields of small, flat JSON that our own programs wrote.
enum JSONScan {
    static func number(_ name: String, in text: String) -> Int? {
        number(Array("\"\(name)\":".utf8), in: Array(text.utf8).span)
    }

    static func text(_ name: String, in text: String) -> String? {
        let bytes = Array(text.utf8)
        guard let start = end(of: Array("\"\(name)\":\"".utf8), in: bytes.span) else { return nil }
        return String(decoding: bytes[start...].prefix { $0 != UInt8(ascii: "\"") }, as: UTF8.self)
    }

    /// The digits that follow `key`, which holds the quotes and the colon.
    static func number(_ key: [UInt8], in text: borrowing Span<UInt8>) -> Int? {
        guard let start = end(of: key, in: text) else { return nil }
        var value: Int?
        for index in start..<text.count {
            let digit = text[index] &- UInt8(ascii: "0")
            guard digit <= 9, (value ?? 0) < Int.max / 100 else { break }
            value = (value ?? 0) * 10 + Int(digit)
        }
        return value
    }

    private static func end(of key: [UInt8], in text: borrowing Span<UInt8>) -> Int? {
        guard text.count >= key.count else { return nil }
        for start in 0...(text.count - key.count) where text[start] == key[0] {
            var length = 1
            while length < key.count, text[start + length] == key[length] { length += 1 }
            if length == key.count { return start + length }
        }
        return nil
    }
}
