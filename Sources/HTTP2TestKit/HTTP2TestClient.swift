// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CNghttp2

/// The client's side of an HTTP/2 connection for tests: bytes in, bytes out, every answer kept.
///
/// It opens its windows only when a test says so, which is what makes flow control visible.
@safe
package final class HTTP2TestClient {
    /// What has come of one answer.
    package struct Answer: Sendable {
        package var status = 0
        package var interim: [Int] = []
        package var headers: [(name: String, value: String)] = []
        package var body: [UInt8] = []
        package var dataFrames = 0
        package var isEnded = false
        /// The code of RST_STREAM or the like, once the stream is closed.
        package var closedWith: UInt32?

        package init() {}

        package func header(_ name: String) -> String? {
            headers.first { $0.name == name }?.value
        }

        package var text: String { String(decoding: body, as: UTF8.self) }
    }

    package fileprivate(set) var answers: [Int32: Answer] = [:]
    /// The last GOAWAY.
    package private(set) var goAway: (lastStream: Int32, code: UInt32)?
    package private(set) var goAways: [(lastStream: Int32, code: UInt32)] = []
    package private(set) var pingAnswers = 0
    package private(set) var serverSettings: [Int32: UInt32] = [:]
    /// What nghttp2 said against the server's bytes.
    package private(set) var error: String?
    fileprivate var bodies: [Int32: [UInt8]] = [:]
    private let session: OpaquePointer

    /// - Parameters:
    ///   - window: SETTINGS_INITIAL_WINDOW_SIZE, or `nil` for the usual 65,535.
    ///   - opensWindows: Gives back at once what was received; else ``openWindow(_:by:)`` does.
    package init(window: Int? = nil, opensWindows: Bool = true, headerTableBytes: Int? = nil) {
        unsafe session = Self.makeSession(opensWindows: opensWindows)
        unsafe nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        var entries: [nghttp2_settings_entry] = []
        func add(_ id: nghttp2_settings_id, _ value: Int?) {
            guard let value else { return }
            entries.append(.init(settings_id: Int32(id.rawValue), value: UInt32(value)))
        }
        add(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window)
        add(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, headerTableBytes)
        sendSettings(entries)
    }

    deinit { unsafe nghttp2_session_del(session) }

    private func sendSettings(_ entries: [nghttp2_settings_entry]) {
        _ = unsafe entries.withUnsafeBufferPointer {
            unsafe nghttp2_submit_settings(session, 0, $0.baseAddress, $0.count)
        }
    }

    // MARK: - Bytes

    /// The bytes that wait to be sent.
    package func takeOutput() -> [UInt8] {
        var output: [UInt8] = []
        var data: UnsafePointer<UInt8>?
        while true {
            let count = unsafe nghttp2_session_mem_send(session, &data)
            guard count > 0, let data = unsafe data else { return output }
            unsafe output.append(contentsOf: UnsafeBufferPointer(start: data, count: count))
        }
    }

    /// Takes what the server sent; false where it broke the protocol.
    @discardableResult
    package func receive(_ bytes: [UInt8]) -> Bool {
        let status = unsafe bytes.withUnsafeBufferPointer {
            unsafe nghttp2_session_mem_recv(session, $0.baseAddress, $0.count)
        }
        if status < 0 { unsafe error = String(cString: nghttp2_strerror(CInt(status))) }
        return error == nil
    }

    // MARK: - Frames

    /// Opens a stream with a request.
    ///
    /// - Parameter body: `nil` ends the stream with the head.
    package func request(
        _ method: String = "GET", _ path: String, headers: [(String, String)] = [],
        body: [UInt8]? = nil, endsStream: Bool = true
    ) -> Int32 {
        let pseudo = [
            (":method", method), (":scheme", "http"), (":authority", "test"), (":path", path),
        ]
        return request(fields: pseudo + headers, body: body, endsStream: endsStream)
    }

    package func request(
        fields: [(String, String)], body: [UInt8]? = nil, endsStream: Bool = true
    ) -> Int32 {
        var provider = unsafe nghttp2_data_provider()
        unsafe provider.read_callback = endsStream ? Self.readBody : Self.readForever
        let stream = unsafe Self.withFields(fields) { fields, count in
            guard body != nil || !endsStream else {
                return unsafe nghttp2_submit_request(session, nil, fields, count, nil, nil)
            }
            return unsafe nghttp2_submit_request(session, nil, fields, count, &provider, nil)
        }
        precondition(stream > 0, "the request was not taken: \(stream)")
        answers[stream] = Answer()
        bodies[stream] = body
        return stream
    }

    package func reset(_ stream: Int32, code: UInt32 = 8) {
        _ = unsafe nghttp2_submit_rst_stream(session, 0, stream, code)
    }

    /// Drops what is kept of all answers.
    package func forgetAnswers() {
        answers = [:]
        bodies = [:]
    }

    package func ping() { _ = unsafe nghttp2_submit_ping(session, 0, nil) }

    /// Gives `stream`, or with 0 the connection, room for `bytes` more.
    package func openWindow(_ stream: Int32, by bytes: Int) {
        _ = unsafe nghttp2_submit_window_update(session, 0, stream, Int32(bytes))
    }

    /// Changes the window of all streams, those that are open included.
    package func setInitialWindow(_ bytes: Int) {
        sendSettings([
            .init(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(bytes))
        ])
    }

    // MARK: - Callbacks, on the test's thread inside `receive` and `takeOutput`

    private static let readBody: nghttp2_data_source_read_callback = {
        _, stream, buffer, limit, flags, _, user in
        let client = unsafe client(user)
        let body = client.bodies[stream] ?? []
        let count = min(limit, body.count)
        for index in 0..<count { unsafe buffer![index] = body[index] }
        client.bodies[stream] = Array(body.dropFirst(count))
        if count == body.count { unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
        return count
    }

    /// Sends the body and leaves the stream open.
    private static let readForever: nghttp2_data_source_read_callback = {
        session, stream, buffer, limit, flags, source, user in
        let client = unsafe client(user)
        guard let body = client.bodies[stream], !body.isEmpty else {
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        let count = min(limit, body.count)
        for index in 0..<count { unsafe buffer![index] = body[index] }
        client.bodies[stream] = Array(body.dropFirst(count))
        return count
    }

    private static func makeSession(opensWindows: Bool) -> OpaquePointer {
        var made: OpaquePointer?
        precondition(unsafe nghttp2_session_callbacks_new(&made) == 0)
        let callbacks = unsafe made!
        defer { unsafe nghttp2_session_callbacks_del(callbacks) }
        unsafe setCallbacks(callbacks)
        var options: OpaquePointer?
        precondition(unsafe nghttp2_option_new(&options) == 0)
        defer { unsafe nghttp2_option_del(options) }
        unsafe nghttp2_option_set_no_auto_window_update(options, opensWindows ? 0 : 1)
        unsafe nghttp2_option_set_peer_max_concurrent_streams(options, 100_000)
        unsafe nghttp2_option_set_no_http_messaging(options, 1)
        var session: OpaquePointer?
        precondition(unsafe nghttp2_session_client_new2(&session, callbacks, nil, options) == 0)
        return unsafe session!
    }

    private static func setCallbacks(_ callbacks: OpaquePointer) {
        unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            _, frame, name, nameCount, value, valueCount, _, user in
            let name = unsafe String(
                decoding: UnsafeBufferPointer(start: name, count: nameCount), as: UTF8.self)
            let value = unsafe String(
                decoding: UnsafeBufferPointer(start: value, count: valueCount), as: UTF8.self)
            let stream = unsafe frame!.pointee.hd.stream_id
            unsafe client(user).header(stream, name, value)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
            _, _, stream, data, count, user in
            unsafe client(user).answers[stream]?.body.append(
                contentsOf: UnsafeBufferPointer(start: data, count: count))
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
            unsafe client(user).frame(frame!.pointee)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) {
            _, stream, code, user in
            unsafe client(user).answers[stream]?.closedWith = code
            return 0
        }
    }

    fileprivate func header(_ stream: Int32, _ name: String, _ value: String) {
        guard name == ":status" else {
            answers[stream]?.headers.append((name, value))
            return
        }
        let status = Int(value) ?? 0
        if status < 200 {
            answers[stream]?.interim.append(status)
        } else {
            answers[stream]?.status = status
        }
    }

    fileprivate func frame(_ frame: nghttp2_frame) {
        let head = unsafe frame.hd
        switch UInt32(head.type) {
        case NGHTTP2_DATA.rawValue: answers[head.stream_id]?.dataFrames += 1
        case NGHTTP2_SETTINGS.rawValue:
            let count = unsafe frame.settings.niv
            for index in 0..<count {
                let entry = unsafe frame.settings.iv[index]
                serverSettings[entry.settings_id] = entry.value
            }
        case NGHTTP2_PING.rawValue: if head.flags & 1 != 0 { pingAnswers += 1 }
        case NGHTTP2_GOAWAY.rawValue:
            unsafe goAway = (frame.goaway.last_stream_id, frame.goaway.error_code)
            goAways.append(goAway!)
        default: break
        }
        let carriesEnd =
            UInt32(head.type) == NGHTTP2_DATA.rawValue
            || UInt32(head.type) == NGHTTP2_HEADERS.rawValue
        if carriesEnd, head.flags & 1 != 0 { answers[head.stream_id]?.isEnded = true }
    }

    private static func withFields(
        _ fields: [(String, String)], _ body: (UnsafePointer<nghttp2_nv>?, Int) -> Int32
    ) -> Int32 {
        var storage = fields.flatMap { Array($0.0.utf8) + Array($0.1.utf8) }
        return unsafe storage.withUnsafeMutableBufferPointer { bytes in
            var offset = 0
            let vectors = unsafe fields.map { name, value in
                let start = unsafe bytes.baseAddress! + offset
                let nameCount = name.utf8.count
                offset += nameCount + value.utf8.count
                return unsafe nghttp2_nv(
                    name: start, value: start + nameCount, namelen: nameCount,
                    valuelen: value.utf8.count, flags: 0)
            }
            return unsafe vectors.withUnsafeBufferPointer {
                unsafe body($0.baseAddress, $0.count)
            }
        }
    }
}

/// What a callback was registered with.
private func client(_ user: UnsafeMutableRawPointer?) -> HTTP2TestClient {
    unsafe Unmanaged<HTTP2TestClient>.fromOpaque(user!).takeUnretainedValue()
}
