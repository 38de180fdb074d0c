// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// The place of one event in the order of all events, which is also the cursor that resumes a
/// subscription after it.
///
/// View: cluster. The order is the same on every node. On the wire: `<milliseconds>-<sequence>` in
/// decimal, in the `id:` field of a Server-Sent Event and in `Last-Event-ID`.
package struct EventID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Milliseconds since 1970 at the append, never smaller than those of the event before.
    package let milliseconds: UInt64

    /// The number that the append gave the event, consecutive over all topics.
    package let sequence: UInt64

    package init(milliseconds: UInt64, sequence: UInt64) {
        self.milliseconds = milliseconds
        self.sequence = sequence
    }

    /// Before every event.
    package static let zero = EventID(milliseconds: 0, sequence: 0)

    /// The digits of `UInt64.max`. More are refused before they are read.
    package static let maximumDigits = 20

    /// The longest wire form: two numbers and the dash.
    package static let maximumTextBytes = 2 * maximumDigits + 1

    package static func < (left: EventID, right: EventID) -> Bool {
        left.milliseconds == right.milliseconds
            ? left.sequence < right.sequence
            : left.milliseconds < right.milliseconds
    }

    /// Reads `<milliseconds>-<sequence>`, or `<milliseconds>` alone: everything after that
    /// millisecond.
    package static func parse(_ text: borrowing Span<UInt8>) throws(EventIDError) -> EventID {
        guard text.count <= maximumTextBytes else {
            throw EventIDError(.tooLong, given: PeerText.display(text))
        }
        guard let dash = text.firstIndex(of: UInt8(ascii: "-")) else {
            let milliseconds = try number(in: text, 0..<text.count)
            return EventID(milliseconds: milliseconds, sequence: .max)
        }
        let milliseconds = try number(in: text, 0..<dash)
        let sequence = try number(in: text, (dash + 1)..<text.count)
        return EventID(milliseconds: milliseconds, sequence: sequence)
    }

    /// Reads `<milliseconds>-<sequence>`, or `<milliseconds>` alone: everything after that
    /// millisecond.
    package static func parse(_ text: String) throws(EventIDError) -> EventID {
        let bytes = Array(text.utf8)
        return try parse(bytes.span)
    }

    private static func number(
        in text: borrowing Span<UInt8>,
        _ range: Range<Int>
    ) throws(EventIDError) -> UInt64 {
        if range.count <= maximumDigits, let value = text.decimal(in: range) { return value }
        var isDigits = !range.isEmpty
        for index in range where text[index] &- UInt8(ascii: "0") > 9 { isDigits = false }
        let tooMany: EventIDError.Code = range.count > maximumDigits ? .tooLong : .tooLarge
        throw EventIDError(isDigits ? tooMany : .malformed, given: PeerText.display(text))
    }

    package func append(to output: inout ByteWriter) {
        output.appendDecimal(milliseconds)
        output.append(UInt8(ascii: "-"))
        output.appendDecimal(sequence)
    }

    package var description: String { "\(milliseconds)-\(sequence)" }
}

/// Why text is no ``EventID``. Never worth a retry with the same text.
package struct EventIDError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case malformed
        case tooLong
        case tooLarge
    }

    package let code: Code

    /// What was given, cut short and with control characters escaped.
    package let given: String

    /// What would be accepted, as an answer to the peer can quote it.
    package static let accepted = [
        "an event ID as it was received, e.g. 1763683200123-1048576",
        "milliseconds since 1970, e.g. 1763683200123",
    ]

    package init(_ code: Code, given: String) {
        self.code = code
        self.given = given
    }

    package var description: String {
        let reason =
            switch code {
            case .malformed: "is neither a decimal number nor two with a dash between them"
            case .tooLong: "has more than \(EventID.maximumDigits) digits in a number"
            case .tooLarge: "has a number above \(UInt64.max)"
            }
        return "event ID \"\(given)\" \(reason); accepted: "
            + Self.accepted.joined(separator: ", or ")
    }
}
