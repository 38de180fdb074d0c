// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import RedisClient

/// What a Redis server says of itself.
struct RedisFacts: Sendable, Equatable {
    /// The fields of `INFO`.
    var info: [String: String] = [:]
    /// The settings of `CONFIG GET`; `nil` where the server does not let this user read them, as
    /// hosted ones do.
    var settings: [String: String]?
    /// How far the server's clock is ahead of this machine's, in milliseconds, and how far off
    /// that may be.
    var clockAheadMilliseconds: Int64 = 0
    var clockUncertaintyMilliseconds: Int64 = 0

    /// `name:value` by lines; what is no such line is passed over.
    static func fields(ofInfo text: String) -> [String: String] {
        var fields: [String: String] = [:]
        for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[String(line[..<colon])] = String(line[line.index(after: colon)...])
        }
        return fields
    }

    /// Names and values in turn.
    static func settings(ofReply reply: RedisReply) -> [String: String]? {
        guard case .array(let parts) = reply else { return nil }
        var settings: [String: String] = [:]
        for index in stride(from: 0, to: parts.count - 1, by: 2) {
            guard case .bulk(let name) = parts[index], case .bulk(let value) = parts[index + 1]
            else { continue }
            settings[String(decoding: name, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
        }
        return settings
    }

    func number(_ name: String) -> Int? { (settings?[name] ?? info[name]).flatMap { Int($0) } }
}
