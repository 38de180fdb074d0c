// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// The names and values of a query, in order (`application/x-www-form-urlencoded`: WHATWG URL,
/// section 5).
///
/// Stricter than the standard in one thing: an escape that is incomplete, or not UTF-8, is an
/// error that names the parameter, because to guess what was meant would filter by another value.
package struct QueryParameters: Sendable, Hashable {
    package struct Parameter: Sendable, Hashable {
        package let name: String
        package let value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    package let list: [Parameter]

    /// - Parameter text: What follows the question mark.
    package init(_ text: String) throws(HTTP1Error) {
        let bytes = Array(text.utf8)
        var list: [Parameter] = []
        var start = 0
        while start < bytes.count {
            let end = bytes.span.firstIndex(of: UInt8(ascii: "&"), from: start) ?? bytes.count
            if end > start {
                guard list.count < HTTP1Limits.parameterCount else {
                    throw HTTP1Error(
                        .tooManyParameters,
                        "a query has at most \(HTTP1Limits.parameterCount) parameters"
                    )
                }
                list.append(try Self.parameter(bytes.span, start..<end))
            }
            start = end + 1
        }
        self.list = list
    }

    package func first(_ name: String) -> String? {
        list.first { $0.name == name }?.value
    }

    /// The values of all parameters called `name`, in order.
    package func all(_ name: String) -> [String] {
        list.filter { $0.name == name }.map(\.value)
    }

    private static func parameter(
        _ input: borrowing Span<UInt8>,
        _ range: Range<Int>
    ) throws(HTTP1Error) -> Parameter {
        let equals =
            input.extracting(0..<range.upperBound)
            .firstIndex(of: UInt8(ascii: "="), from: range.lowerBound)
        let nameRange = range.lowerBound..<(equals ?? range.upperBound)
        let valueRange = (equals.map { $0 + 1 } ?? range.upperBound)..<range.upperBound
        guard let name = PercentCoding.decode(input, nameRange, plusIsBlank: true) else {
            throw malformed(
                "the name of a parameter",
                name: PeerText.display(input.extracting(nameRange)),
                given: PeerText.display(input.extracting(nameRange))
            )
        }
        guard let value = PercentCoding.decode(input, valueRange, plusIsBlank: true) else {
            throw malformed(
                "the value of a parameter",
                name: PeerText.display(name),
                given: PeerText.display(input.extracting(valueRange))
            )
        }
        return Parameter(name: name, value: value)
    }

    private static func malformed(_ what: String, name: String, given: String) -> HTTP1Error {
        HTTP1Error(
            .parameterMalformed,
            "\(what) is percent-encoded UTF-8: % and two hexadecimal digits for a byte",
            parameter: name,
            given: given
        )
    }
}
