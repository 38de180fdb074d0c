// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CNghttp2

/// What a callback was registered with.
private func session(_ user: UnsafeMutableRawPointer?) -> HTTP2Session {
    unsafe Unmanaged<HTTP2Session>.fromOpaque(user!).takeUnretainedValue()
}

/// Ends the connection from inside a callback. The reason is in the session's `failure`.
private let failed = CInt(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)

// Where nghttp2 calls us. All of it happens on the connection's loop, inside a call of the session
// to `nghttp2_session_mem_recv` or `nghttp2_session_mem_send`; `user` is the session itself,
// unretained, which outlives the library's object that it owns.
extension HTTP2Session {
    static func makeSession() -> OpaquePointer? {
        var callbacks: OpaquePointer?
        guard unsafe nghttp2_session_callbacks_new(&callbacks) == 0,
            let callbacks = unsafe callbacks
        else { return nil }
        defer { unsafe nghttp2_session_callbacks_del(callbacks) }
        unsafe setReceiving(callbacks)
        unsafe setSending(callbacks)
        var options: OpaquePointer?
        guard unsafe nghttp2_option_new(&options) == 0, let options = unsafe options
        else { return nil }
        defer { unsafe nghttp2_option_del(options) }
        unsafe nghttp2_option_set_no_closed_streams(options, 1)
        // Answers are few and short: a table of them costs more memory than it saves.
        unsafe nghttp2_option_set_max_deflate_dynamic_table_size(options, 0)
        var session: OpaquePointer?
        guard unsafe nghttp2_session_server_new2(&session, callbacks, nil, options) == 0
        else { return nil }
        return unsafe session
    }

    private static func setReceiving(_ callbacks: OpaquePointer) {
        unsafe nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks) { _, head, user in
            let head = unsafe head!.pointee
            return unsafe session(user).frameBegins(
                FrameHead(
                    length: head.length, type: .init(rawValue: head.type), flags: head.flags))
                ? 0 : failed
        }
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) {
            _, frame, user in
            let frame = unsafe frame!
            let isRequest = unsafe frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
            unsafe session(user).headersBegin(frame.pointee.hd.stream_id, isRequest: isRequest)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            _, frame, name, nameCount, value, valueCount, _, user in
            let frame = unsafe frame!
            let isRequest = unsafe frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
            let nameBytes = unsafe UnsafeBufferPointer(start: name, count: nameCount)
            let valueBytes = unsafe UnsafeBufferPointer(start: value, count: valueCount)
            return unsafe session(user).headerArrived(
                frame.pointee.hd.stream_id, nameBytes.span, valueBytes.span, isRequest: isRequest)
                ? 0 : failed
        }
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
            unsafe session(user).frameArrived(frame!)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
            _, _, stream, data, count, user in
            unsafe session(user).bodyArrived(
                stream, UnsafeRawBufferPointer(start: data, count: count))
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) {
            _, stream, code, user in
            unsafe session(user).streamClosed(stream, HTTP2ResetCode(rawValue: code))
            return 0
        }
    }

    private static func setSending(_ callbacks: OpaquePointer) {
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, user in
            unsafe session(user).frameWasSent(frame!)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_send_data_callback(callbacks) {
            _, frame, head, count, _, user in
            let head = unsafe UnsafeRawBufferPointer(start: head, count: 9)
            let stream = unsafe frame!.pointee.hd.stream_id
            let isFull = unsafe session(user).moveData(stream, head: head, count)
            return isFull ? CInt(NGHTTP2_ERR_PAUSE.rawValue) : 0
        }
    }

    /// How many bytes of a stream's body go into its next DATA frame; they stay where they are
    /// until the library has written the frame's head.
    static let readData: nghttp2_data_source_read_callback = {
        _, stream, _, limit, flags, _, user in
        let (count, isEnd) = unsafe session(user).nextData(stream, atMost: limit)
        guard count > 0 || isEnd else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
        unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
        if isEnd { unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
        return count
    }
}

extension HTTP2Error {
    init(library status: CInt) {
        let text = unsafe String(cString: nghttp2_strerror(status))
        let code: Code =
            switch status {
            case CInt(NGHTTP2_ERR_NOMEM.rawValue): .outOfMemory
            case CInt(NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue): .prefaceMalformed
            case CInt(NGHTTP2_ERR_FLOODED.rawValue): .acknowledgementFlood
            case CInt(NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue): .continuationFlood
            default: .protocolViolation
            }
        self.init(code, text)
    }
}
