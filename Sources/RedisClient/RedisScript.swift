// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A Lua script that Redis runs as one atomic step.
///
/// It is told by its name, so two scripts of one program have different names. A connection
/// learns the script's SHA-1 from the reply to SCRIPT LOAD and calls it by that; until then, and
/// where Redis has forgotten it, the body itself is sent.
package struct RedisScript: Sendable, Hashable {
    package let name: String
    package let body: String

    package init(name: String, body: String) {
        self.name = name
        self.body = body
    }

    package static func == (a: RedisScript, b: RedisScript) -> Bool { a.name == b.name }

    package func hash(into hasher: inout Hasher) { hasher.combine(name) }

    /// `EVAL <body>`, encoded.
    var evalPart: [UInt8] { RedisCommand("EVAL", reserving: body.utf8.count + 64).add(body).bytes }

    /// `EVALSHA <sha1>`, encoded.
    static func evalshaPart(_ sha1: String) -> [UInt8] { RedisCommand("EVALSHA").add(sha1).bytes }
}

/// What one connection knows of the scripts it calls.
struct ScriptBook {
    private var evalshaParts: [String: [UInt8]] = [:]
    private(set) var scripts: [RedisScript]

    init(_ scripts: [RedisScript]) { self.scripts = scripts }

    func contains(_ script: RedisScript) -> Bool { scripts.contains(script) }

    mutating func add(_ script: RedisScript) { scripts.append(script) }

    /// The encoded `EVALSHA <sha1>`, or `nil` while the hash is not known.
    func evalshaPart(of script: RedisScript) -> [UInt8]? { evalshaParts[script.name] }

    /// Takes the reply to SCRIPT LOAD; what is not a SHA-1 leaves the script to EVAL.
    mutating func learn(_ script: RedisScript, sha1: String?) {
        guard let sha1, sha1.utf8.count == 40 else { return }
        evalshaParts[script.name] = RedisScript.evalshaPart(sha1)
    }

    /// Forgets every hash, for a server that may not have the scripts.
    mutating func forgetHashes() { evalshaParts.removeAll() }
}
