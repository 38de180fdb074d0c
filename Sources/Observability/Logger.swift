// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// How much a log line matters.
package enum LogLevel: Int, Sendable, Comparable, CaseIterable {
    case debug, info, notice, warning, error

    package var name: String { "\(self)" }

    package init?(name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }

    package static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
}

/// A fact beside a log message: `topic=cameras`.
package struct LogField: Sendable {
    let key: String
    let value: String

    package init(_ key: String, _ value: some CustomStringConvertible & Sendable) {
        self.key = key
        self.value = value.description
    }
}

/// Writes log lines, one `write(2)` each, so lines of several threads never mix.
///
/// Threads: any. Levels: `debug` for one connection's or batch's story, `info` for a state that
/// changed as intended, `notice` for a state an operator will want to have seen, `warning` where
/// Rivulet carries on with less, `error` where it cannot do what it is for. Never a secret, never
/// a line per event. Values are quoted and control characters escaped, so nothing a peer sends
/// can forge a line.
package struct Logger: Sendable {
    package enum Format: String, Sendable, CaseIterable { case text, json }

    private let component: String
    private let lowest: LogLevel
    private let format: Format
    private let sink: @Sendable ([UInt8]) -> Void

    package init(
        _ component: String,
        lowest: LogLevel = .info,
        format: Format = .text,
        sink: (@Sendable ([UInt8]) -> Void)? = nil
    ) {
        self.component = component
        self.lowest = lowest
        self.format = format
        self.sink = sink ?? Self.writeToStandardError
    }

    /// The same log under another component's name.
    package func named(_ component: String) -> Logger {
        Logger(component, lowest: lowest, format: format, sink: sink)
    }

    package func debug(_ message: @autoclosure () -> String, _ fields: LogField...) {
        log(.debug, message, fields)
    }
    package func info(_ message: @autoclosure () -> String, _ fields: LogField...) {
        log(.info, message, fields)
    }
    package func notice(_ message: @autoclosure () -> String, _ fields: LogField...) {
        log(.notice, message, fields)
    }
    package func warning(_ message: @autoclosure () -> String, _ fields: LogField...) {
        log(.warning, message, fields)
    }
    package func error(_ message: @autoclosure () -> String, _ fields: LogField...) {
        log(.error, message, fields)
    }

    private func log(_ level: LogLevel, _ message: () -> String, _ fields: [LogField]) {
        guard level >= lowest else { return }
        let time = WallClock.text(milliseconds: WallClock.milliseconds)
        var line = ""
        switch format {
        case .text:
            line = "\(time) \(level.name) \(component): \(Self.escaped(message()))"
            for field in fields { line += " \(field.key)=\(Self.textValue(field.value))" }
        case .json:
            line =
                "{\"time\":\"\(time)\",\"level\":\"\(level.name)\",\"component\":\"\(component)\""
            line += ",\"message\":\"\(Self.escaped(message(), quotes: true))\""
            for field in fields {
                line += ",\"\(field.key)\":\"\(Self.escaped(field.value, quotes: true))\""
            }
            line += "}"
        }
        sink(Array((line + "\n").utf8))
    }

    private static func textValue(_ value: String) -> String {
        let plain = value.utf8.allSatisfy {
            $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=")
        }
        return plain && !value.isEmpty ? value : "\"\(escaped(value, quotes: true))\""
    }

    private static func escaped(_ text: String, quotes: Bool = false) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case "\"" where quotes: result += "\\\""
            case "\\" where quotes: result += "\\\\"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func writeToStandardError(_ line: [UInt8]) {
        _ = unsafe line.withUnsafeBytes { unsafe write(2, $0.baseAddress, $0.count) }
    }
}
