// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A text that must never be shown.
///
/// Printing, interpolating, dumping or reflecting it gives `***`; only ``reveal()`` gives the text.
package struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// What stands in place of a secret, of any length.
    package static let mask = "***"

    private let text: String

    package init(_ text: String) { self.text = text }

    /// The text itself. Each call is a place to review.
    package func reveal() -> String { text }

    package var description: String { Self.mask }
    package var debugDescription: String { Self.mask }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
