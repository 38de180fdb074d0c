// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What the bytes of an event turned out to be.
package enum JSONEventVerdict: Sendable, Equatable {
    /// A JSON object, valid to the last byte.
    case object
    /// Valid JSON, but an array, a string, a number, `true`, `false` or `null`.
    case notAnObject
    /// Not JSON, or JSON past a limit. `offset` is the first byte that cannot be there, or the
    /// event's length where it ends too early; `nil` where only the strict parser saw the fault.
    case malformed(reason: JSONMalformation, offset: Int?)
    /// More bytes than the extractor takes.
    case tooLarge
    /// Not UTF-8, which JSON has to be (RFC 8259, section 8.1).
    case invalidUTF8
}

/// What is wrong with an event that is not JSON.
package enum JSONMalformation: String, Sendable, CaseIterable {
    /// No bytes, or white space only.
    case empty
    /// Arrays and objects nested deeper than ``JSONFieldLimits/depth``.
    case tooDeep
    /// A string that does not end, holds a bare control character, an unknown escape or half of a
    /// surrogate pair.
    case badString
    /// A number that is not in JSON's form, an integer outside -2^63..<2^64, or one that is
    /// too large for a `Double`.
    case badNumber
    /// Something that starts like `true`, `false` or `null` and is not.
    case badLiteral
    /// A bracket, comma, colon or key that is missing or misplaced, or bytes after the end.
    case badStructure

    /// A sentence part for an error message: "the event \(explanation)".
    package var explanation: String {
        switch self {
        case .empty: "is empty"
        case .tooDeep: "is nested deeper than \(JSONFieldLimits.depth) levels"
        case .badString:
            "has a string that does not end, or holds a control character or a wrong escape"
        case .badNumber: "has a number that is malformed or too large for 64 bits"
        case .badLiteral: "has a word other than true, false and null"
        case .badStructure:
            "has a bracket, comma, colon or key that is missing or out of place"
        }
    }
}
