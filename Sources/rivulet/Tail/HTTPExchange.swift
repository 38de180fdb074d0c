// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import HTTP1Wire
import PosixIO

/// One GET request over a connection of its own, and its answer as it comes.
///
/// Threads: one, which waits in poll(2) and can be stopped by a signal.
final class HTTPExchange {
    /// What reading on came to.
    enum Progress: Sendable, Equatable {
        /// Some bytes came; perhaps none of them body.
        case read
        /// The body is complete.
        case ended
        case deadlinePassed
        case stopped
        /// The descriptor that was watched has lost its reader.
        case outputClosed
    }

    private enum Body {
        case length(Int)
        case chunked(ChunkedBodyDecoder)
        case untilClose
    }

    let head: HTTP1ResponseHead

    private let connection: ClientConnection
    /// What came after the head and has not been read.
    private var waiting: [UInt8]
    private var body: Body

    /// Connects, asks, and waits for the head of the answer.
    ///
    /// - Throws: ``ProgramError/Code/unavailable`` where nobody answers by the deadline,
    ///   ``ProgramError/Code/transferFailed`` where the connection breaks,
    ///   ``ProgramError/Code/refused`` where the answer is not HTTP, and the signal's code.
    init(
        _ url: ServerURL, headers: HTTPHeaders, stop: StopSignals, deadline: MonotonicTime
    ) throws(ProgramError) {
        let connection = try ClientConnection(url, stop: stop, deadline: deadline)
        var request = ByteWriter()
        HTTP1RequestEncoder.append(
            method: .get, target: url.target.isEmpty ? "/" : url.target, host: url.authority,
            headers: headers, keepAlive: false, to: &request)
        try connection.send(request.bytes, until: deadline)
        var held: [UInt8] = []
        head = try Self.readHead(connection, &held, until: deadline)
        self.connection = connection
        waiting = held
        body =
            switch head.body {
            case .none: .length(0)
            case .length(let count): .length(count)
            case .chunked: .chunked(ChunkedBodyDecoder(maximumBodyBytes: nil))
            case .untilClose: .untilClose
            }
    }

    private static func readHead(
        _ connection: ClientConnection, _ held: inout [UInt8], until deadline: MonotonicTime
    ) throws(ProgramError) -> HTTP1ResponseHead {
        var parser = HTTP1ResponseParser(method: .get)
        while true {
            let outcome: HTTP1ResponseParser.Outcome
            do { outcome = try parser.parse(held.span) } catch {
                throw ProgramError(
                    .refused, "\(connection.name) does not answer in HTTP: \(error.detail)")
            }
            if case .head(let head, let consumed) = outcome {
                held.removeFirst(consumed)
                // Below 200 it is an interim answer; the final one follows.
                if head.status >= 200 || head.status == 101 { return head }
                continue
            }
            switch try connection.receive(until: deadline, { held += $0 }) {
            case .read: continue
            case .stopped: throw connection.interrupted
            case .deadlinePassed, .outputClosed:
                throw ProgramError(.unavailable, "\(connection.name) does not answer")
            case .ended:
                throw ProgramError(
                    .transferFailed, "\(connection.name) closed the connection without an answer")
            }
        }
    }

    // MARK: - The body

    /// Waits for more of the body and hands it over.
    ///
    /// - Parameters:
    ///   - deadline: `nil` waits as long as it takes.
    ///   - output: A descriptor whose reader, when it goes, ends the wait.
    func read(
        until deadline: MonotonicTime?, watching output: CInt? = nil,
        receive: (borrowing Span<UInt8>) -> Void
    ) throws(ProgramError) -> Progress {
        if !waiting.isEmpty {
            let bytes = waiting
            waiting = []
            return try take(bytes.span, receive)
        }
        if case .length(0) = body { return .ended }
        var arrived: ArraySlice<UInt8> = []
        let progress = try connection.receive(until: deadline, watching: output) { arrived = $0 }
        switch progress {
        case .read: return try take(arrived.span, receive)
        case .ended:
            if case .untilClose = body { return .ended }
            throw ProgramError(.transferFailed, "the connection was cut in the middle")
        default: return progress
        }
    }

    /// The whole body, of which the first `limit` bytes are kept.
    func readAll(limit: Int, until deadline: MonotonicTime) throws(ProgramError) -> [UInt8] {
        var kept = ByteWriter()
        while true {
            let progress = try read(until: deadline) { piece in
                kept.append(piece.extracting(0..<min(piece.count, limit - kept.count)))
            }
            switch progress {
            case .read where kept.count < limit: continue
            case .stopped: throw connection.interrupted
            default: return kept.bytes
            }
        }
    }

    private func take(
        _ bytes: borrowing Span<UInt8>, _ receive: (borrowing Span<UInt8>) -> Void
    ) throws(ProgramError) -> Progress {
        switch body {
        case .untilClose: receive(bytes)
        case .length(let left):
            let count = min(left, bytes.count)
            body = .length(left - count)
            receive(bytes.extracting(0..<count))
            if count == left { return .ended }
        case .chunked(var decoder):
            do {
                _ = try decoder.decode(bytes, receive: receive)
            } catch {
                throw ProgramError(.refused, "the answer is not HTTP: \(error.detail)")
            }
            body = decoder.isComplete ? .length(0) : .chunked(decoder)
            if decoder.isComplete { return .ended }
        }
        return .read
    }
}
