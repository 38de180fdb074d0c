// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A value that JSON has a form for, and that is no container.
package protocol JSONScalar {
    /// Appends the value's JSON form to `output`.
    func appendJSON(to output: inout ByteWriter)
}

/// Writes JSON text (RFC 8259): brackets, commas and escapes come out right by construction.
///
/// ```swift
/// var json = JSONText()
/// json.object {
///     $0.field("name", "north gate")
///     $0.field("count", 3)
///     $0.array("list") { $0.element("a") }
///     $0.object("inner") { $0.field("ratio", 0.5) }
///     $0.field("event", json: storedBytes)
/// }
/// send(json.bytes)
/// ```
///
/// Fields appear in the order of the calls. A name given twice appears twice. A number that JSON
/// cannot express (infinite, not a number) becomes `null`. A field outside an object or an element
/// inside one is a mistake of the program and traps.
package struct JSONText: Sendable {
    private enum Scope {
        case document
        case object
        case array
    }

    private var writer: ByteWriter
    private var scope = Scope.document
    private var isFirst = true

    package init(reserving capacity: Int = 256) { writer = ByteWriter(reserving: capacity) }

    /// What was written, in UTF-8.
    package var bytes: [UInt8] { writer.bytes }

    package var text: String { String(decoding: writer.bytes, as: UTF8.self) }

    // MARK: - In an object

    package mutating func field(_ name: String, _ value: some JSONScalar) {
        beginField(name)
        value.appendJSON(to: &writer)
    }

    /// Writes a field whose value is JSON text already, which is not checked. No bytes mean `null`.
    package mutating func field(_ name: String, json: [UInt8]) {
        field(name, json: json.span)
    }

    /// Writes a field whose value is JSON text already, which is not checked. No bytes mean `null`.
    package mutating func field(_ name: String, json: borrowing Span<UInt8>) {
        beginField(name)
        appendRaw(json)
    }

    package mutating func object<Failure: Error>(
        _ name: String,
        _ body: (inout JSONText) throws(Failure) -> Void
    ) throws(Failure) {
        beginField(name)
        try nest(.object, body)
    }

    package mutating func array<Failure: Error>(
        _ name: String,
        _ body: (inout JSONText) throws(Failure) -> Void
    ) throws(Failure) {
        beginField(name)
        try nest(.array, body)
    }

    /// Writes a field that is an array of `values`.
    package mutating func array(_ name: String, _ values: some Sequence<some JSONScalar>) {
        array(name) { for value in values { $0.element(value) } }
    }

    // MARK: - In an array, or the document itself

    package mutating func element(_ value: some JSONScalar) {
        beginElement()
        value.appendJSON(to: &writer)
    }

    /// Writes an element that is JSON text already, which is not checked. No bytes mean `null`.
    package mutating func element(json: [UInt8]) { element(json: json.span) }

    /// Writes an element that is JSON text already, which is not checked. No bytes mean `null`.
    package mutating func element(json: borrowing Span<UInt8>) {
        beginElement()
        appendRaw(json)
    }

    package mutating func object<Failure: Error>(
        _ body: (inout JSONText) throws(Failure) -> Void
    ) throws(Failure) {
        beginElement()
        try nest(.object, body)
    }

    package mutating func array<Failure: Error>(
        _ body: (inout JSONText) throws(Failure) -> Void
    ) throws(Failure) {
        beginElement()
        try nest(.array, body)
    }

    // MARK: - Brackets and commas

    private mutating func beginField(_ name: String) {
        precondition(scope == .object, "field \(name) is outside an object")
        separate()
        name.appendJSON(to: &writer)
        writer.append(UInt8(ascii: ":"))
    }

    private mutating func beginElement() {
        precondition(scope != .object, "an element inside an object has no name")
        precondition(scope == .array || isFirst, "a document holds one value")
        separate()
    }

    private mutating func separate() {
        if !isFirst { writer.append(UInt8(ascii: ",")) }
        isFirst = false
    }

    private mutating func nest<Failure: Error>(
        _ inner: Scope,
        _ body: (inout JSONText) throws(Failure) -> Void
    ) throws(Failure) {
        let outer = scope
        scope = inner
        isFirst = true
        writer.append(UInt8(ascii: inner == .object ? "{" : "["))
        try body(&self)
        writer.append(UInt8(ascii: inner == .object ? "}" : "]"))
        scope = outer
        isFirst = false
    }

    private mutating func appendRaw(_ json: borrowing Span<UInt8>) {
        if json.isEmpty {
            writer.append("null" as StaticString)
        } else {
            writer.append(json)
        }
    }
}

// MARK: - Scalars

extension String: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) {
        output.append(UInt8(ascii: "\""))
        var text = self
        text.withUTF8 { unsafe output.appendEscaped(Span(_unsafeElements: $0)) }
        output.append(UInt8(ascii: "\""))
    }
}

extension Bool: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) {
        output.append(self ? "true" as StaticString : "false")
    }
}

extension Int: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) {
        if self < 0 { output.append(UInt8(ascii: "-")) }
        output.appendDecimal(UInt64(magnitude))
    }
}

extension Int64: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) { Int(self).appendJSON(to: &output) }
}

extension UInt64: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) { output.appendDecimal(self) }
}

extension UInt32: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) { output.appendDecimal(UInt64(self)) }
}

extension Double: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) {
        // The description is the shortest text that reads back to the same number, in a form that
        // JSON accepts.
        output.append(isFinite ? description : "null")
    }
}

extension Optional: JSONScalar where Wrapped: JSONScalar {
    package func appendJSON(to output: inout ByteWriter) {
        if let self {
            self.appendJSON(to: &output)
        } else {
            output.append("null" as StaticString)
        }
    }
}

extension ByteWriter {
    /// Appends `text`, which is UTF-8, as the inside of a JSON string (RFC 8259, section 7).
    package mutating func appendEscaped(_ text: borrowing Span<UInt8>) {
        var runStart = 0
        for index in text.indices {
            let byte = text[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else {
                continue
            }
            append(text.extracting(runStart..<index))
            appendEscape(of: byte)
            runStart = index + 1
        }
        append(text.extracting(runStart..<text.count))
    }

    private mutating func appendEscape(of byte: UInt8) {
        append(UInt8(ascii: "\\"))
        switch byte {
        case UInt8(ascii: "\n"): append(UInt8(ascii: "n"))
        case UInt8(ascii: "\r"): append(UInt8(ascii: "r"))
        case UInt8(ascii: "\t"): append(UInt8(ascii: "t"))
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): append(byte)
        default:
            append("u00" as StaticString)
            appendHexDigit(byte >> 4)
            appendHexDigit(byte & 0xf)
        }
    }

    private mutating func appendHexDigit(_ value: UInt8) {
        append(value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10)
    }
}
