// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Where a Redis server is, read from its URL.
package enum RedisEndpoint: Sendable, Equatable {
    case tcp(host: String, port: UInt16, database: Int)
    /// TCP with TLS on it.
    case tls(host: String, port: UInt16, database: Int)
    case unix(path: String, database: Int)

    /// Why a text is no URL of a Redis server. Never holds a part of the text.
    struct Refusal: Error {
        let reason: String
    }

    package var database: Int {
        switch self {
        case .tcp(_, _, let database), .tls(_, _, let database), .unix(_, let database): database
        }
    }

    /// True where the server is surely on this machine.
    package var isOnThisMachine: Bool {
        switch self {
        case .unix: true
        case .tcp(let host, _, _), .tls(let host, _, _):
            host == "localhost" || host == "::1" || host.hasPrefix("127.")
        }
    }

    init(url: String) throws(Refusal) {
        if let reason = TextRule.refuseSize(url, 1...512) ?? TextRule.refuseUnprintable(url) {
            throw Refusal(reason: reason)
        }
        if url.hasPrefix("redis://") {
            let (host, port, database) = try Self.tcp(url.dropFirst("redis://".count))
            self = .tcp(host: host, port: port, database: database)
        } else if url.hasPrefix("rediss://") {
            let (host, port, database) = try Self.tcp(url.dropFirst("rediss://".count))
            self = .tls(host: host, port: port, database: database)
        } else if url.hasPrefix("unix://") {
            self = try Self.unix(url.dropFirst("unix://".count))
        } else {
            throw Refusal(reason: "has a scheme other than redis://, rediss:// and unix://")
        }
    }

    private static func tcp(
        _ rest: Substring
    ) throws(Refusal) -> (host: String, port: UInt16, database: Int) {
        guard !rest.contains("@") else {
            throw Refusal(
                reason: "holds credentials; put them in redis.username and redis.password")
        }
        guard !rest.contains(where: { $0 == "?" || $0 == "#" }) else {
            throw Refusal(reason: "holds a query, which only unix:// has")
        }
        let slash = rest.firstIndex(of: "/")
        let authority = rest[..<(slash ?? rest.endIndex)]
        let path = slash.map { rest[rest.index(after: $0)...] } ?? ""
        let database = try self.database(path.isEmpty ? "0" : path)
        // A colon inside brackets belongs to the IPv6 address.
        let hasPort = authority.last != "]" && authority.contains(":")
        if hasPort {
            guard let parts = HostAndPort(String(authority), ports: 1...65_535) else {
                throw Refusal(reason: "has no valid host and port")
            }
            return (parts.host, parts.port, database)
        }
        guard let host = HostAndPort.host(authority) else {
            throw Refusal(reason: "has no valid host")
        }
        return (host, 6379, database)
    }

    private static func unix(_ rest: Substring) throws(Refusal) -> RedisEndpoint {
        let question = rest.firstIndex(of: "?")
        let path = rest[..<(question ?? rest.endIndex)]
        // sockaddr_un has 108 bytes, the last a zero (unix(7)).
        guard path.hasPrefix("/"), path.utf8.count > 1, path.utf8.count < 108 else {
            throw Refusal(reason: "has no absolute path of at most 107 bytes")
        }
        guard let question else { return .unix(path: String(path), database: 0) }
        let query = rest[rest.index(after: question)...]
        guard query.hasPrefix("db=") else {
            throw Refusal(reason: "has a query other than db=")
        }
        return .unix(path: String(path), database: try database(query.dropFirst("db=".count)))
    }

    private static func database(_ text: Substring) throws(Refusal) -> Int {
        guard let number = HostAndPort.number(text) else {
            throw Refusal(reason: "has a database that is no number from 0 to 65535")
        }
        return Int(number)
    }
}

extension RedisSection {
    /// Where ``url`` points. Loading has checked the URL, so only a program can get it wrong.
    package var endpoint: RedisEndpoint {
        do throws(RedisEndpoint.Refusal) { return try RedisEndpoint(url: url) } catch {
            preconditionFailure("the Redis URL \(error.reason)")
        }
    }
}
