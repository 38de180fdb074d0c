// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why an event stream cannot be read on. The parser that threw it is of no further use.
package struct EventStreamError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        /// A single event, or a single line, is larger than the reader allows.
        case eventTooLarge
    }

    package let code: Code
    package let detail: String

    package init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { "eventstream.\(code.rawValue): \(detail)" }
}
