// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import HTTP1Wire
import HTTP2Wire
import Observability
import PosixIO
import Reactor

// Requests in, answers and streams out.
extension HTTP2Connection {
    // MARK: - Events

    /// Acts on what the session has found out.
    func takeEvents() {
        while let event = session.nextEvent() {
            guard phase != .closed, phase != .closing else { continue }
            switch event {
            case .request(let number, let head, let body):
                let stream = begin(number)
                stream.methodIndex = HTTPServerMetrics.index(of: head.method)
                stream.isHead = head.method == .head
                requests.append(WaitingRequest(stream: stream, head: head, body: body))
            case .badRequest(let number, let error):
                listener.metrics.countBadRequest(code: error.code.rawValue)
                refuse(number, ProblemDetails(error))
            case .streamClosed(let number, let code): streamClosed(number, code)
            case .windowOpened(let number): if let number { windowOpened(number) }
            case .settingsReceived:
                clientSettingsArrived()
                for stream in streams.values where stream.wait == .window { windowOpened(stream) }
            case .drainAcknowledged: session.goAway()
            }
        }
    }

    private func begin(_ number: Int32) -> HTTP2Stream {
        let stream = HTTP2Stream(number, of: self)
        streams[number] = stream
        listener.metrics.http2.streams.add()
        listener.metrics.http2.streamsOpen.add(1)
        return stream
    }

    private func streamClosed(_ number: Int32, _ code: HTTP2ResetCode) {
        guard let stream = streams.removeValue(forKey: number) else { return }
        listener.metrics.http2.streamsOpen.add(-1)
        if code != .noError {
            let metrics = listener.metrics.http2
            (stream.phase == .ended ? metrics.resetsByServer : metrics.resetsByPeer).add()
        }
        // What the peer breaks in a stream the session resets with a code of its own.
        end(stream, code == .noError || code == .cancel ? .peerClosed : .failed(Errno(EPROTO)))
    }

    /// Ends a stream from the loop's dispatch, where its observer can hear of it at once.
    private func end(_ stream: HTTP2Stream, _ reason: StreamEnd) {
        let wasStreaming = stream.phase == .streaming
        stream.phase = .ended
        guard wasStreaming else { return }
        let observer = stream.observer
        stream.observer = nil
        streamHasEnded(reason)
        observer?.streamEnded(stream, reason)
    }

    /// Ends all streams with the connection.
    func endStreams(_ reason: StreamEnd) {
        let all = streams.values.sorted { $0.number < $1.number }
        streams = [:]
        listener.metrics.http2.streamsOpen.add(Int64(-all.count))
        for stream in all { end(stream, reason) }
    }

    private func streamHasEnded(_ reason: StreamEnd) {
        listener.metrics.streamsOpen.add(-1)
        listener.metrics.countStreamEnd(reason)
    }

    // MARK: - Requests

    /// Hands requests to the handler, as many as a connection may in one turn.
    func serveRequests() {
        var index = 0
        let limits = listener.http2Settings.limits
        while index < requests.count, index < listener.settings.requestsPerTurn * 4,
            session.unsentAnswerBytes < limits.answerBytes
        {
            let request = requests[index]
            index += 1
            guard request.stream.phase == .answering else { continue }
            guard isAdmitted else {
                refuse(request.stream, listener.rejection, listener.retryHeaders)
                session.goAway()
                continue
            }
            listener.handler?.handle(
                HTTPRequest(head: request.head, body: request.body, peer: peer),
                HTTPExchange(request.stream))
        }
        // The handler may have ended the connection, and its requests with it.
        requests.removeFirst(min(index, requests.count))
    }

    /// Goes on with the requests in hand when other connections have had their turn.
    func continueServing() {
        let limits = listener.http2Settings.limits
        guard !awaitsTurn, session.unsentAnswerBytes < limits.answerBytes else { return }
        awaitsTurn = true
        listener.continueLater(self)
    }

    // MARK: - Answers

    func respond(
        _ stream: HTTP2Stream, status: Int, headers: [(String, String)], body: [UInt8]
    ) {
        listener.loop.requireCurrent()
        guard stream.phase == .answering else { return }
        listener.metrics.countRequest(methodIndex: stream.methodIndex, status: status)
        stream.phase = .answered
        var fields = fields(headers)
        fields.append(("date", listener.date))
        let hasBody = ResponseHead.hasBody(status)
        if hasBody { fields.append(("content-length", "\(body.count)")) }
        session.advance(to: listener.loop.now)
        session.respond(
            stream: stream.number, status: status, headers: fields,
            body: hasBody && !stream.isHead ? body : nil)
        workAtEndOfTurn()
    }

    func open(
        _ stream: HTTP2Stream, status: Int, headers: [(String, String)],
        observer: any ByteStreamObserver
    ) -> ByteStream? {
        listener.loop.requireCurrent()
        guard stream.phase == .answering else { return nil }
        listener.metrics.countRequest(methodIndex: stream.methodIndex, status: status)
        workAtEndOfTurn()
        guard !stream.isHead else {
            stream.phase = .answered
            session.respond(
                stream: stream.number, status: status, headers: fields(headers), body: nil)
            return nil
        }
        session.open(stream: stream.number, status: status, headers: fields(headers))
        stream.phase = .streaming
        stream.observer = observer
        listener.metrics.streamsOpened.add()
        listener.metrics.streamsOpen.add(1)
        return stream
    }

    /// Names are in lower case, and nothing speaks of the connection (RFC 9113, section 8.2).
    private func fields(_ headers: [(String, String)]) -> [(name: String, value: String)] {
        var fields = headers.map { (name: $0.0.lowercased(), value: $0.1) }
        if let server = listener.settings.serverHeader { fields.append(("server", server)) }
        return fields
    }

    func refuse(
        _ number: Int32, _ problem: ProblemDetails, _ headers: [(String, String)] = []
    ) {
        refuse(streams[number] ?? begin(number), problem, headers)
    }

    private func refuse(
        _ stream: HTTP2Stream, _ problem: ProblemDetails, _ headers: [(String, String)]
    ) {
        respond(
            stream, status: problem.status,
            headers: [("content-type", ProblemDetails.mediaType)] + headers, body: problem.json)
    }

    var bodyTimeoutProblem: ProblemDetails {
        ProblemDetails(
            status: 408,
            detail: "the body of a request has to arrive within \(listener.settings.bodyTimeout)")
    }

    func exchangeWasDropped(_ stream: HTTP2Stream) {
        // Off the loop the loop has ended, and with it the connection.
        guard listener.loop.isCurrent, stream.phase == .answering else { return }
        listener.metrics.unanswered.add()
        refuse(stream, ProblemDetails(status: 500, detail: "the request was not answered"), [])
    }

    // MARK: - Streams

    func write(_ pieces: UnsafeBufferPointer<iovec>, on stream: HTTP2Stream) -> ByteStreamWrite {
        listener.loop.requireCurrent()
        guard stream.phase == .streaming else { return .ended }
        guard stream.wait == .none else { return .some(0) }
        var offered = 0
        for index in pieces.indices { unsafe offered += pieces[index].iov_len }
        let hasTurn = turn?.stream === stream
        if !waiting.isEmpty, !hasTurn {
            waitForTurn(stream)
            return .some(0)
        }
        let limit = hasTurn && !waiting.isEmpty ? turn!.bytesLeft : .max
        let taken = unsafe session.send(pieces, on: stream.number, atMost: limit) {
            // Whoever has its turn fills the output once, so that the others get theirs.
            turn == nil && send()
        }
        if hasTurn { turn!.bytesLeft -= taken }
        workAtEndOfTurn()
        guard taken < offered else { return .all }
        if session.streamWindow(of: stream.number) <= 0 {
            stream.wait = .window
        } else {
            waitForTurn(stream)
        }
        return .some(taken)
    }

    private func waitForTurn(_ stream: HTTP2Stream) {
        stream.wait = .turn
        waiting.append(stream)
        workAtEndOfTurn()
    }

    private func windowOpened(_ number: Int32) {
        if let stream = streams[number], stream.wait == .window { windowOpened(stream) }
    }

    private func windowOpened(_ stream: HTTP2Stream) {
        guard session.streamWindow(of: stream.number) > 0 else { return }
        stream.wait = .turn
        waiting.append(stream)
    }

    /// Lets the streams that wait write, each in its turn, until the output is full.
    func serveWaiting() {
        // Those that join the line meanwhile get their turn in it, but not without end.
        var turns = 0
        while !waiting.isEmpty, turns < Self.turnsAtOnce, session.connectionWindow > 0,
            !session.outputIsFull
        {
            let stream = waiting.removeFirst()
            turns += 1
            guard stream.phase == .streaming, stream.wait == .turn else { continue }
            stream.wait = .none
            turn = (stream, listener.http2Settings.limits.turnBytes)
            stream.observer?.streamIsWritable(stream)
            turn = nil
        }
    }

    /// More than the output has room for, unless streams have nothing to write.
    private static let turnsAtOnce = 1024

    func finish(_ stream: HTTP2Stream) {
        listener.loop.requireCurrent()
        guard stream.phase == .streaming else { return }
        streamWillEnd(stream, .finished)
        session.advance(to: listener.loop.now)
        session.finish(stream: stream.number)
    }

    func abort(_ stream: HTTP2Stream) {
        listener.loop.requireCurrent()
        guard stream.phase == .streaming else { return }
        streamWillEnd(stream, .aborted)
        session.reset(stream: stream.number, .cancel)
    }

    /// Notes the end of a stream; its observer hears of it at the end of the turn.
    private func streamWillEnd(_ stream: HTTP2Stream, _ reason: StreamEnd) {
        stream.phase = .ended
        stream.streamEnd = reason
        streamHasEnded(reason)
        ended.append(stream)
        workAtEndOfTurn()
    }

    /// Tells the observers of streams that they ended themselves.
    func tellEnded() {
        while !ended.isEmpty {
            let all = ended
            ended = []
            for stream in all {
                guard let observer = stream.observer, let reason = stream.streamEnd else {
                    continue
                }
                stream.observer = nil
                observer.streamEnded(stream, reason)
            }
        }
    }
}
