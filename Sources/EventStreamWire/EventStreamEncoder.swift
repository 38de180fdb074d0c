// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// Writes the `text/event-stream` format (WHATWG HTML, section 9.2 "Server-sent events").
///
/// Whatever bytes come in, the fields of the caller are the only lines that come out: the ID is
/// two numbers, and line breaks in a name or a comment cannot start a field.
package enum EventStreamEncoder {
    private static let carriageReturn = UInt8(ascii: "\r")
    private static let lineFeed = UInt8(ascii: "\n")

    /// Appends one event, complete with the blank line that dispatches it.
    ///
    /// A parser gets `data` back with each CR, LF and CRLF as one LF, because the format has no way
    /// to say which it was.
    ///
    /// - Parameters:
    ///   - id: `nil` leaves the client's cursor where it is.
    ///   - name: The event's type; `nil` or empty means `message`. A line break in it becomes a
    ///     space.
    package static func append(
        id: EventID?,
        name: String?,
        data: borrowing Span<UInt8>,
        to output: inout ByteWriter
    ) {
        if let id {
            output.append("id: " as StaticString)
            id.append(to: &output)
            output.append(lineFeed)
        }
        if let name, !name.isEmpty {
            output.append("event: " as StaticString)
            appendOneLine(name, to: &output)
            output.append(lineFeed)
        }
        appendLines(of: data, after: "data: ", to: &output)
        output.append(lineFeed)
    }

    /// Appends one event, complete with the blank line that dispatches it.
    package static func append(
        id: EventID?,
        name: String?,
        data: String,
        to output: inout ByteWriter
    ) {
        let bytes = Array(data.utf8)
        append(id: id, name: name, data: bytes.span, to: &output)
    }

    /// Appends a comment, which clients ignore: what keeps an idle connection alive.
    ///
    /// A blank line follows, for clients that cut the stream at blank lines before they parse it.
    package static func appendComment(_ text: String, to output: inout ByteWriter) {
        let bytes = Array(text.utf8)
        appendLines(of: bytes.span, after: ": ", to: &output)
        output.append(lineFeed)
    }

    /// Appends the delay after which a client that lost its connection comes back, in whole
    /// milliseconds; a negative one is zero.
    package static func appendRetry(_ delay: Duration, to output: inout ByteWriter) {
        let (seconds, attoseconds) = delay.components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
        let (sum, carry) = whole.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
        let milliseconds = overflow || carry ? (seconds < 0 ? 0 : .max) : max(0, sum)
        output.append("retry: " as StaticString)
        output.appendDecimal(UInt64(milliseconds))
        output.append("\n\n" as StaticString)
    }

    private static func appendLines(
        of text: borrowing Span<UInt8>,
        after prefix: StaticString,
        to output: inout ByteWriter
    ) {
        output.append(prefix)
        var start = 0
        // Nearly all data is JSON on one line: two fast searches, and one copy.
        let hasBreak =
            text.firstIndex(of: lineFeed) != nil || text.firstIndex(of: carriageReturn) != nil
        var index = hasBreak ? 0 : text.count
        while index < text.count {
            let byte = text[index]
            guard byte == lineFeed || byte == carriageReturn else {
                index += 1
                continue
            }
            output.append(text.extracting(start..<index))
            output.append(lineFeed)
            output.append(prefix)
            let next = index + 1
            let isPair =
                byte == carriageReturn && next < text.count && text[next] == lineFeed
            index = isPair ? next + 1 : next
            start = index
        }
        output.append(text.extracting(start..<text.count))
        output.append(lineFeed)
    }

    private static func appendOneLine(_ text: String, to output: inout ByteWriter) {
        for byte in text.utf8 {
            let isBreak = byte == lineFeed || byte == carriageReturn
            output.append(isBreak ? UInt8(ascii: " ") : byte)
        }
    }
}
