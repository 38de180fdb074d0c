// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why bytes could not be read as what they were said to be.
package enum ByteReaderError: Error, Sendable, Equatable {
    /// The bytes ended inside a value, `offset` bytes from the start.
    case truncated(offset: Int)
    /// An LEB128 number has more than 64 bits.
    case numberTooLarge(offset: Int)
}

/// Reads values one after another from a span it does not own.
package struct ByteReader: ~Escapable {
    private let input: Span<UInt8>
    package private(set) var offset: Int

    @_lifetime(copy input)
    package init(_ input: Span<UInt8>) {
        self.input = input
        offset = 0
    }

    package var isAtEnd: Bool { offset == input.count }

    package var remaining: Int { input.count - offset }

    package mutating func readByte() throws(ByteReaderError) -> UInt8 {
        guard offset < input.count else { throw .truncated(offset: offset) }
        defer { offset += 1 }
        return input[offset]
    }

    /// Reads an unsigned LEB128 number.
    package mutating func readVarint() throws(ByteReaderError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try readByte()
            let bits = UInt64(byte & 0x7f)
            guard shift < 64, shift < 63 || bits <= 1 else { throw .numberTooLarge(offset: offset) }
            value |= bits << shift
            if byte < 0x80 { return value }
            shift += 7
        }
    }

    /// Reads a zigzag-coded number.
    package mutating func readSignedVarint() throws(ByteReaderError) -> Int64 {
        let raw = try readVarint()
        return Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
    }

    /// Reads a length and says where the bytes of that length lie; they are skipped.
    package mutating func readLengthPrefixedRange() throws(ByteReaderError) -> Range<Int> {
        let length = try readVarint()
        guard length <= UInt64(remaining) else { throw .truncated(offset: offset) }
        let start = offset
        offset += Int(length)
        return start..<offset
    }
}

extension Span where Element == UInt8 {
    /// The unsigned decimal number that fills `range`, or `nil` where it is none or overflows.
    package func decimal(in range: Range<Int>) -> UInt64? {
        guard !range.isEmpty else { return nil }
        var value: UInt64 = 0
        for index in range {
            let byte = self[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = scaled.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
            guard !overflow, !carry else { return nil }
            value = sum
        }
        return value
    }

    /// A string of the bytes in `range`; what is not UTF-8 becomes U+FFFD.
    package func text(in range: Range<Int>) -> String {
        unsafe extracting(range).withUnsafeBufferPointer {
            unsafe String(decoding: $0, as: UTF8.self)
        }
    }
}
