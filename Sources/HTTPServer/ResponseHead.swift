// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire

/// The head of an answer as a handler gives it, with what the connection adds.
struct ResponseHead {
    enum Persistence {
        /// As the version says.
        case implied
        /// Said aloud, for HTTP/1.0.
        case keepAlive
        case close
    }

    let status: Int
    let headers: [(String, String)]
    /// The `Content-Length`, or `nil` for none.
    var contentLength: Int?
    var persistence = Persistence.implied
    var server: String?
    var date: String?

    /// 1xx, 204 and 304 have neither a body nor a length (RFC 9110, section 8.6).
    static func hasBody(_ status: Int) -> Bool { status >= 200 && status != 204 && status != 304 }

    /// The head with the blank line that ends it.
    var bytes: [UInt8] {
        var output = ByteWriter(reserving: 256)
        output.append("HTTP/1.1 " as StaticString)
        output.appendDecimal(UInt64(max(0, status)))
        output.append(" " as StaticString)
        output.append(HTTP1ResponseHead.reason(status))
        output.append("\r\n" as StaticString)
        for (name, value) in headers { Self.append(name, value, to: &output) }
        if let server { Self.append("Server", server, to: &output) }
        if let date { Self.append("Date", date, to: &output) }
        if let contentLength {
            output.append("Content-Length: " as StaticString)
            output.appendDecimal(UInt64(contentLength))
            output.append("\r\n" as StaticString)
        }
        switch persistence {
        case .implied: break
        case .keepAlive: output.append("Connection: keep-alive\r\n" as StaticString)
        case .close: output.append("Connection: close\r\n" as StaticString)
        }
        output.append("\r\n" as StaticString)
        return output.bytes
    }

    /// A value may hold what a peer gave: no character of it can end the line.
    private static func append(_ name: String, _ value: String, to output: inout ByteWriter) {
        precondition(
            !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x3a },
            "\"\(name)\" is no header name")
        output.append(name)
        output.append(": " as StaticString)
        for byte in value.utf8 {
            output.append((byte >= 0x20 && byte != 0x7f) || byte == 0x09 ? byte : 0x20)
        }
        output.append("\r\n" as StaticString)
    }
}
