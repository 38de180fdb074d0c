// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes
import CZlib

/// How far back a compressed message may refer: what `server_max_window_bits` bounds (RFC 7692,
/// section 7.1.2.1).
///
/// There are two, because each is a form of its own of every event. zlib does not write raw deflate
/// for 8 bits, so that is not offered.
package enum DeflateWindow: Sendable, Hashable, CaseIterable {
    /// 4 KiB: more than nearly all events have, and tables that are quick to clear.
    case wide
    /// 512 bytes, for clients that cannot hold more.
    case narrow

    /// The widest for a client that can hold 2 to the power of `bits`.
    init?(bits: Int) {
        guard bits >= Self.narrow.bits else { return nil }
        self = bits >= Self.wide.bits ? .wide : .narrow
    }

    package var bits: Int { self == .wide ? 12 : 9 }
}

/// Compresses messages for permessage-deflate (RFC 7692, section 7.2.1).
///
/// View: one thread. A message refers to nothing before it, so the same frame goes to every client
/// that agreed on the window, whatever it received before.
@safe
package final class MessageDeflater {
    private let stream: UnsafeMutablePointer<z_stream>
    private var output: [UInt8] = []

    /// Below this not even JSON becomes smaller by more than the attempt costs.
    package static let payloadBytesMin = 64
    /// As for event streams: made once for many connections, but live.
    private static let level: CInt = 3
    /// Tables that go with 4 KiB: they are cleared for every message.
    private static let memoryLevel: CInt = 5

    /// `nil` where there is no memory.
    package init?(_ window: DeflateWindow) {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        let status = unsafe czlib_deflate_init_small(
            stream, Self.level, -CInt(window.bits), Self.memoryLevel)
        guard status == Z_OK else {
            unsafe stream.deallocate()
            return nil
        }
    }

    deinit {
        unsafe deflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// Appends one unmasked frame that is a whole message: compressed where that makes it smaller,
    /// else as it is (section 6: each message may be either).
    package func append(
        _ opcode: WebSocketOpcode, _ payload: borrowing Span<UInt8>, to frames: inout ByteWriter
    ) {
        let count = payload.count < Self.payloadBytesMin ? payload.count : deflate(payload)
        guard count < payload.count else {
            return WebSocketFrame.append(opcode, payload, to: &frames)
        }
        WebSocketFrame.appendHeader(
            opcode, payloadBytes: count, isCompressed: true, to: &frames)
        frames.append(output[..<count])
    }

    /// Leaves the compressed payload at the beginning of ``output`` and returns its length.
    private func deflate(_ payload: borrowing Span<UInt8>) -> Int {
        unsafe deflateReset(stream)
        // The bound is for a whole stream; the flush adds an empty stored block.
        let bound = unsafe Int(deflateBound(stream, UInt(payload.count))) + 16
        if output.count < bound { output = [UInt8](repeating: 0, count: bound) }
        let written = unsafe payload.withUnsafeBufferPointer { source in
            unsafe output.withUnsafeMutableBufferPointer { target in
                unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
                unsafe stream.pointee.avail_in = UInt32(source.count)
                unsafe stream.pointee.next_out = target.baseAddress
                unsafe stream.pointee.avail_out = UInt32(target.count)
                let status = unsafe CZlib.deflate(stream, Z_SYNC_FLUSH)
                unsafe precondition(
                    status == Z_OK && stream.pointee.avail_in == 0
                        && stream.pointee.avail_out > 0,
                    "deflate says \(status) with \(bound) bytes of room")
                return unsafe target.count - Int(stream.pointee.avail_out)
            }
        }
        // The flush ends in 00 00 ff ff, which is left out and put back by the receiver.
        return written - 4
    }
}
