// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// The least of HTTP/2 that a client of event streams needs (RFC 9113), written and read by hand so
/// that the client costs nothing beside the server.
enum HTTP2Frames {
    enum Kind {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let ping: UInt8 = 6
        static let goAway: UInt8 = 7
        static let windowUpdate: UInt8 = 8
    }

    struct Frame {
        let kind: UInt8
        let flags: UInt8
        let stream: UInt32
        let payload: Range<Int>

        var isAcknowledgement: Bool { flags & 1 != 0 }
        var endsStream: Bool { flags & 1 != 0 }
    }

    static let headerBytes = 9
    private static let windowMax: UInt32 = 0x7fff_ffff
    private static let windowAtFirst: UInt32 = 65_535

    /// The preface, windows that need no more updates while a benchmark runs, and a request for
    /// each of `streams` streams.
    static func opening(path: String, authority: String, streams: Int) -> [UInt8] {
        var output = ByteWriter(reserving: 256 + streams * 96)
        output.append("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" as StaticString)
        // SETTINGS_INITIAL_WINDOW_SIZE
        appendHeader(Kind.settings, flags: 0, stream: 0, count: 6, to: &output)
        output.append([0, 4])
        append(windowMax, to: &output)
        appendHeader(Kind.windowUpdate, flags: 0, stream: 0, count: 4, to: &output)
        append(windowMax - windowAtFirst, to: &output)
        let block = requestBlock(path: path, authority: authority)
        for index in 0..<streams {
            // END_STREAM and END_HEADERS
            appendHeader(
                Kind.headers, flags: 5, stream: UInt32(2 * index + 1), count: block.count,
                to: &output)
            output.append(block)
        }
        return output.bytes
    }

    /// Without indexing and Huffman codes (RFC 7541, section 6.2.2); the indices are those of its
    /// static table.
    private static func requestBlock(path: String, authority: String) -> [UInt8] {
        var block = ByteWriter()
        block.append([0x82, 0x86])  // :method GET, :scheme http
        func literal(_ index: [UInt8], _ value: String) {
            precondition(value.utf8.count < 127, "one byte holds the length")
            block.append(index)
            block.append(UInt8(value.utf8.count))
            block.append(value)
        }
        literal([0x01], authority)
        literal([0x04], path)
        literal([0x0f, 0x04], "text/event-stream")
        return block.bytes
    }

    static let settingsAcknowledgement: [UInt8] = [0, 0, 0, Kind.settings, 1, 0, 0, 0, 0]

    static func pingAnswer(_ payload: UnsafeRawBufferPointer) -> [UInt8] {
        var output = ByteWriter()
        appendHeader(Kind.ping, flags: 1, stream: 0, count: payload.count, to: &output)
        unsafe output.append(Array(payload))
        return output.bytes
    }

    /// The first frame in `bytes`, or `nil` where it has not come whole.
    @inline(__always)
    static func first(in bytes: UnsafeRawBufferPointer) -> Frame? {
        guard bytes.count >= headerBytes else { return nil }
        let count = unsafe Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        guard bytes.count >= headerBytes + count else { return nil }
        let number = unsafe bytes.loadUnaligned(fromByteOffset: 5, as: UInt32.self)
        return unsafe Frame(
            kind: bytes[3], flags: bytes[4], stream: UInt32(bigEndian: number) & windowMax,
            payload: headerBytes..<(headerBytes + count))
    }

    /// Whether a response's header block begins with `:status: 200`, after changes of the table's
    /// size.
    static func isOK(_ block: UnsafeRawBufferPointer) -> Bool {
        var isInSize = false
        for index in block.indices {
            let byte = unsafe block[index]
            if isInSize {
                isInSize = byte & 0x80 != 0
            } else if byte & 0xe0 == 0x20 {
                isInSize = byte & 0x1f == 0x1f
            } else {
                return byte == 0x88
            }
        }
        return false
    }

    private static func appendHeader(
        _ kind: UInt8, flags: UInt8, stream: UInt32, count: Int, to output: inout ByteWriter
    ) {
        output.append([UInt8(count >> 16), UInt8(count >> 8 & 255), UInt8(count & 255)])
        output.append([kind, flags])
        append(stream, to: &output)
    }

    private static func append(_ number: UInt32, to output: inout ByteWriter) {
        for shift in [24, 16, 8, 0] as [UInt32] {
            output.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }
}
