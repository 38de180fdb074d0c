// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why fields cannot be extracted as asked; always the configuration's fault or this machine's,
/// never an event's.
package struct JSONFieldsError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case tooManyPaths
        case pathTooLong
        case tooManySegments
        case segmentEmpty
        case limitOutOfRange
        case outOfMemory
    }

    package let code: Code
    package let detail: String

    init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { "json.\(code.rawValue): \(detail)" }
}
