// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// One command, held as the bytes that go on the wire.
///
/// Arguments are binary-safe and are written into one buffer as they are added, so an argument
/// costs a copy of its bytes and nothing else:
///
///     RedisCommand("XADD").add(key).add(id).add("b").add(blob)
///
/// Threads: any; a value. Source: RESP2, "Sending commands to a Redis server".
package struct RedisCommand: Sendable {
    /// The arguments as bulk strings, without the array header and without the script's part.
    private(set) var encoded: ByteWriter
    private(set) var argumentCount: Int
    /// The script to run, where this is a call of one; the connection chooses EVALSHA or EVAL.
    let script: RedisScript?

    /// Begins a command. A name of two words is two arguments: `RedisCommand("SCRIPT").add("LOAD")`.
    package init(_ name: String, reserving capacity: Int = 64) {
        encoded = ByteWriter(reserving: capacity)
        argumentCount = 0
        script = nil
        append(name)
    }

    /// Begins a call of `script`; what is added after the keys becomes its ARGV.
    package init(script: RedisScript, keys: [String], reserving capacity: Int = 256) {
        encoded = ByteWriter(reserving: capacity)
        argumentCount = 0
        self.script = script
        append(keys.count)
        for key in keys { append(key) }
    }

    // MARK: - In a chain

    package consuming func add(_ text: String) -> RedisCommand {
        append(text)
        return self
    }

    package consuming func add(_ bytes: [UInt8]) -> RedisCommand {
        append(bytes)
        return self
    }

    package consuming func add(_ bytes: borrowing Span<UInt8>) -> RedisCommand {
        append(bytes)
        return self
    }

    package consuming func add(_ number: some BinaryInteger) -> RedisCommand {
        append(number)
        return self
    }

    // MARK: - In place

    package mutating func append(_ text: String) {
        appendHeader("$", text.utf8.count)
        encoded.append(text)
        endArgument()
    }

    package mutating func append(_ bytes: [UInt8]) {
        appendHeader("$", bytes.count)
        encoded.append(bytes)
        endArgument()
    }

    package mutating func append(_ bytes: borrowing Span<UInt8>) {
        appendHeader("$", bytes.count)
        encoded.append(bytes)
        endArgument()
    }

    package mutating func append(_ number: some BinaryInteger) {
        let magnitude = UInt64(number.magnitude)
        let digits = Self.digitCount(of: magnitude)
        let isNegative = number < 0
        appendHeader("$", digits + (isNegative ? 1 : 0))
        if isNegative { encoded.append(UInt8(ascii: "-")) }
        encoded.appendDecimal(magnitude)
        endArgument()
    }

    var bytes: [UInt8] { encoded.bytes }

    /// Bytes on the wire, but for the array header and the script's part.
    package var byteCount: Int { encoded.count }

    private mutating func appendHeader(_ type: StaticString, _ number: Int) {
        encoded.append(type)
        encoded.appendDecimal(UInt64(number))
        encoded.append("\r\n" as StaticString)
    }

    private mutating func endArgument() {
        encoded.append("\r\n" as StaticString)
        argumentCount += 1
    }

    private static func digitCount(of number: UInt64) -> Int {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        return count
    }
}

extension ByteWriter {
    /// Appends a whole command: the array header, the script's part where there is one, and the
    /// arguments.
    mutating func append(_ command: RedisCommand, scriptPart: [UInt8]?) {
        append(UInt8(ascii: "*"))
        appendDecimal(UInt64(command.argumentCount + (scriptPart == nil ? 0 : 2)))
        append("\r\n" as StaticString)
        if let scriptPart { append(scriptPart) }
        append(command.encoded.bytes)
    }
}
