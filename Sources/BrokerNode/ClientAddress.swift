// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire
package import PosixIO

/// Who a client is, for the limits of one client: its address.
///
/// Behind a proxy that is trusted it is the address that the proxy names. Proxies append to
/// `X-Forwarded-For`, so it is read from its end, and only as far as those who wrote it are
/// trusted: what stands before was written by anybody.
package struct ClientAddress: Sendable {
    private let trusted: Set<SocketAddress>
    /// Entries that are looked at, so that a header of nothing but proxies costs little.
    private static let entriesMax = 32

    /// - Parameter trustedProxies: Numeric addresses.
    package init(trustedProxies: [String]) {
        trusted = Set(trustedProxies.compactMap { Self.address($0) })
    }

    /// The principal of whoever sent `headers` from `peer`.
    package func principal(_ headers: HTTPHeaders, peer: SocketAddress) -> String {
        guard var client = Self.address(peer.host) else { return "local" }
        guard trusted.contains(client) else { return Self.text(client) }
        let entries = headers.all("X-Forwarded-For").joined(separator: ",")
            .split(separator: ",", omittingEmptySubsequences: true)
        for entry in entries.reversed().prefix(Self.entriesMax) {
            // What a trusted proxy has appended and cannot be read is nobody else's.
            guard let named = Self.address(entry.trimmingBlanks) else { break }
            client = named
            guard trusted.contains(named) else { break }
        }
        return Self.text(client)
    }

    /// An IPv4 address inside an IPv6 one is the IPv4 address (RFC 4291, section 2.5.5.2).
    private static func address(_ host: String) -> SocketAddress? {
        guard let address = SocketAddress(numericHost: host, port: 0) else { return nil }
        guard case .ipv6(let bytes, _) = address,
            bytes.prefix(12).elementsEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
        else { return address }
        return .ipv4(bytes.suffix(4).reduce(0) { $0 << 8 | UInt32($1) }, port: 0)
    }

    /// One network of IPv6 is one client: it chooses among 2^64 addresses of its own.
    private static func text(_ address: SocketAddress) -> String {
        guard case .ipv6(let bytes, let port) = address else { return address.host }
        let network = SocketAddress.ipv6(
            bytes.prefix(8) + [UInt8](repeating: 0, count: 8), port: port)
        return network.host + "/64"
    }
}

extension Substring {
    fileprivate var trimmingBlanks: String {
        String(
            drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }
}
