// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Reads the heads of responses as their bytes arrive (RFC 9112), for a client.
///
/// Threads: the one that owns the connection. The caller keeps the unread bytes and passes all of
/// them each time. As strict as ``HTTP1RequestParser``. An interim response (1xx other than 101)
/// comes out as a head without a body, and the final one follows: parse again.
package struct HTTP1ResponseParser: Sendable {
    package enum Outcome: Sendable, Hashable {
        case needMore
        /// A response, and how many of the bytes were its head. Its body follows.
        case head(HTTP1ResponseHead, consumed: Int)
    }

    private struct StatusLine {
        let status: Int
        let version: HTTPVersion
    }

    /// What the requests ask for: the answer to HEAD has no body, whatever its headers say.
    package var method: HTTPMethod

    private let limits: HTTP1Limits
    private var scanner = HeadScanner()
    private var statusLine: StatusLine?
    private var fieldsStart = 0

    /// - Parameter limits: ``HTTP1Limits/bodyBytes`` does not count here; how long a body may be is
    ///   for the client to decide.
    package init(method: HTTPMethod, limits: HTTP1Limits = HTTP1Limits()) {
        self.method = method
        self.limits = limits
    }

    /// Reads on.
    ///
    /// - Parameter input: All bytes that were not consumed yet, the earlier ones unchanged.
    package mutating func parse(_ input: borrowing Span<UInt8>) throws(HTTP1Error) -> Outcome {
        if statusLine == nil {
            let line = try scanner.nextLine(
                in: input,
                from: 0,
                limit: limits.requestLineBytes,
                excess: .headersTooLarge
            )
            guard let line else { return .needMore }
            statusLine = try Self.statusLine(in: input, line)
            fieldsStart = scanner.lineStart
        }
        guard let line = statusLine, try scanner.readFields(of: input, from: fieldsStart, limits)
        else { return .needMore }
        let consumed = scanner.lineStart
        let headers = HTTPHeaders(
            storage: input.bytes(in: 0..<consumed),
            fields: scanner.fields
        )
        let rules = try MessageRules(headers, version: line.version)
        scanner = HeadScanner()
        statusLine = nil
        let head = HTTP1ResponseHead(
            status: line.status,
            headers: headers,
            body: body(status: line.status, rules),
            keepAlive: rules.keepAlive(line.version)
        )
        return .head(head, consumed: consumed)
    }

    /// The length of a response's body (RFC 9112, section 6.3).
    private func body(status: Int, _ rules: MessageRules) -> HTTP1ResponseHead.Body {
        if method == .head || status < 200 || status == 204 || status == 304 { return .none }
        if rules.isChunked { return .chunked }
        return rules.contentLength.map { .length($0) } ?? .untilClose
    }

    /// Reads `HTTP/1.1 200 OK`. The phrase may say anything, and nothing.
    private static func statusLine(
        in input: borrowing Span<UInt8>,
        _ line: Range<Int>
    ) throws(HTTP1Error) -> StatusLine {
        let start = line.lowerBound
        let malformed = HTTP1Error(
            .statusLineMalformed,
            "a response begins with HTTP/1.1 and a status of three digits",
            given: PeerText.display(input.extracting(line))
        )
        guard line.count >= 12,
            let version = HTTPVersion.Number(input, start..<(start + 8))?.known,
            input[start + 8] == Syntax.blank,
            let status = input.decimal(in: (start + 9)..<(start + 12)),
            status >= 100, status < 600,
            line.count == 12 || input[start + 12] == Syntax.blank
        else { throw malformed }
        for index in (start + 12)..<line.upperBound where !Syntax.isFieldValue(input[index]) {
            throw malformed
        }
        return StatusLine(status: Int(status), version: version)
    }
}
