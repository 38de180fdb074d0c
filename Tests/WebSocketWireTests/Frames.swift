// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import WebSocketWire

/// One frame as a peer might send it, right or wrong.
struct SentFrame {
    var opcode: UInt8
    var payload: [UInt8] = []
    var isFinal = true
    var reservedBits: UInt8 = 0
    var isMasked = true
    /// Bytes of the length field: 0, 2 or 8; `nil` takes the shortest that fits.
    var lengthBytes: Int?

    static func text(_ text: String, isFinal: Bool = true) -> SentFrame {
        SentFrame(opcode: 1, payload: Array(text.utf8), isFinal: isFinal)
    }
    static func binary(_ payload: [UInt8], isFinal: Bool = true) -> SentFrame {
        SentFrame(opcode: 2, payload: payload, isFinal: isFinal)
    }
    static func more(_ payload: [UInt8], isFinal: Bool = true) -> SentFrame {
        SentFrame(opcode: 0, payload: payload, isFinal: isFinal)
    }
    static func more(_ text: String, isFinal: Bool = true) -> SentFrame {
        more(Array(text.utf8), isFinal: isFinal)
    }
    static func ping(_ payload: [UInt8] = []) -> SentFrame {
        SentFrame(opcode: 9, payload: payload)
    }
    static func pong(_ payload: [UInt8] = []) -> SentFrame {
        SentFrame(opcode: 10, payload: payload)
    }
    static func close(_ code: UInt16, _ reason: [UInt8] = []) -> SentFrame {
        SentFrame(opcode: 8, payload: [UInt8(code >> 8), UInt8(code & 0xff)] + reason)
    }

    var bytes: [UInt8] {
        let key: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
        var output = [(isFinal ? 0x80 : 0) | reservedBits << 4 | opcode]
        let shortest = payload.count < 126 ? 0 : (payload.count <= 0xffff ? 2 : 8)
        let sizeBytes = lengthBytes ?? shortest
        let short = sizeBytes == 0 ? UInt8(payload.count) : (sizeBytes == 2 ? 126 : 127)
        output.append((isMasked ? 0x80 : 0) | short)
        for index in (0..<sizeBytes).reversed() {
            output.append(UInt8(truncatingIfNeeded: payload.count >> (8 * index)))
        }
        guard isMasked else { return output + payload }
        output += key
        for (index, byte) in payload.enumerated() { output.append(byte ^ key[index & 3]) }
        return output
    }
}

/// What came of some bytes.
struct Reading: Equatable {
    var messages: [WebSocketMessage] = []
    var error: WebSocketError.Code?

    init(_ messages: [WebSocketMessage] = [], _ error: WebSocketError.Code? = nil) {
        self.messages = messages
        self.error = error
    }

    /// Reads `bytes` in parts of `partBytes`, until the first error.
    init(
        of bytes: [UInt8], partBytes: Int, messageBytesMax: Int = 1 << 20, inflates: Bool = false
    ) {
        var reader = WebSocketReader(
            from: .client, messageBytesMax: messageBytesMax, inflates: inflates)
        var start = 0
        while start < bytes.count, error == nil {
            let end = min(bytes.count, start + partBytes)
            do throws(WebSocketError) {
                try reader.read(bytes.span.extracting(start..<end), to: &messages)
            } catch { self.error = error.code }
            start = end
        }
    }
}
