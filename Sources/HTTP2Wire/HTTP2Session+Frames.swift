// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CNghttp2
import HTTP1Wire
package import PosixIO

/// The body of an answer that is on its way.
struct AnswerBody {
    let bytes: [UInt8]
    var sent = 0
    var deadline: MonotonicTime

    init(bytes: [UInt8], deadline: MonotonicTime) {
        self.bytes = bytes
        self.deadline = deadline
    }
}

// What each frame means to the session, in the order of its callbacks.
extension HTTP2Session {
    // MARK: - Frames of the peer

    /// - Returns: False where the connection has to end.
    func frameBegins(_ head: FrameHead) -> Bool {
        guard let flood = budget.charge(head, now: now) else { return true }
        fail(flood, "more frames of a kind came than a connection may send")
        return false
    }

    func headersBegin(_ stream: Int32, isRequest: Bool) {
        headerBlockBytes = 0
        guard isRequest else { return }
        assemblies[stream] = RequestAssembly(
            limits: settings.requests, deadline: soon(now + settings.headerTimeout))
    }

    /// - Returns: False where the connection has to end.
    func headerArrived(
        _ stream: Int32, _ name: borrowing Span<UInt8>, _ value: borrowing Span<UInt8>,
        isRequest: Bool
    ) -> Bool {
        headerBlockBytes += name.count + value.count + 32
        guard headerBlockBytes <= settings.headerListBytes * HTTP2Limits.headerBombFactor else {
            fail(.headerBomb, "a header block has at most \(settings.headerListBytes) bytes")
            return false
        }
        // Trailers are read and dropped.
        guard isRequest, let assembly = assemblies[stream] else { return true }
        let before = assembly.heldBytes
        assembly.append(name: name, value: value)
        heldRequestBytes += assembly.heldBytes - before
        return true
    }

    func frameArrived(_ frame: UnsafePointer<nghttp2_frame>) {
        let head = unsafe frame.pointee.hd
        let endsStream = head.flags & FrameHead.endStream != 0
        switch FrameHead.Kind(rawValue: head.type) {
        case .headers:
            if unsafe frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
                headEnded(head.stream_id, endsStream: endsStream)
            }
            if endsStream { requestEnded(head.stream_id) }
        case .data: if endsStream { requestEnded(head.stream_id) }
        case .settings where head.flags & FrameHead.acknowledgement == 0:
            report(.settingsReceived)
        case .windowUpdate:
            report(.windowOpened(stream: head.stream_id == 0 ? nil : head.stream_id))
        case .ping where head.flags & FrameHead.acknowledgement != 0:
            let isMark = unsafe withUnsafeBytes(of: frame.pointee.ping.opaque_data) {
                unsafe $0.elementsEqual(Self.drainMark)
            }
            if isMark { report(.drainAcknowledged) }
        default: break
        }
    }

    private func headEnded(_ stream: Int32, endsStream: Bool) {
        guard let assembly = assemblies[stream] else { return }
        do throws(HTTP1Error) {
            let head = try assembly.endHead()
            guard !endsStream else { return }
            assembly.deadline = soon(now + settings.bodyTimeout)
            if head.expectsContinue { sendContinue(stream) }
        } catch { refuse(stream, error) }
    }

    func bodyArrived(_ stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        // Of a request that was refused the rest is dropped.
        guard let assembly = assemblies[stream] else { return }
        do throws(HTTP1Error) {
            try unsafe assembly.append(body: bytes)
            heldRequestBytes += bytes.count
        } catch { refuse(stream, error) }
    }

    private func requestEnded(_ stream: Int32) {
        guard let assembly = dropAssembly(stream), let head = assembly.head else { return }
        report(.request(stream: stream, head, body: assembly.body))
    }

    private func refuse(_ stream: Int32, _ error: HTTP1Error) {
        dropAssembly(stream)
        report(.badRequest(stream: stream, error))
    }

    @discardableResult
    private func dropAssembly(_ stream: Int32) -> RequestAssembly? {
        guard let assembly = assemblies.removeValue(forKey: stream) else { return nil }
        heldRequestBytes -= assembly.heldBytes
        return assembly
    }

    func streamClosed(_ stream: Int32, _ code: HTTP2ResetCode) {
        forget(stream)
        report(.streamClosed(stream: stream, code))
    }

    /// Drops what is kept for a stream.
    func forget(_ stream: Int32) {
        dropAssembly(stream)
        finishing[stream] = nil
        if let answer = answers.removeValue(forKey: stream) {
            unsentAnswerBytes -= answer.bytes.count - answer.sent
        }
    }

    // MARK: - Frames to the peer

    /// How many bytes of `stream` can go now, and whether its end is among them.
    func nextData(_ stream: Int32, atMost limit: Int) -> (count: Int, isEnd: Bool) {
        if let lent, lent.stream == stream {
            return (min(limit, lent.pieces.remaining), false)
        }
        if let answer = answers[stream] {
            let left = answer.bytes.count - answer.sent
            return (min(limit, left), left <= limit)
        }
        return (0, finishing[stream] != nil)
    }

    /// Writes a DATA frame of `count` bytes whose head is `head`.
    ///
    /// - Returns: True where the output is full.
    func moveData(_ stream: Int32, head: UnsafeRawBufferPointer, _ count: Int) -> Bool {
        unsafe output.append(head)
        if lent?.stream == stream, count > 0 {
            lent!.pieces.move(count, to: &output)
        } else if let answer = answers[stream] {
            unsafe answer.bytes.withUnsafeBytes { bytes in
                unsafe output.append(
                    UnsafeRawBufferPointer(rebasing: bytes[answer.sent..<answer.sent + count]))
            }
            answers[stream]!.sent += count
            answers[stream]!.deadline = now + settings.answerTimeout
            unsentAnswerBytes -= count
        }
        budget.earn(bytes: count)
        return outputIsFull
    }

    func frameWasSent(_ frame: UnsafePointer<nghttp2_frame>) {
        let head = unsafe frame.pointee.hd
        switch FrameHead.Kind(rawValue: head.type) {
        case .resetStream:
            let code = unsafe HTTP2ResetCode(rawValue: frame.pointee.rst_stream.error_code)
            // Ours are NO_ERROR and CANCEL; the library sends others for what the peer did.
            guard code != .noError, code != .cancel, budget.chargeReset(now: now) != nil
            else { return }
            fail(.resetFlood, "the peer has had too many streams reset")
        case .goAway:
            let code = unsafe HTTP2ResetCode(rawValue: frame.pointee.goaway.error_code)
            guard code != .noError else { return }
            hasSaidGoAway = true
            fail(.protocolViolation, "a frame broke the rules of HTTP/2 (code \(code.rawValue))")
        case .headers, .data:
            guard head.flags & FrameHead.endStream != 0, peerMaySend(on: head.stream_id)
            else { return }
            // Answered in full: what the peer still sends would be for nobody (RFC 9113,
            // section 8.1).
            reset(stream: head.stream_id, .noError)
        default: break
        }
    }

    // MARK: - Deadlines

    /// The first moment at which ``takeOverdue(now:)`` may have something; `nil` for none.
    package var earliestDeadline: MonotonicTime? { hasDeadlines ? deadlineBound : nil }

    private var hasDeadlines: Bool {
        !assemblies.isEmpty || !answers.isEmpty || !finishing.isEmpty
    }

    /// Notes that something is due at `deadline`, and returns it.
    func soon(_ deadline: MonotonicTime) -> MonotonicTime {
        deadlineBound = hasDeadlines ? min(deadlineBound, deadline) : deadline
        return deadline
    }

    /// The streams that have taken too long, and with them what was too slow. Requests among them
    /// are given up: they can be answered, and what still comes of them is dropped.
    package func takeOverdue(now: MonotonicTime) -> [(stream: Int32, what: HTTP2Overdue)] {
        self.now = now
        deadlineBound = MonotonicTime(nanoseconds: .max)
        var overdue: [(stream: Int32, what: HTTP2Overdue)] = []
        for (stream, assembly) in assemblies where soon(assembly.deadline, passed: now) {
            overdue.append((stream, assembly.isInHead ? .head : .body))
        }
        for (stream, answer) in answers where soon(answer.deadline, passed: now) {
            overdue.append((stream, .answer))
        }
        for (stream, deadline) in finishing where soon(deadline, passed: now) {
            overdue.append((stream, .answer))
        }
        for item in overdue where assemblies[item.stream] != nil { dropAssembly(item.stream) }
        return overdue
    }

    private func soon(_ deadline: MonotonicTime, passed now: MonotonicTime) -> Bool {
        if deadline <= now { return true }
        _ = soon(deadline)
        return false
    }

    /// Gives up every request whose body is being received, to free what is held of them.
    package func takeUnfinished() -> [Int32] {
        let streams = assemblies.filter { !$0.value.isInHead }.map(\.key)
        for stream in streams { dropAssembly(stream) }
        return streams
    }
}
