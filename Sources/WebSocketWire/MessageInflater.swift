// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CZlib

/// Decompresses one message of permessage-deflate (RFC 7692, section 7.2.2).
///
/// View: connection. Without context takeover a message refers to nothing before it, so this lives
/// no longer than the message: zlib's state and window are some 40 KiB.
@safe
final class MessageInflater {
    enum Outcome {
        /// All of the input is decompressed.
        case more
        /// There is more than fits; as much as does is appended.
        case tooLarge
        /// No deflate; what came before the fault is appended.
        case malformed
    }

    private let stream: UnsafeMutablePointer<z_stream>
    /// The input has ended at a byte between two blocks.
    private var isBetweenBlocks = true

    /// What is made in one step.
    private static let stepBytes = 4096
    /// A sender removes the end of the empty block that its flush wrote (section 7.2.1).
    private static let tail: [UInt8] = [0, 0, 0xff, 0xff]

    init() throws(WebSocketError) {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        // The widest window, because clients are asked for no narrower one.
        guard unsafe czlib_inflate_init(stream, -15) == Z_OK else {
            unsafe stream.deallocate()
            throw WebSocketError(.outOfMemory, "no memory to decompress a message")
        }
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// Decompresses `input` and appends what comes of it, up to `bytesMax` bytes in all: what a
    /// small message could become costs no more than that.
    func inflate(_ input: borrowing Span<UInt8>, to message: inout [UInt8], bytesMax: Int)
        -> Outcome
    {
        unsafe input.withUnsafeBufferPointer { source in
            unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
            unsafe stream.pointee.avail_in = UInt32(source.count)
            var mayHoldBack = false
            while unsafe stream.pointee.avail_in > 0 || mayHoldBack {
                let (status, isFull) = step(to: &message, bytesMax: bytesMax)
                guard message.count <= bytesMax else {
                    message.removeLast(message.count - bytesMax)
                    return .tooLarge
                }
                mayHoldBack = isFull
                switch status {
                case Z_OK:
                    // 128: zlib has stopped between blocks. 31: bits left of the byte before.
                    isBetweenBlocks = unsafe stream.pointee.data_type & (128 | 31) == 128
                case Z_STREAM_END:
                    // A sender may end a stream within a message (section 7.2.3.4).
                    unsafe inflateReset(stream)
                    isBetweenBlocks = true
                case Z_BUF_ERROR: return .more
                default: return .malformed
                }
            }
            return .more
        }
    }

    /// Puts back what the sender took off. The message ends well where this ends a block.
    func finish(to message: inout [UInt8], bytesMax: Int) -> Outcome {
        let outcome = inflate(Self.tail.span, to: &message, bytesMax: bytesMax)
        guard case .more = outcome else { return outcome }
        return isBetweenBlocks ? .more : .malformed
    }

    /// One call of zlib, up to the end of a block, which may make one byte too many.
    private func step(to message: inout [UInt8], bytesMax: Int) -> (status: CInt, isFull: Bool) {
        let capacity = min(Self.stepBytes, bytesMax - message.count + 1)
        return unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: capacity) { target in
            unsafe stream.pointee.next_out = target.baseAddress
            unsafe stream.pointee.avail_out = UInt32(capacity)
            let status = unsafe CZlib.inflate(stream, Z_BLOCK)
            let left = unsafe Int(stream.pointee.avail_out)
            unsafe message.append(contentsOf: target[..<(capacity - left)])
            return (status, left == 0)
        }
    }
}
