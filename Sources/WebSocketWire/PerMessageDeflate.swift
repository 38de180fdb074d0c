// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a server agrees on of permessage-deflate (RFC 7692, section 7.1).
///
/// Always without context takeover in both directions, whether the client asked for that or not:
/// the server's messages are the same for all clients, and a client's message needs no memory
/// once it is read.
package struct PerMessageDeflate: Sendable, Hashable {
    /// What the server's messages refer back to at most.
    package let window: DeflateWindow
    /// The client gave a bound, so it is told what the server takes.
    private let saysWindow: Bool

    /// Offers of one request that are looked at. Browsers make one.
    private static let offersMax = 16
    private static let name = "permessage-deflate"

    /// The first offer that can be kept, or `nil`: then messages are not compressed.
    ///
    /// - Parameter fields: The values of all fields `Sec-WebSocket-Extensions`.
    package init?(offers fields: [String]) throws(WebSocketError) {
        var found: PerMessageDeflate?
        var seen = 0
        // All are read, also behind the one that is taken: a field that is no list of extensions
        // fails the handshake wherever the fault is (RFC 6455, section 9.1).
        for field in fields {
            var scanner = ExtensionScanner(field)
            while let offer = try scanner.nextExtension() {
                seen += 1
                guard found == nil, seen <= Self.offersMax, offer.name == Self.name else {
                    continue
                }
                found = PerMessageDeflate(offer.parameters)
            }
        }
        guard let found else { return nil }
        self = found
    }

    /// `nil` where a parameter is unknown, comes twice or has a value that it cannot have: such an
    /// offer is declined (section 7.1).
    private init?(_ parameters: [(name: String, value: String?)]) {
        var seen: Set<String> = []
        var window = DeflateWindow.wide
        var saysWindow = false
        for (name, value) in parameters {
            guard seen.insert(name).inserted else { return nil }
            switch (name, value) {
            case ("server_no_context_takeover", nil), ("client_no_context_takeover", nil): break
            case ("client_max_window_bits", nil): break
            case ("client_max_window_bits", let value?):
                // The server decompresses whatever window a client has.
                guard Self.bits(value) != nil else { return nil }
            case ("server_max_window_bits", let value?):
                guard let bits = Self.bits(value), let fits = DeflateWindow(bits: bits) else {
                    return nil
                }
                window = fits
                saysWindow = true
            default: return nil
            }
        }
        self.window = window
        self.saysWindow = saysWindow
    }

    /// 8 to 15, without leading zeros.
    private static func bits(_ text: String) -> Int? {
        (8...15).first { String($0) == text }
    }

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    package var answer: String {
        let bits = saysWindow ? "; server_max_window_bits=\(window.bits)" : ""
        return "\(Self.name); server_no_context_takeover; client_no_context_takeover\(bits)"
    }
}

/// Takes a `Sec-WebSocket-Extensions` apart (RFC 6455, section 9.1).
private struct ExtensionScanner {
    private let bytes: [UInt8]
    private var position = 0

    init(_ field: String) { bytes = Array(field.utf8) }

    /// The next extension, or `nil` at the end.
    mutating func nextExtension() throws(WebSocketError)
        -> (name: String, parameters: [(name: String, value: String?)])?
    {
        // A list may have empty members (RFC 9110, section 5.6.1).
        repeat { skipBlanks() } while take(",")
        guard position < bytes.count else { return nil }
        let name = try token()
        var parameters: [(name: String, value: String?)] = []
        skipBlanks()
        while take(";") {
            skipBlanks()
            let parameter = try token()
            skipBlanks()
            var value: String?
            if take("=") {
                skipBlanks()
                value = try take("\"") ? quoted() : token()
                skipBlanks()
            }
            parameters.append((parameter, value))
        }
        guard position == bytes.count || take(",") else { throw malformed }
        return (name, parameters)
    }

    private var malformed: WebSocketError {
        WebSocketError(
            .extensionsMalformed,
            "\"Sec-WebSocket-Extensions\" lists extensions, such as \"permessage-deflate; "
                + "client_max_window_bits\"; this is not one at byte \(position + 1)")
    }

    private mutating func skipBlanks() {
        while position < bytes.count, bytes[position] == 0x20 || bytes[position] == 0x09 {
            position += 1
        }
    }

    private mutating func take(_ sign: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: sign) else { return false }
        position += 1
        return true
    }

    private mutating func token() throws(WebSocketError) -> String {
        let start = position
        while position < bytes.count, Self.isTokenByte(bytes[position]) { position += 1 }
        guard position > start else { throw malformed }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// The rest of a quoted string, which has to be a token once it is unquoted.
    private mutating func quoted() throws(WebSocketError) -> String {
        var value: [UInt8] = []
        while !take("\"") {
            _ = take("\\")
            guard position < bytes.count, Self.isTokenByte(bytes[position]) else { throw malformed }
            value.append(bytes[position])
            position += 1
        }
        guard !value.isEmpty else { throw malformed }
        return String(decoding: value, as: UTF8.self)
    }

    /// RFC 9110, section 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
