// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// `host:port`, with an IPv6 address in brackets.
struct HostAndPort {
    let host: String
    let port: UInt16

    init?(_ text: String, ports: ClosedRange<UInt16>) {
        guard let colon = text.lastIndex(of: ":"), text.utf8.count <= 320 else { return nil }
        guard let port = Self.number(text[text.index(after: colon)...]), ports.contains(port)
        else { return nil }
        guard let host = Self.host(text[..<colon]) else { return nil }
        self.host = host
        self.port = port
    }

    /// Takes the brackets off an IPv6 address; `nil` for what can be no host.
    static func host(_ text: Substring) -> String? {
        if text.hasPrefix("["), text.hasSuffix("]") {
            let inner = String(text.dropFirst().dropLast())
            return isAddress(inner, of: AF_INET6) ? inner : nil
        }
        let isName = text.utf8.allSatisfy { $0.isASCIILetterOrDigit || $0.isOne(of: ".-_") }
        return !text.isEmpty && text.utf8.count <= 253 && isName ? String(text) : nil
    }

    var isNumeric: Bool {
        Self.isAddress(host, of: AF_INET) || Self.isAddress(host, of: AF_INET6)
    }

    static func number(_ text: Substring) -> UInt16? {
        guard !text.isEmpty, text.utf8.count <= 5, text.utf8.allSatisfy(\.isASCIIDigit)
        else { return nil }
        return UInt16(text)
    }

    private static func isAddress(_ text: String, of family: CInt) -> Bool {
        var address = in6_addr()  // The larger of the two.
        return unsafe inet_pton(family, text, &address) == 1
    }
}
