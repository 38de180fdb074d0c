// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Builds a byte string: integers as LEB128, text, decimal numbers.
///
/// What appends a byte or a run of them is inlinable: it is called several times for each event.
@usableFromInline
package struct ByteWriter: Sendable {
    @usableFromInline package internal(set) var bytes: [UInt8]

    @inlinable
    package init(reserving capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    @inlinable
    package var count: Int { bytes.count }

    @inlinable
    package mutating func removeAll(keepingCapacity: Bool = true) {
        bytes.removeAll(keepingCapacity: keepingCapacity)
    }

    @inlinable
    package mutating func append(_ byte: UInt8) { bytes.append(byte) }

    @inlinable
    package mutating func append(_ more: [UInt8]) { bytes.append(contentsOf: more) }

    @inlinable
    package mutating func append(_ more: ArraySlice<UInt8>) { bytes.append(contentsOf: more) }

    @inlinable
    package mutating func append(_ more: borrowing Span<UInt8>) {
        unsafe more.withUnsafeBufferPointer { unsafe bytes.append(contentsOf: $0) }
    }

    @inlinable
    package mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    @inlinable
    package mutating func append(_ text: StaticString) {
        text.withUTF8Buffer { unsafe bytes.append(contentsOf: $0) }
    }

    /// Appends `value` in unsigned LEB128: seven bits a byte, low bits first.
    package mutating func appendVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// Appends `value` zigzag-coded, so that small negative numbers stay short.
    package mutating func appendSignedVarint(_ value: Int64) {
        appendVarint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
    }

    /// Appends `value` in decimal digits.
    package mutating func appendDecimal(_ value: UInt64) {
        if value < 10 {
            bytes.append(UInt8(ascii: "0") + UInt8(value))
            return
        }
        var digits: InlineArray<20, UInt8> = .init(repeating: 0)
        var rest = value
        var next = 20
        while rest > 0 {
            next -= 1
            digits[next] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        unsafe digits.span.extracting(next..<20).withUnsafeBufferPointer {
            unsafe bytes.append(contentsOf: $0)
        }
    }
}
