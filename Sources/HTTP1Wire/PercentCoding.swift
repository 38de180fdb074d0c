// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Percent escapes (RFC 3986, section 2.1).
package enum PercentCoding {
    /// The text that the escapes in `range` stand for; `nil` where an escape is incomplete or the
    /// result is not UTF-8.
    static func decode(
        _ input: borrowing Span<UInt8>,
        _ range: Range<Int>,
        plusIsBlank: Bool
    ) -> String? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        var index = range.lowerBound
        while index < range.upperBound {
            let byte = input[index]
            index += 1
            if byte == UInt8(ascii: "+"), plusIsBlank {
                bytes.append(Syntax.blank)
            } else if byte == UInt8(ascii: "%") {
                guard index + 1 < range.upperBound,
                    let high = Syntax.hexadecimal(input[index]),
                    let low = Syntax.hexadecimal(input[index + 1])
                else { return nil }
                bytes.append(high << 4 | low)
                index += 2
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// `text` with everything escaped that is not an unreserved character, so that it can stand
    /// as one segment of a path or one name or value in a query.
    package static func encode(_ text: String) -> String {
        var output = ByteWriter(reserving: text.utf8.count)
        for byte in text.utf8 { append(byte, escaped: !isUnreserved(byte), to: &output) }
        return String(decoding: output.bytes, as: UTF8.self)
    }

    static func append(_ byte: UInt8, escaped: Bool, to output: inout ByteWriter) {
        guard escaped else { return output.append(byte) }
        output.append(UInt8(ascii: "%"))
        for digit in [byte >> 4, byte & 0xf] {
            output.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "A") + digit - 10)
        }
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default:
            false
        }
    }
}
