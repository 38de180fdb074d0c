// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// Writes requests, for the clients among our programs.
package enum HTTP1RequestEncoder {
    /// Appends the head of an HTTP/1.1 request, complete with the blank line.
    ///
    /// `Host`, `Content-Length` and `Connection: close` are written from the parameters; they must
    /// not be among `headers`.
    ///
    /// - Parameters:
    ///   - target: Begins with a slash. What cannot stand in a target is percent-encoded; what can
    ///     is left as it is, a percent sign too.
    ///   - host: With the port where it is not the scheme's own.
    ///   - bodyBytes: `nil` for a request without a body.
    package static func append(
        method: HTTPMethod,
        target: String,
        host: String,
        headers: HTTPHeaders = HTTPHeaders(),
        bodyBytes: Int? = nil,
        keepAlive: Bool = true,
        to output: inout ByteWriter
    ) {
        for byte in method.description.utf8 where Syntax.isToken(byte) { output.append(byte) }
        output.append(Syntax.blank)
        for byte in target.utf8 {
            let isAllowed = byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "#")
            PercentCoding.append(byte, escaped: !isAllowed, to: &output)
        }
        output.append(" HTTP/1.1\r\n" as StaticString)
        var fields = HTTPHeaders()
        fields.append("Host", host)
        if let bodyBytes { fields.append("Content-Length", String(max(0, bodyBytes))) }
        if !keepAlive { fields.append("Connection", "close") }
        fields.append(to: &output)
        headers.append(to: &output)
        output.append("\r\n" as StaticString)
    }
}
