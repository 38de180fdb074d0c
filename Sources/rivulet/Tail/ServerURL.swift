// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Where a client command connects to, and what it asks for there.
struct ServerURL: Sendable, Equatable {
    /// What proxies and servers take in a request line.
    static let textBytesMax = 8 * 1024

    /// A name or a numeric address, without brackets.
    let host: String
    let port: UInt16
    /// Path and query; empty where the URL has none.
    let target: String

    /// Reads `http://host[:port][/path][?query]`; the scheme may be left out.
    static func parse(_ text: String) throws(ProgramError) -> ServerURL {
        func refused(_ reason: String) -> ProgramError {
            ProgramError(
                .usage,
                "URL \"\(PeerText.display(text))\": \(reason); write http://host:port/path, "
                    + "such as http://127.0.0.1:8080/api/v1/sse/cameras")
        }
        guard text.utf8.count <= textBytesMax else {
            throw refused("it has more than \(textBytesMax) bytes")
        }
        let beforePath = text.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var rest = text[...]
        if beforePath.hasSuffix(":"), text[beforePath.endIndex...].hasPrefix("//") {
            switch beforePath.dropLast().lowercased() {
            case "http": rest = text[beforePath.endIndex...].dropFirst(2)
            case "https":
                throw refused(
                    "https is not spoken here; connect to a node's own port, "
                        + "or use a TLS client such as curl -N")
            default: throw refused("only http is spoken")
            }
        }
        rest = rest.prefix { $0 != "#" }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        var target = String(rest[authority.endIndex...])
        if target.hasPrefix("?") { target = "/" + target }
        guard !authority.contains("@") else {
            throw refused("a user name or password has no place in it; use --header")
        }
        guard let (host, port) = split(authority) else {
            throw refused("\"\(PeerText.display(String(authority)))\" is no host and port")
        }
        return ServerURL(host: host, port: port, target: target)
    }

    /// The URL that `location`, from a redirect of this one, leads to.
    func following(_ location: String) throws(ProgramError) -> ServerURL {
        guard location.hasPrefix("/"), !location.hasPrefix("//") else {
            return try Self.parse(location)
        }
        return with(target: location)
    }

    /// The same server, another target.
    func with(target: String) -> ServerURL { ServerURL(host: host, port: port, target: target) }

    /// True where the query has a parameter of that name, written without escapes.
    func hasParameter(_ name: String) -> Bool {
        guard let question = target.firstIndex(of: "?") else { return false }
        return target[question...].dropFirst().split(separator: "&").contains {
            $0.prefix { $0 != "=" } == name
        }
    }

    /// True where only the server is named.
    var isServerOnly: Bool { target.isEmpty || target == "/" }

    /// As in a `Host` field: the port is left out where it is HTTP's own.
    var authority: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == 80 ? name : "\(name):\(port)"
    }

    var text: String { "http://\(authority)\(target)" }

    private static func split(_ authority: Substring) -> (host: String, port: UInt16)? {
        var host = authority
        var portText: Substring?
        if authority.first == "[" {
            guard let bracket = authority.firstIndex(of: "]") else { return nil }
            host = authority[..<bracket].dropFirst()
            let after = authority[bracket...].dropFirst()
            guard after.isEmpty || after.first == ":" else { return nil }
            portText = after.isEmpty ? nil : after.dropFirst()
        } else if let colon = authority.firstIndex(of: ":") {
            host = authority[..<colon]
            portText = authority[colon...].dropFirst()
        }
        guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
        guard let portText else { return (String(host), 80) }
        guard let port = UInt16(portText), port > 0 else { return nil }
        return (String(host), port)
    }
}
