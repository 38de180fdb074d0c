// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Frames written by hand, for what no client would send.
package enum RawFrames {
    package static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    /// The preface with empty SETTINGS.
    package static let opening = preface + frame(4)

    package static func frame(
        _ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = [],
        length: Int? = nil
    ) -> [UInt8] {
        let length = length ?? payload.count
        return [
            UInt8(truncatingIfNeeded: length >> 16), UInt8(truncatingIfNeeded: length >> 8),
            UInt8(truncatingIfNeeded: length), type, flags,
        ] + word(stream) + payload
    }

    package static func word(_ number: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
    }

    /// A field that is not indexed, in HPACK without Huffman coding (RFC 7541, section 6.2.2).
    /// Neither part has more than 126 bytes.
    package static func field(_ name: String, _ value: String) -> [UInt8] {
        [0, UInt8(name.utf8.count)] + name.utf8 + [UInt8(value.utf8.count)] + value.utf8
    }

    /// The fields of a GET request.
    package static func request(_ path: String) -> [UInt8] {
        field(":method", "GET") + field(":scheme", "http") + field(":authority", "test")
            + field(":path", path)
    }

    /// HEADERS with END_STREAM and END_HEADERS.
    package static func get(_ path: String, stream: UInt32) -> [UInt8] {
        frame(1, flags: 0x5, stream: stream, request(path))
    }

    package static func reset(_ stream: UInt32) -> [UInt8] {
        frame(3, stream: stream, word(8))
    }

    package static func windowUpdate(_ stream: UInt32, _ bytes: UInt32) -> [UInt8] {
        frame(8, stream: stream, word(bytes))
    }

    /// A header block whose one large field is repeated by index: a byte each.
    package static func bomb(fieldBytes: Int, repeats: Int) -> [UInt8] {
        // With incremental indexing: the field becomes entry 62 of the table.
        var block = request("/") + [0x40, 1, UInt8(ascii: "x")]
        // The length as an integer with a prefix of seven bits (RFC 7541, section 5.1).
        block += [127]
        var rest = fieldBytes - 127
        while rest >= 128 {
            block.append(UInt8(rest & 127 | 128))
            rest >>= 7
        }
        block.append(UInt8(rest))
        block += [UInt8](repeating: UInt8(ascii: "y"), count: fieldBytes)
        return block + [UInt8](repeating: 0x80 | 62, count: repeats)
    }

    /// The last GOAWAY in `bytes`, which are whole frames: its last stream and its code.
    package static func goAway(in bytes: [UInt8]) -> (lastStream: UInt32, code: UInt32)? {
        var found: (UInt32, UInt32)?
        var offset = 0
        func word(_ at: Int) -> UInt32 { bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } }
        while offset + 9 <= bytes.count {
            let length = Int(word(offset) >> 8)
            if bytes[offset + 3] == 7, offset + 17 <= bytes.count {
                found = (word(offset + 9), word(offset + 13))
            }
            offset += 9 + length
        }
        return found
    }
}
