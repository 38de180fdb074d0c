// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Cuts the head of a message into lines and checks its fields, as the bytes arrive.
///
/// It remembers how far it has searched, so a head that arrives byte by byte is read once.
struct HeadScanner: Sendable {
    /// Where the line that is being read begins.
    private(set) var lineStart = 0
    private var searched = 0
    private(set) var fields: [HTTPHeaders.Field] = []

    /// The next line without its CRLF, or `nil` when it has not arrived in full.
    ///
    /// - Parameters:
    ///   - start: Where the part of the head begins that the line belongs to.
    ///   - limit: How many bytes that part may have, CRLF included.
    ///   - excess: What it is called if it has more.
    mutating func nextLine(
        in input: borrowing Span<UInt8>,
        from start: Int,
        limit: Int,
        excess: HTTP1Error.Code
    ) throws(HTTP1Error) -> Range<Int>? {
        let found = input.firstIndex(of: Syntax.lineFeed, from: searched)
        guard (found ?? input.count) < start + limit else {
            let part = excess == .targetTooLong ? "a request line has" : "all headers together have"
            throw HTTP1Error(excess, "\(part) at most \(limit) bytes")
        }
        guard let found else {
            searched = input.count
            return nil
        }
        guard found > lineStart, input[found - 1] == Syntax.carriageReturn else {
            throw HTTP1Error(.bareLineFeed, "a line ends in CR LF, not in LF alone")
        }
        let line = lineStart..<(found - 1)
        lineStart = found + 1
        searched = lineStart
        return line
    }

    /// Reads header fields until the blank line.
    ///
    /// - Returns: Whether the head is complete; ``lineStart`` is then its length.
    mutating func readFields(
        of input: borrowing Span<UInt8>,
        from start: Int,
        _ limits: HTTP1Limits
    ) throws(HTTP1Error) -> Bool {
        while true {
            let line = try nextLine(
                in: input,
                from: start,
                limit: limits.headerBytes,
                excess: .headersTooLarge
            )
            guard let line else { return false }
            if line.isEmpty { return true }
            guard fields.count < limits.headerCount else {
                throw HTTP1Error(
                    .tooManyHeaders,
                    "at most \(limits.headerCount) header fields are read"
                )
            }
            fields.append(try Self.field(in: input, line))
        }
    }

    /// Reads one `name: value` line (RFC 9112, section 5).
    private static func field(
        in input: borrowing Span<UInt8>,
        _ line: Range<Int>
    ) throws(HTTP1Error) -> HTTPHeaders.Field {
        var colon = line.lowerBound
        while colon < line.upperBound, Syntax.isToken(input[colon]) { colon += 1 }
        guard colon > line.lowerBound, colon < line.upperBound,
            input[colon] == UInt8(ascii: ":")
        else { throw malformedName(in: input, line, stoppedAt: colon) }
        let name = line.lowerBound..<colon
        for index in (colon + 1)..<line.upperBound where !Syntax.isFieldValue(input[index]) {
            if input[index] == Syntax.carriageReturn { throw bareCarriageReturn }
            throw HTTP1Error(
                .headerMalformed,
                "a header value has no control character",
                parameter: PeerText.display(input.extracting(name)),
                given: PeerText.display(input.extracting((colon + 1)..<line.upperBound))
            )
        }
        let value = Syntax.trim((colon + 1)..<line.upperBound, in: input)
        return HTTPHeaders.Field(name: name, value: value)
    }

    private static func malformedName(
        in input: borrowing Span<UInt8>,
        _ line: Range<Int>,
        stoppedAt stop: Int
    ) -> HTTP1Error {
        let given = PeerText.display(input.extracting(line))
        guard stop < line.upperBound else {
            return HTTP1Error(.headerMalformed, "a header line has a colon", given: given)
        }
        let byte = input[stop]
        if byte == Syntax.carriageReturn { return bareCarriageReturn }
        let isBlank = byte == Syntax.blank || byte == Syntax.tab
        if isBlank, stop == line.lowerBound {
            return HTTP1Error(
                .foldedHeader,
                "a header line does not begin with a blank",
                given: given
            )
        }
        return HTTP1Error(
            .headerMalformed,
            isBlank
                ? "no blank stands between a header's name and its colon"
                : "a header's name is a token (RFC 9110, section 5.6.2)",
            given: given
        )
    }

    static var bareCarriageReturn: HTTP1Error {
        HTTP1Error(.bareCarriageReturn, "CR stands only before LF")
    }
}
