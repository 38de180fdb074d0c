// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// The server's side of the opening handshake (RFC 6455, section 4.2), without the HTTP around it.
package enum WebSocketHandshake {
    /// The one version there is.
    package static let version = "13"

    /// What is hashed together with the client's key (RFC 6455, section 1.3).
    private static let suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    /// The value of `Sec-WebSocket-Accept` that answers a request.
    ///
    /// - Parameters:
    ///   - asksForWebSocket: `Upgrade` lists `websocket`, in whatever case.
    ///   - asksForUpgrade: `Connection` lists `upgrade`, in whatever case.
    ///   - versions: The values of all fields `Sec-WebSocket-Version`.
    ///   - keys: The values of all fields `Sec-WebSocket-Key`.
    package static func accept(
        asksForWebSocket: Bool, asksForUpgrade: Bool, versions: [String], keys: [String]
    ) throws(WebSocketError) -> String {
        guard asksForWebSocket, asksForUpgrade else {
            throw WebSocketError(
                .notAnUpgrade,
                "a WebSocket begins with a GET over HTTP/1.1 with \"Upgrade: websocket\" and "
                    + "\"Connection: Upgrade\"")
        }
        guard versions == [version] else {
            throw WebSocketError(
                .versionUnsupported, "only \"Sec-WebSocket-Version: \(version)\" is spoken here")
        }
        guard keys.count == 1, isKey(keys[0]) else {
            throw WebSocketError(
                .keyMalformed, "\"Sec-WebSocket-Key\" is 16 bytes in base64, given exactly once")
        }
        return try accept(key: keys[0])
    }

    /// The base64 form of 16 bytes: 22 digits and two signs that nothing follows.
    private static func isKey(_ key: String) -> Bool {
        let bytes = Array(key.utf8)
        guard bytes.count == 24, bytes[22] == UInt8(ascii: "="), bytes[23] == UInt8(ascii: "=")
        else { return false }
        return bytes.prefix(22).allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"):
                true
            default: false
            }
        }
    }

    private static func accept(key: String) throws(WebSocketError) -> String {
        let text = Array((key + suffix).utf8)
        var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
        guard unsafe SHA1(text, text.count, &digest) != nil else {
            throw WebSocketError(.digestUnavailable, "OpenSSL does not compute SHA-1 here")
        }
        // Four characters for three bytes, and the zero that OpenSSL adds.
        var encoded = [UInt8](repeating: 0, count: (digest.count + 2) / 3 * 4 + 1)
        let count = unsafe EVP_EncodeBlock(&encoded, digest, CInt(digest.count))
        return String(decoding: encoded.prefix(Int(count)), as: UTF8.self)
    }
}
