// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CWslay

/// The head of a frame, as wslay has read it.
struct FrameHead {
    let isFinal: Bool
    /// Not zero where a bit is set that belongs to an extension.
    let reservedBits: UInt8
    let opcode: UInt8
    let isMasked: Bool
    let payloadBytes: UInt64

    /// The whole frame on the wire. wslay refuses a length that is not in its shortest form.
    var wireBytes: UInt64 {
        let size: UInt64 = payloadBytes < 126 ? 0 : (payloadBytes <= 0xffff ? 2 : 8)
        return 2 + size + (isMasked ? 4 : 0) + payloadBytes
    }
}

/// wslay's frame reader, fed from spans: it takes heads apart and removes masks.
///
/// It takes 4 KiB, so it lives only while a frame is being read.
@safe
final class FrameContext {
    /// Where wslay's next bytes come from while ``read(_:_:)`` is on the stack.
    @unsafe private struct Feed {
        var next: UnsafePointer<UInt8>?
        var count: Int
    }

    private let context: wslay_frame_context_ptr
    private let feed: UnsafeMutablePointer<Feed>

    /// `nil` where there is no memory.
    init?() {
        let feed = UnsafeMutablePointer<Feed>.allocate(capacity: 1)
        unsafe feed.initialize(to: Feed(next: nil, count: 0))
        // Called by wslay from inside wslay_frame_recv, on the same thread; `opaque` is the feed,
        // which lives as long as the context. A result below one means: nothing at the moment.
        var callbacks = unsafe wslay_frame_callbacks(
            send_callback: nil,
            recv_callback: { buffer, capacity, _, opaque in
                guard let buffer = unsafe buffer, let opaque = unsafe opaque else { return -1 }
                let feed = unsafe opaque.assumingMemoryBound(to: Feed.self)
                let count = unsafe min(capacity, feed.pointee.count)
                guard count > 0, let next = unsafe feed.pointee.next else { return -1 }
                unsafe buffer.update(from: next, count: count)
                unsafe feed.pointee.next = unsafe next + count
                unsafe feed.pointee.count -= count
                return count
            }, genmask_callback: nil)
        var context: wslay_frame_context_ptr?
        let status = unsafe wslay_frame_context_init(&context, &callbacks, feed)
        guard status == 0, let context = unsafe context else {
            unsafe feed.deallocate()
            return nil
        }
        unsafe self.context = context
        unsafe self.feed = feed
    }

    deinit {
        unsafe wslay_frame_context_free(context)
        unsafe feed.deallocate()
    }

    /// Reads all of `input` and calls `body` with each part of a payload and the frame it belongs
    /// to, with an empty part for an empty frame. A false from `body` ends it there.
    func read(
        _ input: borrowing Span<UInt8>,
        _ body: (FrameHead, borrowing Span<UInt8>) throws(WebSocketError) -> Bool
    ) throws(WebSocketError) {
        try unsafe input.withUnsafeBufferPointer {
            (buffer) throws(WebSocketError) -> Void in
            unsafe feed.pointee = unsafe Feed(next: buffer.baseAddress, count: buffer.count)
            defer { unsafe feed.pointee = Feed(next: nil, count: 0) }
            while true {
                var frame = unsafe wslay_frame_iocb()
                let status = unsafe wslay_frame_recv(context, &frame)
                if status == Int(WSLAY_ERR_WANT_READ.rawValue) { return }
                guard status >= 0 else {
                    throw WebSocketError(
                        .frameMalformed,
                        "a control frame is whole and has at most "
                            + "\(WebSocketFrame.controlBytesMax) bytes, and every length is in its "
                            + "shortest form")
                }
                let head = unsafe FrameHead(
                    isFinal: frame.fin != 0, reservedBits: frame.rsv, opcode: frame.opcode,
                    isMasked: frame.mask != 0, payloadBytes: frame.payload_length)
                let part = unsafe UnsafeBufferPointer(start: frame.data, count: frame.data_length)
                guard try body(head, unsafe Span(_unsafeElements: part)) else { return }
            }
        }
    }
}
