// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire
import HTTP2Wire
import Observability
import PosixIO
import Reactor

// Requests in, answers out: from the bytes of a read to the handler, and from an exchange back.
extension HTTP1Connection {
    // MARK: - Reading

    /// Takes what the last read put into the scratch.
    func receive(_ count: Int) {
        let scratch = listener.scratch
        let bytes = scratch.bytes(count)
        if let partial {
            partial.append(bytes)
            return beginsHTTP2(partial) ? () : readBuffered()
        }
        if beginsHTTP2(bytes) { return }
        // Most reads hold one whole request: it is read where it lies, and nothing is kept.
        var reader = RequestReader(limits: listener.settings.limits)
        do throws(HTTP1Error) {
            let (step, consumed) = try reader.read(bytes)
            let rest = bytes.extracting(consumed..<count)
            switch step {
            case .request(let head, let body):
                if !rest.isEmpty { hold(reader, rest) }
                flags.insert(.isReading)
                handle(head, body)
                flags.remove(.isReading)
                if phase == .receiving { readBuffered() }
            case .needMore, .needMoreAfterContinue:
                waitForMore(of: hold(reader, rest), step)
            }
        } catch { refuse(error, beginsLikeTLS: bytes[0] == 0x16) }
    }

    // MARK: - HTTP/2 with prior knowledge

    /// A client that begins with the preface of HTTP/2 knows that it is spoken here.
    private func beginsHTTP2(_ bytes: borrowing Span<UInt8>) -> Bool {
        guard listener.settings.http2 != nil, !flags.contains(.hasServed) else { return false }
        switch HTTP2Preface.match(bytes) {
        case .none: return false
        case .partial:
            waitForMore(of: hold(RequestReader(limits: listener.settings.limits), bytes), .needMore)
        case .whole: becomeHTTP2(bytes)
        }
        return true
    }

    /// The same for a preface that came in pieces; none can be part of a body.
    private func beginsHTTP2(_ partial: PartialRequest) -> Bool {
        guard listener.settings.http2 != nil, !flags.contains(.hasServed) else { return false }
        switch HTTP2Preface.match(partial.unread.span) {
        case .none: return false
        case .partial: waitForMore(of: partial, .needMore)
        case .whole: becomeHTTP2(partial.unread.span)
        }
        return true
    }

    /// The request of a connection over the limit, where it is one of HTTP/2, is answered in that.
    func rejectsHTTP2(_ count: Int) -> Bool {
        guard listener.settings.http2 != nil else { return false }
        let scratch = listener.scratch
        let bytes = scratch.bytes(count)
        guard HTTP2Preface.match(bytes) == .whole else { return false }
        becomeHTTP2(bytes)
        return true
    }

    private func becomeHTTP2(_ bytes: borrowing Span<UInt8>) {
        let next = HTTP2Connection(
            giveUpTransport(), peer: peer, listener: listener, isAdmitted: isAdmitted)
        listener.replace(self, with: next)
        next.receive(bytes)
    }

    @discardableResult
    private func hold(_ reader: RequestReader, _ rest: borrowing Span<UInt8>) -> PartialRequest {
        let partial = PartialRequest(reader, rest: rest, total: listener.heldBytes)
        self.partial = partial
        return partial
    }

    /// Handles the requests in `partial`, one after the other, while each is answered at once.
    func readBuffered() {
        flags.insert(.isReading)
        defer { flags.remove(.isReading) }
        var requests = 0
        while phase == .receiving, let partial, !partial.isEmpty {
            guard requests < listener.settings.requestsPerTurn else {
                flags.insert(.awaitsTurn)
                return listener.continueLater(self)
            }
            let step: RequestReader.Step
            do throws(HTTP1Error) {
                step = try partial.read()
            } catch { return refuse(error, beginsLikeTLS: partial.beginsLikeTLS) }
            guard case .request(let head, let body) = step else {
                waitForMore(of: partial, step)
                break
            }
            requests += 1
            if partial.isEmpty { self.partial = nil }
            handle(head, body)
        }
        if phase == .receiving { resumeReading() }
    }

    /// Other connections have had their turn.
    func continueReading() {
        flags.remove(.awaitsTurn)
        readBuffered()
    }

    private func waitForMore(of partial: PartialRequest, _ step: RequestReader.Step) {
        guard listener.heldBytes.count <= listener.settings.heldBytes else {
            listener.metrics.countBadRequest(.tooMuchHeld)
            let detail = "too many requests are arriving at once"
            return refuse(ProblemDetails(status: 503, detail: detail), listener.retryHeaders)
        }
        if partial.isInBody {
            if partial.timedPart != .body { setDeadline(after: listener.settings.bodyTimeout) }
            partial.timedPart = .body
        } else {
            // The time for the first head has run since the accept.
            if partial.timedPart == .none, flags.contains(.hasServed) {
                setDeadline(after: listener.settings.headerTimeout)
            }
            partial.timedPart = .head
        }
        if case .needMoreAfterContinue = step { sendContinue() }
    }

    /// Where the socket does not take even this, the client goes on after its own timeout.
    private func sendContinue() {
        sendInterim(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
    }

    private func handle(_ head: HTTP1RequestHead, _ body: [UInt8]) {
        phase = .answering
        clearDeadline()
        methodIndex = HTTPServerMetrics.index(of: head.method)
        flags.subtract([.isHead, .keepsAlive, .isHTTP10])
        flags.insert(.hasServed)
        if head.method == .head { flags.insert(.isHead) }
        if head.keepAlive { flags.insert(.keepsAlive) }
        if head.version == .oneZero { flags.insert(.isHTTP10) }
        listener.handler?.handle(
            HTTPRequest(head: head, body: body, peer: peer), HTTPExchange(self))
    }

    // MARK: - Answering, for the exchange

    func respond(status: Int, headers: [(String, String)], body: [UInt8]) {
        respond(status: status, headers: headers, body: body, closes: false)
    }

    private func respond(
        status: Int, headers: [(String, String)], body: [UInt8], closes: Bool
    ) {
        listener.loop.requireCurrent()
        guard phase == .answering else { return }
        listener.metrics.countRequest(methodIndex: methodIndex, status: status)
        let clientKeeps = flags.contains(.keepsAlive)
        let keeps = clientKeeps && !closes && !listener.isDraining
        if !keeps {
            flags.insert(.closesAfterOutput)
            // A client that expects to go on may be sending its next request already.
            if clientKeeps || partial != nil { flags.insert(.lingers) }
        }
        let hasBody = ResponseHead.hasBody(status)
        let head = ResponseHead(
            status: status, headers: headers, contentLength: hasBody ? body.count : nil,
            persistence: keeps ? (flags.contains(.isHTTP10) ? .keepAlive : .implied) : .close,
            server: listener.settings.serverHeader, date: listener.date)
        phase = .flushing
        send(head.bytes, hasBody && !flags.contains(.isHead) ? body : [])
    }

    func openStream(
        status: Int, headers: [(String, String)], observer: any ByteStreamObserver,
        writesAtOnce: Bool
    ) -> ByteStream? {
        listener.loop.requireCurrent()
        guard phase == .answering else { return nil }
        listener.metrics.countRequest(methodIndex: methodIndex, status: status)
        let head = listener.streamHead(status: status, headers: headers)
        guard !flags.contains(.isHead) else {
            phase = .flushing
            flags.formUnion([.closesAfterOutput, .lingers])
            send(head, [])
            return nil
        }
        return beginStream(head, observer: observer, moreFollows: writesAtOnce) ? self : nil
    }

    /// The handler forgot the request, or was torn down with it.
    func exchangeWasDropped() {
        // Off the loop the loop has ended, and with it the connection.
        guard listener.loop.isCurrent, phase == .answering else { return }
        listener.metrics.unanswered.add()
        let problem = ProblemDetails(status: 500, detail: "the request was not answered")
        respond(
            status: 500, headers: [("Content-Type", ProblemDetails.mediaType)],
            body: problem.json, closes: true)
    }

    // MARK: - Refusing

    /// Answers what cannot be read as a request, and closes: where the next one begins is unknown.
    private func refuse(_ error: HTTP1Error, beginsLikeTLS: Bool) {
        guard error.code == .requestLineMalformed, beginsLikeTLS else {
            listener.metrics.countBadRequest(code: error.code.rawValue)
            return refuse(ProblemDetails(error))
        }
        listener.metrics.countBadRequest(.tlsOnPlainPort)
        refuse(
            ProblemDetails(
                status: 400,
                detail: "this port speaks plain HTTP and the client began with TLS; "
                    + "use http:// here, or the port that speaks TLS"))
    }

    /// Answers a client that began with plain HTTP on a port for TLS, without reading its request.
    func refusePlainHTTP() {
        guard phase != .closed else { return }
        refuse(
            ProblemDetails(
                status: 400,
                detail: "this port speaks TLS and the client began with plain HTTP; "
                    + "use https:// here, or the port that speaks plain HTTP"))
    }

    func requestTimedOut(_ partial: PartialRequest) {
        let settings = listener.settings
        let (part, limit) =
            partial.isInBody
            ? ("body", settings.bodyTimeout) : ("head", settings.headerTimeout)
        listener.metrics.countBadRequest(partial.isInBody ? .bodyTimeout : .headerTimeout)
        refuse(
            ProblemDetails(
                status: 408, detail: "the \(part) of a request has to arrive within \(limit)"))
    }

    /// Answers the request of a connection that the admission turned away.
    func rejectRequest() { refuse(listener.rejection, listener.retryHeaders) }

    private func refuse(_ problem: ProblemDetails, _ headers: [(String, String)] = []) {
        partial = nil
        phase = .flushing
        flags.formUnion([.closesAfterOutput, .lingers])
        let body = problem.json
        send(listener.refusalHead(problem, headers, contentLength: body.count), body)
    }

    /// Turns a connection away without keeping it: as much of the answer as the socket takes.
    static func reject(_ socket: CInt, by listener: HTTPListener) {
        let body = listener.rejection.json
        let answer =
            listener.refusalHead(
                listener.rejection, listener.retryHeaders, contentLength: body.count) + body
        let outcome = unsafe answer.withUnsafeBytes { unsafe StreamSocket.write(socket, $0) }
        if case .transferred(let count) = outcome { listener.bytesSent += count }
    }
}

extension HTTPListener {
    var rejection: ProblemDetails {
        let limit = admission.map { "\($0.limit)" } ?? "no"
        return ProblemDetails(
            status: 503,
            detail: "this node serves at most \(limit) connections and all are in use")
    }

    var retryHeaders: [(String, String)] {
        [("Retry-After", "\(settings.retryAfterSeconds)")]
    }

    /// The head of an answer that the server gives by itself and closes after.
    func refusalHead(
        _ problem: ProblemDetails, _ headers: [(String, String)], contentLength: Int
    ) -> [UInt8] {
        ResponseHead(
            status: problem.status,
            headers: [("Content-Type", ProblemDetails.mediaType)] + headers,
            contentLength: contentLength, persistence: .close, server: settings.serverHeader,
            date: date
        ).bytes
    }
}
