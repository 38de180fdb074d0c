// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Reads the heads of requests as their bytes arrive (RFC 9112).
///
/// Threads: the loop that owns the connection. The caller keeps the unread bytes and passes all of
/// them each time, with what has arrived since; the parser remembers how far it has looked.
///
/// Strict on purpose: no folded lines, no bare CR or LF, no blank before a colon, one `Host`, one
/// way to tell the body's length. One empty line before a request is skipped (RFC 9112, section
/// 2.2).
package struct HTTP1RequestParser: Sendable {
    package enum Outcome: Sendable, Hashable {
        case needMore
        /// A request, and how many of the bytes were its head. Its body follows.
        case head(HTTP1RequestHead, consumed: Int)
    }

    private struct RequestLine {
        let method: HTTPMethod
        let target: RequestTarget
        let version: HTTPVersion
    }

    private let limits: HTTP1Limits
    private var scanner = HeadScanner()
    private var requestLine: RequestLine?
    private var fieldsStart = 0

    package init(limits: HTTP1Limits = HTTP1Limits()) { self.limits = limits }

    /// Whether a request has begun to arrive and is not complete.
    package private(set) var isInsideHead = false

    /// Reads on.
    ///
    /// - Parameter input: All bytes that were not consumed yet, the earlier ones unchanged.
    package mutating func parse(
        _ input: borrowing Span<UInt8>
    ) throws(HTTP1Error) -> Outcome {
        isInsideHead = !input.isEmpty
        if requestLine == nil {
            guard let line = try readRequestLine(input) else { return .needMore }
            requestLine = line
            fieldsStart = scanner.lineStart
        }
        guard let line = requestLine, try scanner.readFields(of: input, from: fieldsStart, limits)
        else { return .needMore }
        let consumed = scanner.lineStart
        let head = try HTTP1RequestHead(
            method: line.method,
            target: line.target,
            headers: HTTPHeaders(storage: input.bytes(in: 0..<consumed), fields: scanner.fields),
            version: line.version,
            limits: limits
        )
        scanner = HeadScanner()
        requestLine = nil
        isInsideHead = false
        return .head(head, consumed: consumed)
    }

    private mutating func readRequestLine(
        _ input: borrowing Span<UInt8>
    ) throws(HTTP1Error) -> RequestLine? {
        while true {
            let start = scanner.lineStart
            guard start < input.count else { return nil }
            let first = input[start]
            // Another protocol on this port is told at once, not when its line ends.
            let isLineBreak = first == Syntax.carriageReturn || first == Syntax.lineFeed
            guard Syntax.isToken(first) || (isLineBreak && start == 0) else {
                throw Self.malformed(input.extracting(start..<input.count))
            }
            let line = try scanner.nextLine(
                in: input,
                from: start,
                limit: limits.requestLineBytes,
                excess: .targetTooLong
            )
            guard let line else { return nil }
            if !line.isEmpty { return try Self.requestLine(in: input, line) }
        }
    }

    private static func requestLine(
        in input: borrowing Span<UInt8>,
        _ line: Range<Int>
    ) throws(HTTP1Error) -> RequestLine {
        var methodEnd = line.lowerBound
        while methodEnd < line.upperBound, Syntax.isToken(input[methodEnd]) { methodEnd += 1 }
        guard methodEnd < line.upperBound, input[methodEnd] == Syntax.blank else {
            throw malformed(input.extracting(line))
        }
        guard methodEnd - line.lowerBound <= HTTP1Limits.methodBytes else {
            throw HTTP1Error(
                .methodTooLong,
                "a method has at most \(HTTP1Limits.methodBytes) letters"
            )
        }
        let method = HTTPMethod(input.text(in: line.lowerBound..<methodEnd))
        let targetEnd =
            input.extracting(0..<line.upperBound)
            .firstIndex(of: Syntax.blank, from: methodEnd + 1)
        guard let targetEnd else { throw malformed(input.extracting(line)) }
        // The version first: what another version means by its target is not for us to judge.
        let version = try version(in: input, (targetEnd + 1)..<line.upperBound, of: line)
        let target = try RequestTarget(input, (methodEnd + 1)..<targetEnd, method: method)
        return RequestLine(method: method, target: target, version: version)
    }

    private static func version(
        in input: borrowing Span<UInt8>,
        _ range: Range<Int>,
        of line: Range<Int>
    ) throws(HTTP1Error) -> HTTPVersion {
        guard let version = HTTPVersion.Number(input, range) else {
            throw malformed(input.extracting(line))
        }
        guard let known = version.known else {
            throw HTTP1Error(
                .versionUnsupported,
                "HTTP/1.1 and HTTP/1.0 are spoken here",
                given: PeerText.display(input.extracting(range))
            )
        }
        return known
    }

    private static func malformed(_ line: borrowing Span<UInt8>) -> HTTP1Error {
        HTTP1Error(
            .requestLineMalformed,
            "a request begins with a method, a target and a version, one blank between them",
            given: PeerText.display(line)
        )
    }
}

extension HTTPVersion {
    /// A version as it is written: `HTTP/`, a digit, a dot, a digit.
    struct Number {
        let major: UInt8
        let minor: UInt8

        init?(_ input: borrowing Span<UInt8>, _ range: Range<Int>) {
            let start = range.lowerBound
            guard range.count == 8, Syntax.matches(input, start..<(start + 5), "HTTP/"),
                // Case counts here.
                input[start] == UInt8(ascii: "H"), input[start + 1] == UInt8(ascii: "T"),
                input[start + 2] == UInt8(ascii: "T"), input[start + 3] == UInt8(ascii: "P"),
                input[start + 6] == UInt8(ascii: ".")
            else { return nil }
            major = input[start + 5] &- UInt8(ascii: "0")
            minor = input[start + 7] &- UInt8(ascii: "0")
            guard major <= 9, minor <= 9 else { return nil }
        }

        var known: HTTPVersion? {
            switch (major, minor) {
            case (1, 1): .oneOne
            case (1, 0): .oneZero
            default: nil
            }
        }
    }
}

extension Span where Element == UInt8 {
    /// A copy of the bytes in `range`.
    func bytes(in range: Range<Int>) -> [UInt8] {
        unsafe extracting(range).withUnsafeBufferPointer { unsafe [UInt8]($0) }
    }
}
