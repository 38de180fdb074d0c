// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A Redis server as operators write it.
///
/// Accepted: `redis://[user[:password]@]host[:port][/database]`, the same with `rediss://` for TLS,
/// and `unix:///path/to/socket[?db=database]`. User and password are percent-decoded. Errors name the
/// part that is wrong and never show the password.
/// Source: the `redis`, `rediss` and `redis-socket` URI schemes as redis-cli and lettuce read them.
package struct RedisURL: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    package let address: RedisAddress
    package let username: String?
    package let password: String?
    package let database: Int
    /// The scheme is `rediss`.
    package let usesTLS: Bool

    package init(_ text: String) throws(RedisError) {
        guard let separator = Self.firstRange(of: "://", in: text[...]) else {
            throw Self.invalid("has no scheme; expected redis://host:port or unix:///path")
        }
        let scheme = text[..<separator.lowerBound].lowercased()
        let rest = text[separator.upperBound...]
        switch scheme {
        case "redis", "rediss":
            let parts = try Self.parseTCP(rest)
            (address, username, password, database) = parts
        case "unix":
            username = nil
            password = nil
            (address, database) = try Self.parseUnix(rest)
        default:
            throw Self.invalid("has scheme \"\(scheme)\"; expected redis, rediss or unix")
        }
        usesTLS = scheme == "rediss"
    }

    package var description: String { "\(address) database \(database)" }
    package var debugDescription: String { description }

    private static func parseTCP(_ text: Substring) throws(RedisError)
        -> (RedisAddress, String?, String?, Int)
    {
        guard !text.contains(where: { $0 == "?" || $0 == "#" }) else {
            throw invalid("has a query or fragment; a redis:// URL takes none (write %3F or %23)")
        }
        var authority = text
        var database = 0
        // A password may hold an unescaped slash or at sign: the last at sign ends it.
        let hostStart = text.lastIndex(of: "@").map { text.index(after: $0) } ?? text.startIndex
        if let slash = text[hostStart...].firstIndex(of: "/") {
            authority = text[..<slash]
            let path = text[text.index(after: slash)...]
            if !path.isEmpty { database = try parseDatabase(path) }
        }
        var username: String?
        var password: String?
        if hostStart != text.startIndex {
            let userInfo = text[..<text.index(before: hostStart)]
            let pair = userInfo.split(
                separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let user = try decodePercent(pair[0], part: "user")
            if !user.isEmpty { username = user }
            if pair.count > 1 { password = try decodePercent(pair[1], part: "password") }
            guard username == nil || password != nil else {
                throw invalid("names user \"\(user)\" without a password; expected user:password@")
            }
        }
        let (host, port) = try parseHost(authority[hostStart...])
        return (.tcp(host: host, port: port), username, password, database)
    }

    private static func parseHost(_ text: Substring) throws(RedisError) -> (String, UInt16) {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let close = text.firstIndex(of: "]") else {
                throw invalid("has host \"\(text)\" with [ and no ]")
            }
            host = text[text.index(after: text.startIndex)..<close]
            let tail = text[text.index(after: close)...]
            guard tail.isEmpty || tail.first == ":" else {
                throw invalid("has \"\(tail)\" after the host; expected :port")
            }
            if !tail.isEmpty { port = tail.dropFirst() }
        } else if let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            let tail = text[text.index(after: colon)...]
            guard !tail.contains(":") else {
                throw invalid("has host \"\(text)\" with several colons; IPv6 goes in [brackets]")
            }
            port = tail
        }
        guard !host.isEmpty else { throw invalid("names no host; expected redis://host:port") }
        guard !host.contains(where: { $0 == " " || $0 == "%" || $0.isNewline }) else {
            throw invalid("has host \"\(host)\"; expected a name or a numeric address")
        }
        guard let port else { return (String(host), 6379) }
        guard let number = UInt16(port), number > 0 else {
            throw invalid("has port \"\(port)\"; expected 1 to 65535")
        }
        return (String(host), number)
    }

    private static func parseUnix(_ text: Substring) throws(RedisError) -> (RedisAddress, Int) {
        let pair = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = try decodePercent(pair[0], part: "path")
        guard path.hasPrefix("/"), path.utf8.count > 1 else {
            throw invalid("has socket path \"\(path)\"; expected unix:///absolute/path")
        }
        guard pair.count > 1 else { return (.unix(path: path), 0) }
        guard pair[1].hasPrefix("db=") else {
            throw invalid("has query \"\(pair[1])\"; expected db=<number>")
        }
        return (.unix(path: path), try parseDatabase(pair[1].dropFirst(3)))
    }

    private static func parseDatabase(_ text: Substring) throws(RedisError) -> Int {
        guard text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let number = Int32(text) else {
            throw invalid("has database \"\(text)\"; expected a number from 0")
        }
        return Int(number)
    }

    private static func decodePercent(_ text: Substring, part: String) throws(RedisError) -> String
    {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexDigit),
                let low = rest.popFirst().flatMap(hexDigit)
            else { throw invalid("has a % in its \(part) that two hex digits do not follow") }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw invalid("has a \(part) that is not UTF-8")
        }
        return decoded
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.map { UInt8($0) }
    }

    private static func firstRange(of needle: String, in text: Substring)
        -> Range<Substring.Index>?
    {
        var start = text.startIndex
        while start < text.endIndex {
            if text[start...].hasPrefix(needle) {
                return start..<text.index(start, offsetBy: needle.count)
            }
            start = text.index(after: start)
        }
        return nil
    }

    private static func invalid(_ detail: String) -> RedisError {
        RedisError(.settingInvalid, "the Redis URL \(detail)")
    }
}
