// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import CLinux
import CNghttp2
package import PosixIO

/// The server's side of one HTTP/2 connection (RFC 9113), without input or output.
///
/// View: connection. Threads: one, that of the connection's loop. Bytes of the peer go into
/// ``receive(_:now:)`` and come out as events; bytes for the peer are taken from
/// ``withOutput(_:)``. nghttp2 keeps the rules of the protocol, the windows and the header
/// compression; this type keeps requests until they are whole, answers until they are sent, and
/// the peer within its limits. The bytes of a stream are never kept:
/// ``send(_:on:atMost:makeRoom:)`` copies what may leave into the output, once, and no more.
@safe
package final class HTTP2Session {
    let settings: HTTP2Settings
    private let session: OpaquePointer
    /// The time of the call that is under way.
    var now: MonotonicTime
    var budget: FrameBudget
    /// Why the connection has to end, found inside a callback.
    var failure: HTTP2Error?
    private var events: [HTTP2Event] = []
    private var nextEventIndex = 0
    var assemblies: [Int32: RequestAssembly] = [:]
    /// Bytes that the header block being received has decoded to.
    var headerBlockBytes = 0
    var output = OutgoingBytes()
    var answers: [Int32: AnswerBody] = [:]
    /// Streams whose end waits to be sent, and since when.
    var finishing: [Int32: MonotonicTime] = [:]
    /// What ``send(_:on:atMost:makeRoom:)`` has been lent, for which stream.
    var lent: (stream: Int32, pieces: LentPieces)?
    /// True once GOAWAY has been written past the library: nothing more goes through it.
    private var isTerminated = false
    /// The library has ended the connection by itself and has said so.
    var hasSaidGoAway = false

    /// Bytes of answers that wait for room.
    package internal(set) var unsentAnswerBytes = 0
    /// Bytes held of requests that are not whole.
    package internal(set) var heldRequestBytes = 0
    /// No deadline of what is kept is before this one.
    var deadlineBound = MonotonicTime(nanoseconds: 0)

    /// Begins with the server's SETTINGS in the output.
    package init(_ settings: HTTP2Settings, now: MonotonicTime) {
        self.settings = settings
        self.now = now
        budget = FrameBudget(settings, now: now)
        // As with every other object, there is no going on without the memory for one.
        guard let session = unsafe Self.makeSession() else {
            preconditionFailure("no memory for an HTTP/2 session")
        }
        unsafe self.session = session
        unsafe nghttp2_session_set_user_data(
            session, Unmanaged.passUnretained(self).toOpaque())
        let limits = settings.limits
        let entries: [nghttp2_settings_entry] = [
            .init(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrentStreams),
            .init(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings.headerListBytes),
            .init(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits.headerTableBytes),
            // The tree of RFC 7540 costs memory and time, and RFC 9113 has given it up.
            .init(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1),
        ]
        _ = unsafe entries.withUnsafeBufferPointer {
            unsafe nghttp2_submit_settings(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), $0.baseAddress, $0.count)
        }
        pump()
    }

    deinit { unsafe nghttp2_session_del(session) }

    // MARK: - Receiving

    /// Takes what the peer sent, the preface included.
    ///
    /// - Throws: Where the connection cannot go on. Call ``terminate(_:)`` then, send the output
    ///   and close; whatever was an event before it no longer matters.
    package func receive(_ bytes: borrowing Span<UInt8>, now: MonotonicTime) throws(HTTP2Error) {
        guard !isTerminated else { return }
        self.now = now
        let status = unsafe bytes.withUnsafeBufferPointer {
            unsafe nghttp2_session_mem_recv(session, $0.baseAddress, $0.count)
        }
        if let failure { throw failure }
        if status < 0 { throw HTTP2Error(library: CInt(status)) }
    }

    /// The next event that has not been taken.
    package func nextEvent() -> HTTP2Event? {
        guard nextEventIndex < events.count else {
            nextEventIndex = 0
            if events.capacity > 64 { events = [] } else { events.removeAll(keepingCapacity: true) }
            return nil
        }
        nextEventIndex += 1
        return events[nextEventIndex - 1]
    }

    func report(_ event: HTTP2Event) { events.append(event) }

    func fail(_ code: HTTP2Error.Code, _ detail: String) {
        if failure == nil { failure = HTTP2Error(code, detail) }
    }

    /// Whether nothing more will be received or sent: the connection closes once the output is out.
    package var isOver: Bool {
        guard !isTerminated else { return true }
        return unsafe nghttp2_session_want_read(session) == 0
            && nghttp2_session_want_write(session) == 0
    }

    // MARK: - Answering

    /// Answers with a head and all of the body.
    ///
    /// - Parameters:
    ///   - headers: Names in lower case.
    ///   - body: `nil` where the answer has none, as to HEAD.
    package func respond(
        stream: Int32, status: Int, headers: [(name: String, value: String)], body: [UInt8]?
    ) {
        guard !isTerminated else { return }
        guard let body, !body.isEmpty else {
            return submit(stream, status, headers, hasBody: false)
        }
        answers[stream] = AnswerBody(
            bytes: body, deadline: soon(now + settings.answerTimeout))
        unsentAnswerBytes += body.count
        submit(stream, status, headers, hasBody: true)
    }

    /// Answers with a head; the body follows through ``send(_:on:atMost:makeRoom:)``.
    package func open(
        stream: Int32, status: Int, headers: [(name: String, value: String)]
    ) {
        guard !isTerminated else { return }
        submit(stream, status, headers, hasBody: true)
    }

    /// Sends `100 Continue`.
    func sendContinue(_ stream: Int32) {
        unsafe HeaderBlock(status: 100, []).withFields { fields, count in
            _ = unsafe nghttp2_submit_headers(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream, nil, fields, count, nil)
        }
    }

    private func submit(
        _ stream: Int32, _ status: Int, _ headers: [(name: String, value: String)], hasBody: Bool
    ) {
        unsafe HeaderBlock(status: status, headers).withFields { fields, count in
            guard hasBody else {
                _ = unsafe nghttp2_submit_response(session, stream, fields, count, nil)
                return
            }
            var provider = unsafe nghttp2_data_provider()
            unsafe provider.read_callback = Self.readData
            _ = unsafe nghttp2_submit_response(session, stream, fields, count, &provider)
        }
    }

    /// Moves bytes of a stream's body into the output: as many as the windows allow and the output
    /// has room for.
    ///
    /// - Parameters:
    ///   - limit: Bytes at most.
    ///   - makeRoom: Called where the output is full; true where it has sent some of it.
    /// - Returns: How many bytes were taken.
    package func send(
        _ pieces: UnsafeBufferPointer<iovec>, on stream: Int32, atMost limit: Int,
        makeRoom: () -> Bool
    ) -> Int {
        guard !isTerminated else { return 0 }
        let all = unsafe LentPieces(pieces, atMost: limit)
        let total = all.remaining
        lent = (stream, all)
        defer { lent = nil }
        while let left = lent?.pieces.remaining, left > 0 {
            if outputIsFull, !makeRoom() { break }
            guard window(of: stream) > 0 else { break }
            _ = unsafe nghttp2_session_resume_data(session, stream)
            pump()
            if failure != nil || lent?.pieces.remaining == left && !outputIsFull { break }
        }
        return total - (lent?.pieces.remaining ?? 0)
    }

    /// How many bytes the peer takes on `stream` now, its connection's window included.
    package func window(of stream: Int32) -> Int {
        min(streamWindow(of: stream), connectionWindow)
    }

    package func streamWindow(of stream: Int32) -> Int {
        unsafe Int(nghttp2_session_get_stream_remote_window_size(session, stream))
    }

    package var connectionWindow: Int {
        unsafe Int(nghttp2_session_get_remote_window_size(session))
    }

    /// Ends a stream's body after what was sent.
    package func finish(stream: Int32) {
        guard !isTerminated else { return }
        finishing[stream] = soon(now + settings.answerTimeout)
        _ = unsafe nghttp2_session_resume_data(session, stream)
    }

    /// Ends a stream now.
    package func reset(stream: Int32, _ code: HTTP2ResetCode) {
        guard !isTerminated else { return }
        forget(stream)
        _ = unsafe nghttp2_submit_rst_stream(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream, code.rawValue)
    }

    /// Whether the peer may still send on a stream that we have answered.
    func peerMaySend(on stream: Int32) -> Bool {
        unsafe nghttp2_session_get_stream_remote_close(session, stream) == 0
    }

    // MARK: - Ending

    /// Asks the peer to open no more streams, without refusing those that are on their way; once it
    /// has heard that, ``HTTP2Event/drainAcknowledged`` comes (RFC 9113, section 6.8).
    package func beginDrain() {
        guard !isTerminated else { return }
        _ = unsafe nghttp2_submit_shutdown_notice(session)
        _ = unsafe Self.drainMark.withUnsafeBufferPointer {
            unsafe nghttp2_submit_ping(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), $0.baseAddress)
        }
    }

    static let drainMark = Array("draining".utf8)

    /// Takes no more streams. Those that are open go on; the session is over with the last of them.
    package func goAway() {
        guard !isTerminated else { return }
        let last = unsafe nghttp2_session_get_last_proc_stream_id(session)
        _ = unsafe nghttp2_submit_goaway(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, HTTP2ResetCode.noError.rawValue, nil,
            0)
    }

    /// Ends the session: GOAWAY is the last frame in the output.
    package func terminate(_ code: HTTP2ResetCode) {
        guard !isTerminated else { return }
        isTerminated = true
        answers = [:]
        finishing = [:]
        assemblies = [:]
        unsentAnswerBytes = 0
        heldRequestBytes = 0
        guard !hasSaidGoAway else { return }
        // Written by hand, because the library promises nothing after it has failed.
        let last = unsafe UInt32(bitPattern: nghttp2_session_get_last_proc_stream_id(session))
        var frame: [UInt8] = [0, 0, 8, FrameHead.Kind.goAway.rawValue, 0, 0, 0, 0, 0]
        for word in [last, code.rawValue] {
            for shift in [24, 16, 8, 0] {
                frame.append(UInt8(truncatingIfNeeded: word >> UInt32(shift)))
            }
        }
        unsafe frame.withUnsafeBytes { unsafe output.append($0) }
    }

    // MARK: - Output

    /// Bytes of frames that wait to be sent.
    package var outputBytes: Int { output.count }

    /// True where no more is put into the output.
    package var outputIsFull: Bool { output.count >= settings.limits.outputBytes }

    /// Lends the frames that are ready. Call ``pump()`` before and ``outputWasSent(_:)`` after.
    package func withOutput<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe output.withUnsafeBytes(body)
    }

    package func outputWasSent(_ count: Int) { output.removeFirst(count) }

    /// Puts the frames that may leave into the output, until it is full.
    package func pump() {
        while !isTerminated, !outputIsFull {
            var data: UnsafePointer<UInt8>?
            let count = unsafe nghttp2_session_mem_send(session, &data)
            guard count > 0, let data = unsafe data else {
                if count < 0 { failure = failure ?? HTTP2Error(library: CInt(count)) }
                return
            }
            unsafe output.append(UnsafeRawBufferPointer(start: data, count: count))
        }
    }

    /// What the session failed at while it sent; treat it as a throw of ``receive(_:now:)``.
    package var sendingFailure: HTTP2Error? { isTerminated ? nil : failure }

    /// Tells the session the time, for what is answered outside of ``receive(_:now:)``.
    package func advance(to now: MonotonicTime) { self.now = now }
}
