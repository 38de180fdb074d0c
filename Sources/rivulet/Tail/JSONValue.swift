// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import JSONFields

/// A JSON document as a tree, for the small answers that are shown to people.
enum JSONValue: Equatable {
    case null
    case bool(Bool)
    /// As it was written.
    case number(String)
    case text(String)
    case array([JSONValue])
    case object([(name: String, value: JSONValue)])

    /// Reads a document; `nil` where it is not JSON, or larger or deeper than
    /// ``JSONFieldLimits`` allow.
    static func parse(_ document: [UInt8]) -> JSONValue? {
        guard !document.isEmpty, let paths = try? JSONFieldPaths([]),
            let extractor = try? JSONFieldExtractor(paths: paths, eventBytesMax: document.count)
        else { return nil }
        switch extractor.validate(document.span) {
        case .object, .notAnObject: break
        case .malformed, .tooLarge, .invalidUTF8: return nil
        }
        var reader = JSONTreeReader(document)
        return reader.value()
    }

    /// The value of the first member called `name`.
    subscript(_ name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    var text: String? { if case .text(let text) = self { text } else { nil } }

    var elements: [JSONValue] { if case .array(let elements) = self { elements } else { [] } }

    static func == (a: JSONValue, b: JSONValue) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.number(let a), .number(let b)), (.text(let a), .text(let b)): a == b
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)):
            a.count == b.count
                && zip(a, b).allSatisfy { $0.name == $1.name && $0.value == $1.value }
        default: false
        }
    }
}

/// Reads a tree from JSON that has been checked, so nothing here has to be checked again; what
/// should not happen ends the reading and never the program.
private struct JSONTreeReader {
    private let bytes: [UInt8]
    private var offset = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte <= 0x20 { offset += 1 }
    }

    /// Takes `byte` where it comes next.
    private mutating func take(_ byte: UInt8) -> Bool {
        skipBlanks()
        guard next == byte else { return false }
        offset += 1
        return true
    }

    /// The recursion is bounded by the depth that the check allows.
    mutating func value() -> JSONValue {
        skipBlanks()
        switch next {
        case UInt8(ascii: "{"): return object()
        case UInt8(ascii: "["): return array()
        case UInt8(ascii: "\""): return .text(text())
        default: return scalar()
        }
    }

    private mutating func object() -> JSONValue {
        offset += 1
        var members: [(name: String, value: JSONValue)] = []
        while offset < bytes.count, !take(UInt8(ascii: "}")) {
            let name = text()
            guard take(UInt8(ascii: ":")) else { break }
            members.append((name, value()))
            _ = take(UInt8(ascii: ","))
            skipBlanks()
        }
        return .object(members)
    }

    private mutating func array() -> JSONValue {
        offset += 1
        var elements: [JSONValue] = []
        while offset < bytes.count, !take(UInt8(ascii: "]")) {
            elements.append(value())
            _ = take(UInt8(ascii: ","))
        }
        return .array(elements)
    }

    private mutating func scalar() -> JSONValue {
        let start = offset
        let ends: [UInt8] = [UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}")]
        while let byte = next, byte > 0x20, !ends.contains(byte) { offset += 1 }
        // One byte at least, so that no loop above stands still.
        if offset == start { offset += 1 }
        switch String(decoding: bytes[start..<min(offset, bytes.count)], as: UTF8.self) {
        case "true": return .bool(true)
        case "false": return .bool(false)
        case "null": return .null
        case let number: return .number(number)
        }
    }

    private mutating func text() -> String {
        guard take(UInt8(ascii: "\"")) else { return "" }
        var units: [UInt8] = []
        while let byte = next, byte != UInt8(ascii: "\"") {
            offset += 1
            guard byte == UInt8(ascii: "\\") else {
                units.append(byte)
                continue
            }
            escape(into: &units)
        }
        offset += 1
        return String(decoding: units, as: UTF8.self)
    }

    private mutating func escape(into units: inout [UInt8]) {
        guard let kind = next else { return }
        offset += 1
        switch kind {
        case UInt8(ascii: "n"): units.append(0x0a)
        case UInt8(ascii: "r"): units.append(0x0d)
        case UInt8(ascii: "t"): units.append(0x09)
        case UInt8(ascii: "b"): units.append(0x08)
        case UInt8(ascii: "f"): units.append(0x0c)
        case UInt8(ascii: "u"):
            let high = hexadecimal()
            var pair = [high]
            if UTF16.isLeadSurrogate(high) {
                offset += 2
                pair.append(hexadecimal())
            }
            units += Array(String(decoding: pair, as: UTF16.self).utf8)
        default: units.append(kind)
        }
    }

    private mutating func hexadecimal() -> UInt16 {
        let end = min(offset + 4, bytes.count)
        let start = min(offset, end)
        offset = end
        return UInt16(String(decoding: bytes[start..<end], as: UTF8.self), radix: 16) ?? 0xfffd
    }
}
