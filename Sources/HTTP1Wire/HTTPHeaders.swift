// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// The header fields of a message, in order, by a name whose case does not count.
///
/// One buffer holds all names and values, so reading a request costs two allocations however many
/// fields it has.
package struct HTTPHeaders: Sendable, Hashable {
    struct Field: Sendable, Hashable {
        let name: Range<Int>
        let value: Range<Int>
    }

    private var storage: [UInt8]
    private(set) var fields: [Field]

    package init() {
        storage = []
        fields = []
    }

    /// Takes over fields whose syntax has been checked.
    init(storage: [UInt8], fields: [Field]) {
        self.storage = storage
        self.fields = fields
    }

    package var count: Int { fields.count }

    package var isEmpty: Bool { fields.isEmpty }

    /// Adds a field. Each control character in `value`, which may come from a peer, becomes a
    /// blank, so that it cannot end the line.
    ///
    /// - Precondition: `name` is a token; it is a constant of the program.
    package mutating func append(_ name: StaticString, _ value: String) {
        let nameStart = storage.count
        name.withUTF8Buffer { unsafe storage.append(contentsOf: $0) }
        let nameEnd = storage.count
        for index in nameStart..<nameEnd {
            precondition(Syntax.isToken(storage[index]), "\(name) is no field name")
        }
        precondition(nameEnd > nameStart, "a field needs a name")
        for byte in value.utf8 {
            storage.append(Syntax.isFieldValue(byte) ? byte : Syntax.blank)
        }
        let value = Syntax.trim(nameEnd..<storage.count, in: storage.span)
        fields.append(Field(name: nameStart..<nameEnd, value: value))
    }

    /// Adds a field that a peer sent in another form than HTTP/1 lines, with the checks that those
    /// get.
    package mutating func append(
        received name: borrowing Span<UInt8>,
        value: borrowing Span<UInt8>
    ) throws(HTTP1Error) {
        var isValid = !name.isEmpty
        for index in name.indices where !Syntax.isToken(name[index]) { isValid = false }
        for index in value.indices where !Syntax.isFieldValue(value[index]) { isValid = false }
        guard isValid else {
            throw HTTP1Error(
                .headerMalformed,
                "a header is a token and a value without control characters",
                parameter: PeerText.display(name),
                given: PeerText.display(value)
            )
        }
        let nameStart = storage.count
        storage += name.bytes(in: 0..<name.count)
        let nameEnd = storage.count
        storage += value.bytes(in: 0..<value.count)
        let value = Syntax.trim(nameEnd..<storage.count, in: storage.span)
        fields.append(Field(name: nameStart..<nameEnd, value: value))
    }

    /// The value of the first field called `name`.
    package func first(_ name: String) -> String? {
        for field in fields where Syntax.matches(storage.span, field.name, name) {
            return storage.span.text(in: field.value)
        }
        return nil
    }

    /// The values of all fields called `name`, in order.
    package func all(_ name: String) -> [String] {
        var values: [String] = []
        for field in fields where Syntax.matches(storage.span, field.name, name) {
            values.append(storage.span.text(in: field.value))
        }
        return values
    }

    package func contains(_ name: String) -> Bool {
        fields.contains { Syntax.matches(storage.span, $0.name, name) }
    }

    /// Whether a field called `name` lists `token` between its commas, in whatever case.
    package func contains(_ name: String, token: String) -> Bool {
        var found = false
        for field in fields where Syntax.matches(storage.span, field.name, name) {
            forEachElement(of: field) { found = found || matches($0, token) }
        }
        return found
    }

    /// Calls `body` with each field's name and value, in order.
    package func forEach(_ body: (_ name: String, _ value: String) -> Void) {
        for field in fields {
            body(storage.span.text(in: field.name), storage.span.text(in: field.value))
        }
    }

    /// Appends the fields as lines, without the blank line that ends a head.
    package func append(to output: inout ByteWriter) {
        for field in fields {
            output.append(storage[field.name])
            output.append(": " as StaticString)
            output.append(storage[field.value])
            output.append("\r\n" as StaticString)
        }
    }

    // MARK: - For the rules of a message

    func matches(_ range: Range<Int>, _ text: String) -> Bool {
        Syntax.matches(storage.span, range, text)
    }

    func text(_ range: Range<Int>) -> String { storage.span.text(in: range) }

    func display(_ range: Range<Int>) -> String {
        PeerText.display(storage.span.extracting(range))
    }

    func decimal(_ range: Range<Int>) -> UInt64? { storage.span.decimal(in: range) }

    func byte(_ index: Int) -> UInt8 { storage[index] }

    /// Calls `body` with each part between the commas of a field's value, empty ones too.
    func forEachElement(of field: Field, _ body: (Range<Int>) -> Void) {
        var start = field.value.lowerBound
        for index in field.value where storage[index] == UInt8(ascii: ",") {
            body(Syntax.trim(start..<index, in: storage.span))
            start = index + 1
        }
        body(Syntax.trim(start..<field.value.upperBound, in: storage.span))
    }
}
