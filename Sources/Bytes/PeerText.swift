// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Text that a peer gave, made fit to be shown in an answer, a log line or on a terminal.
///
/// Control characters, line separators and characters that turn the direction of writing are
/// escaped as `\u{…}`, what is not UTF-8 becomes U+FFFD, and the rest after `limit` bytes is cut
/// off and marked with `…`. So the text can neither forge a line nor fill a log.
package enum PeerText {
    /// Long enough to recognise what was sent, short enough for a line of a log.
    package static let defaultLimitBytes = 80

    package static func display(
        _ bytes: borrowing Span<UInt8>,
        limit: Int = defaultLimitBytes
    ) -> String {
        // The three bytes more complete a character that begins just before the limit.
        let shown = min(bytes.count, limit + 3)
        return display(bytes.text(in: 0..<shown), limit: limit, isCut: shown < bytes.count)
    }

    package static func display(_ text: String, limit: Int = defaultLimitBytes) -> String {
        display(text, limit: limit, isCut: false)
    }

    private static func display(_ text: String, limit: Int, isCut: Bool) -> String {
        var output = ""
        var used = 0
        for scalar in text.unicodeScalars {
            used += UTF8.width(scalar)
            guard used <= limit else { return output + "…" }
            if isHarmless(scalar) {
                output.unicodeScalars.append(scalar)
            } else {
                output += "\\u{" + String(scalar.value, radix: 16) + "}"
            }
        }
        return isCut ? output + "…" : output
    }

    private static func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7f..<0xa0: false
        case 0x200e, 0x200f, 0x2028...0x202e, 0x2066...0x2069, 0xfeff: false
        default: true
        }
    }
}
