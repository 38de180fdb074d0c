// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire
package import NodeConfiguration
package import PosixIO

/// Who may tell a node what to do (`/admin/…`).
///
/// With a token in the configuration: whoever shows it. Without one: whoever is on the same
/// machine, which a process behind a proxy there is not, nor a page in a browser there.
package struct AdminGate: Sendable {
    private let token: [UInt8]?

    /// - Parameter token: `nil` admits those of the same machine.
    package init(token: Secret?) { self.token = token.map { Array($0.reveal().utf8) } }

    /// Why the request is refused, or `nil` where it may be done.
    package func refusal(_ headers: HTTPHeaders, peer: SocketAddress) -> ProblemDetails? {
        if let token {
            let given = headers.all("Authorization")
            guard given.count == 1, let text = given.first,
                text.utf8.count > Self.scheme.utf8.count,
                text.prefix(Self.scheme.count).lowercased() == Self.scheme,
                Self.areEqual(Array(text.utf8.dropFirst(Self.scheme.utf8.count)), token)
            else {
                return ProblemDetails(
                    status: 401, title: "Not authorised",
                    detail: "This wants the header Authorization: Bearer with admin.token.")
            }
            return nil
        }
        guard peer.isLoopback else {
            return Self.forbidden("without admin.token only the node's own machine may do this")
        }
        for name in Self.proxyHeaders where headers.contains(name) {
            return Self.forbidden("without admin.token nobody may do this through a proxy: \(name)")
        }
        // A browser names the page that sends a request which changes something.
        guard !headers.contains("Origin") else {
            return Self.forbidden("without admin.token no page in a browser may do this")
        }
        return nil
    }

    private static let scheme = "bearer "
    private static let proxyHeaders = ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"]

    private static func forbidden(_ detail: String) -> ProblemDetails {
        ProblemDetails(status: 403, title: "Forbidden", detail: detail)
    }

    /// Takes as long for a guess whose beginning is right as for any other of its length.
    static func areEqual(_ guess: [UInt8], _ token: [UInt8]) -> Bool {
        var difference = UInt8(guess.count == token.count ? 0 : 1)
        for index in guess.indices {
            difference |= guess[index] ^ (token.isEmpty ? 0 : token[index % token.count])
        }
        return difference == 0
    }
}

extension SocketAddress {
    /// True where the peer is a process of the same machine.
    package var isLoopback: Bool {
        switch self {
        case .ipv4(let address, _): return address >> 24 == 127
        case .ipv6(let bytes, _):
            guard bytes.count == 16, bytes[..<10].allSatisfy({ $0 == 0 }) else { return false }
            // An IPv4 address in IPv6's clothes.
            if bytes[10] == 255, bytes[11] == 255 { return bytes[12] == 127 }
            return bytes[10..<15].allSatisfy { $0 == 0 } && bytes[15] == 1
        case .unix: return true
        }
    }
}
