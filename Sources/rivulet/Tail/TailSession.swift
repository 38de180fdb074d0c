// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Glibc
import HTTP1Wire
import PosixIO

/// Follows an event stream over as many connections as it takes.
///
/// Threads: one.
final class TailSession {
    /// How long a server may take to answer a request.
    private static let answerTimeout: Duration = .seconds(10)
    private static let redirectsMax = 5

    /// What a connection came to.
    private enum Ending {
        case finished(ExitStatus)
        /// Worth another attempt, after `delay` where the server asked for one.
        case lost(String, delay: Duration?)
        case redirected(String)
    }

    private let settings: TailSettings
    private let stop: StopSignals
    private let printer: EventPrinter
    private let style = TerminalStyle.of(StandardStream.error)
    private let deadline: MonotonicTime?
    private let watchesOutput: Bool
    private var url: ServerURL
    private var lastEventID: [UInt8]
    private var delay = ReconnectDelay()
    private var random = SystemRandomNumberGenerator()
    private var printed = 0
    private var isOutputClosed = false
    /// The server has told that the stream has come to its end.
    private var hasEnded = false

    init(_ settings: TailSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        printer = try EventPrinter(
            style: settings.isJSON
                ? TerminalStyle(isColoured: false) : TerminalStyle.of(StandardStream.output),
            isJSON: settings.isJSON)
        deadline = settings.timeout.map { MonotonicTime.now + $0 }
        // A pipe tells that its reader has gone even while there is nothing to write.
        watchesOutput = Self.isPipe(StandardStream.output)
        url = settings.url
        lastEventID = settings.from
    }

    private static func isPipe(_ descriptor: CInt) -> Bool {
        var information = stat()
        guard unsafe fstat(descriptor, &information) == 0 else { return false }
        let kind = information.st_mode & S_IFMT
        return kind == S_IFIFO || kind == S_IFSOCK
    }

    /// Follows the stream until it is done, a signal comes, or nothing more can be had.
    func run() throws(ProgramError) -> ExitStatus {
        var redirects = 0
        while true {
            switch try attempt() {
            case .finished(let status): return status
            case .redirected(let location):
                redirects += 1
                guard redirects <= Self.redirectsMax else {
                    throw ProgramError(
                        .refused,
                        "more than \(Self.redirectsMax) redirects, the last to \(location)"
                    )
                }
                url = try url.following(location)
            case .lost(let reason, let asked):
                redirects = 0
                url = settings.url
                guard settings.reconnects else {
                    throw ProgramError(.transferFailed, reason)
                }
                if let status = wait(reason, asked ?? delay.next(using: &random)) { return status }
            }
        }
    }

    /// Says what happened and waits; the exit status where there will be no further attempt.
    private func wait(_ reason: String, _ wait: Duration) -> ExitStatus? {
        var text = "\(reason); reconnecting in \(DurationText.decimal(wait.inSeconds, places: 1)) s"
        if !lastEventID.isEmpty { text += " after \(PeerText.display(lastEventID.span))" }
        StandardStream.say("rivulet tail: " + style(.yellow, text))
        let until = MonotonicTime.now + wait
        if stop.sleep(until: deadline.map { min($0, until) } ?? until) { return stop.exitStatus }
        if let deadline, deadline <= .now { return timedOut() }
        return nil
    }

    // MARK: - One connection

    private func attempt() throws(ProgramError) -> Ending {
        let exchange: HTTPExchange
        let answerBy = MonotonicTime.now + Self.answerTimeout
        let limit = deadline.map { min($0, answerBy) } ?? answerBy
        do {
            exchange = try HTTPExchange(url, headers: requestHeaders, stop: stop, deadline: limit)
        } catch {
            if let deadline, deadline <= .now { return .finished(timedOut()) }
            guard error.isRetriable, settings.reconnects else { throw error }
            return .lost(error.detail, delay: nil)
        }
        if let ending = try judge(exchange, limit) { return ending }
        delay.succeeded()
        do { return try follow(exchange) } catch {
            guard error.isRetriable else { throw error }
            return .lost(error.detail, delay: nil)
        }
    }

    private var requestHeaders: HTTPHeaders {
        var headers = settings.headers
        if !headers.contains("Accept") { headers.append("Accept", "text/event-stream") }
        headers.append("Cache-Control", "no-store")
        if !lastEventID.isEmpty {
            headers.append("Last-Event-ID", String(decoding: lastEventID, as: UTF8.self))
        }
        return headers
    }

    /// Decides by the head of the answer; `nil` where a stream follows.
    private func judge(_ exchange: HTTPExchange, _ limit: MonotonicTime) throws(ProgramError)
        -> Ending?
    {
        let head = exchange.head
        switch head.status {
        case 200:
            let type = head.headers.first("Content-Type") ?? "no content type"
            guard type.lowercased().hasPrefix("text/event-stream") else {
                throw ProgramError(
                    .refused,
                    "\(url.text) is no event stream: it answers with \(PeerText.display(type))")
            }
            return nil
        case 204:
            // The standard's way of telling a client not to come back.
            StandardStream.say("rivulet tail: the server has ended the stream for good (204)")
            return .finished(.success)
        case 301, 302, 303, 307, 308:
            guard let location = head.headers.first("Location") else {
                throw ProgramError(.refused, "\(head.status) without a location")
            }
            return .redirected(location)
        case 408, 429, 500...599:
            let body = try exchange.readAll(limit: ProblemReport.bodyBytesMax, until: limit)
            let asked = ReconnectDelay.after(head.headers.first("Retry-After"), using: &random)
            return .lost(ProblemReport.text(head, body: body), delay: asked)
        default:
            let body = try exchange.readAll(limit: ProblemReport.bodyBytesMax, until: limit)
            throw ProgramError(
                .refused, "\(url.text)\n\(ProblemReport.text(head, body: body))")
        }
    }

    private func follow(_ exchange: HTTPExchange) throws(ProgramError) -> Ending {
        var parser = EventStreamParser(lastEventID: lastEventID)
        while true {
            var output = ByteWriter()
            var problem: EventStreamError?
            let silentUntil = MonotonicTime.now + settings.idleTimeout
            let limit = deadline.map { min($0, silentUntil) } ?? silentUntil
            let watched = watchesOutput ? StandardStream.output : nil
            let progress = try exchange.read(until: limit, watching: watched) { bytes in
                do throws(EventStreamError) {
                    try parser.feed(bytes) { take($0, into: &output) }
                } catch { problem = error }
            }
            lastEventID = parser.lastEventID
            if let retry = parser.retry { delay.asked(for: retry) }
            if StandardStream.write(output.bytes) == .closed { return .finished(.success) }
            if isComplete { return .finished(.success) }
            if hasEnded { return .finished(incomplete("the stream is over")) }
            if let problem {
                throw ProgramError(.refused, "the stream cannot be read: \(problem.detail)")
            }
            switch progress {
            case .read: continue
            case .stopped: return .finished(stop.exitStatus)
            case .outputClosed: return .finished(.success)
            case .ended:
                guard settings.reconnects else { return .finished(incomplete("the stream ended")) }
                return .lost("the server ended the stream", delay: nil)
            case .deadlinePassed:
                if let deadline, deadline <= .now { return .finished(timedOut()) }
                let silence = DurationText.short(settings.idleTimeout)
                return .lost("not even a heartbeat for \(silence)", delay: nil)
            }
        }
    }

    private func take(_ message: EventStreamMessage, into output: inout ByteWriter) {
        guard !isComplete, !hasEnded else { return }
        printer.append(message, received: WallClock.milliseconds, to: &output)
        if EventPrinter.isEnd(message) {
            hasEnded = true
            if settings.isJSON {
                StandardStream.say("rivulet tail: " + style(.yellow, printer.endText(message)))
            }
            return
        }
        guard message.event == EventPrinter.gapEvent else {
            printed += 1
            return
        }
        // Where the lines are for a program, a person may still be watching.
        guard settings.isJSON else { return }
        StandardStream.say("rivulet tail: " + style(.alarm, "GAP: \(printer.gapText(message))"))
    }

    // MARK: - Being done

    private var isComplete: Bool { settings.count.map { printed >= $0 } ?? false }

    private func timedOut() -> ExitStatus { incomplete("the time is over") }

    /// What an end before the wanted count means.
    private func incomplete(_ reason: String) -> ExitStatus {
        guard let count = settings.count else { return .success }
        StandardStream.say(
            "rivulet tail: \(reason) after \(printed) of \(Tabulation.count(count, "event"))")
        return .failure
    }
}
