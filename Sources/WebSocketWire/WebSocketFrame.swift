// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// What a frame holds (RFC 6455, section 5.2).
package enum WebSocketOpcode: UInt8, Sendable, CaseIterable {
    case continuation = 0x0
    case text = 0x1
    case binary = 0x2
    case close = 0x8
    case ping = 0x9
    case pong = 0xa

    package var isControl: Bool { rawValue & 0x8 != 0 }
}

/// Writes frames (RFC 6455, section 5).
///
/// A server's frames are not masked, so the same bytes are right for every client.
package enum WebSocketFrame {
    /// The most that a control frame carries.
    package static let controlBytesMax = 125

    /// The bytes before the payload of an unmasked frame.
    package static func headerBytes(payloadBytes count: Int) -> Int {
        count < 126 ? 2 : (count <= 0xffff ? 4 : 10)
    }

    /// Appends what goes before `count` bytes of payload.
    ///
    /// - Parameter isCompressed: The frame is the first of a message under permessage-deflate
    ///   (RFC 7692, section 6): its payload is what ``MessageDeflater`` made.
    package static func appendHeader(
        _ opcode: WebSocketOpcode, payloadBytes count: Int, isFinal: Bool = true,
        isMasked: Bool = false, isCompressed: Bool = false, to output: inout ByteWriter
    ) {
        let mask: UInt8 = isMasked ? 0x80 : 0
        let compressed: UInt8 = isCompressed ? 0x40 : 0
        output.append((isFinal ? 0x80 : 0) | compressed | opcode.rawValue)
        if count < 126 {
            output.append(mask | UInt8(count))
            return
        }
        let sizeBytes = count <= 0xffff ? 2 : 8
        output.append(mask | (sizeBytes == 2 ? 126 : 127))
        for index in (0..<sizeBytes).reversed() {
            output.append(UInt8(truncatingIfNeeded: count >> (8 * index)))
        }
    }

    /// Appends one unmasked frame: a server's.
    package static func append(
        _ opcode: WebSocketOpcode, _ payload: borrowing Span<UInt8>, isFinal: Bool = true,
        to output: inout ByteWriter
    ) {
        appendHeader(opcode, payloadBytes: payload.count, isFinal: isFinal, to: &output)
        output.append(payload)
    }

    /// Appends one masked frame: a client's. `maskingKey` is to be unpredictable (RFC 6455,
    /// section 10.3).
    package static func append(
        _ opcode: WebSocketOpcode, _ payload: borrowing Span<UInt8>, maskingKey: [4 of UInt8],
        isFinal: Bool = true, to output: inout ByteWriter
    ) {
        appendHeader(
            opcode, payloadBytes: payload.count, isFinal: isFinal, isMasked: true, to: &output)
        for index in maskingKey.indices { output.append(maskingKey[index]) }
        for index in payload.indices { output.append(payload[index] ^ maskingKey[index & 3]) }
    }

    /// One unmasked frame with a text.
    package static func text(_ payload: [UInt8]) -> [UInt8] {
        var output = ByteWriter(reserving: payload.count + 10)
        append(.text, payload.span, to: &output)
        return output.bytes
    }

    /// An unmasked close frame. A reason that is longer than the frame can hold is cut between two
    /// characters.
    package static func close(_ code: WebSocketCloseCode, reason: String = "") -> [UInt8] {
        var payload = ByteWriter(reserving: controlBytesMax)
        payload.append(UInt8(code.rawValue >> 8))
        payload.append(UInt8(code.rawValue & 0xff))
        for character in reason {
            let bytes = Array(character.utf8)
            guard payload.count + bytes.count <= controlBytesMax else { break }
            payload.append(bytes)
        }
        var output = ByteWriter(reserving: controlBytesMax + 2)
        append(.close, payload.bytes.span, to: &output)
        return output.bytes
    }

    /// How long the unmasked frame that begins at `start` is, header included. Only for frames
    /// that this process wrote: `bytes` holds at least the whole header.
    package static func byteCount(at start: Int, of bytes: borrowing Span<UInt8>) -> Int {
        payloadRange(at: start, of: bytes).upperBound - start
    }

    /// Where the payload of the unmasked frame that begins at `start` lies. Only for frames that
    /// this process wrote: `bytes` holds at least the whole header.
    package static func payloadRange(at start: Int, of bytes: borrowing Span<UInt8>) -> Range<Int> {
        let short = Int(bytes[start + 1] & 0x7f)
        guard short >= 126 else { return (start + 2)..<(start + 2 + short) }
        let sizeBytes = short == 126 ? 2 : 8
        var count = 0
        for index in 0..<sizeBytes { count = count << 8 | Int(bytes[start + 2 + index]) }
        let begin = start + 2 + sizeBytes
        return begin..<(begin + count)
    }
}
