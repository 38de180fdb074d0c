// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// A response up to its body: written by a server, read by a client.
package struct HTTP1ResponseHead: Sendable, Hashable {
    package enum Body: Sendable, Hashable {
        /// Nothing follows, whatever the headers say: an answer to HEAD, 1xx, 204, 304.
        case none
        case length(Int)
        /// Chunks follow, for a ``ChunkedBodyDecoder``.
        case chunked
        /// Everything until the connection is closed.
        case untilClose
    }

    package var status: Int
    package var headers: HTTPHeaders
    package var body: Body

    /// Whether another request may follow over this connection. Never with ``Body/untilClose``.
    package var keepAlive: Bool

    package init(
        status: Int,
        headers: HTTPHeaders = HTTPHeaders(),
        body: Body,
        keepAlive: Bool = true
    ) {
        self.status = status
        self.headers = headers
        self.body = body
        self.keepAlive = keepAlive && body != .untilClose
    }

    /// Appends the head, in HTTP/1.1, complete with the blank line.
    ///
    /// `Content-Length`, `Transfer-Encoding` and `Connection: close` are written from ``body`` and
    /// ``keepAlive``; they must not be among ``headers``.
    package func append(to output: inout ByteWriter) {
        output.append("HTTP/1.1 " as StaticString)
        output.appendDecimal(UInt64(max(0, status)))
        output.append(Syntax.blank)
        output.append(Self.reason(status))
        output.append("\r\n" as StaticString)
        headers.append(to: &output)
        switch body {
        case .none, .untilClose: break
        case .length(let count):
            output.append("Content-Length: " as StaticString)
            output.appendDecimal(UInt64(max(0, count)))
            output.append("\r\n" as StaticString)
        case .chunked:
            output.append("Transfer-Encoding: chunked\r\n" as StaticString)
        }
        if !keepAlive || body == .untilClose {
            output.append("Connection: close\r\n" as StaticString)
        }
        output.append("\r\n" as StaticString)
    }

    /// Appends one chunk of a chunked body. Nothing is written for no bytes, because an empty
    /// chunk would end the body.
    package static func appendChunk(
        _ bytes: borrowing Span<UInt8>,
        to output: inout ByteWriter
    ) {
        guard !bytes.isEmpty else { return }
        output.append(String(bytes.count, radix: 16))
        output.append("\r\n" as StaticString)
        output.append(bytes)
        output.append("\r\n" as StaticString)
    }

    /// Ends a chunked body.
    package static func appendLastChunk(to output: inout ByteWriter) {
        output.append("0\r\n\r\n" as StaticString)
    }

    /// The standard phrase of a status (RFC 9110, section 15); empty where it has none.
    package static func reason(_ status: Int) -> StaticString {
        switch status {
        case 100: "Continue"
        case 101: "Switching Protocols"
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 206: "Partial Content"
        case 301: "Moved Permanently"
        case 302: "Found"
        case 303: "See Other"
        case 304: "Not Modified"
        case 307: "Temporary Redirect"
        case 308: "Permanent Redirect"
        default: errorReason(status)
        }
    }

    private static func errorReason(_ status: Int) -> StaticString {
        switch status {
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 406: "Not Acceptable"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 410: "Gone"
        case 411: "Length Required"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 421: "Misdirected Request"
        case 422: "Unprocessable Content"
        case 426: "Upgrade Required"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: ""
        }
    }
}
