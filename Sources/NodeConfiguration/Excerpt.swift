// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Makes foreign text fit to be shown: one line, no control characters, not endless.
enum Excerpt {
    private static let scalars = 80
    /// Longer than any path that Linux takes (PATH_MAX).
    private static let pathScalars = 4096

    /// `text` in quotes, cut and escaped. Credentials in a URL are masked.
    static func quoted(_ text: String) -> String { "\"\(escaped(masked(text)))\"" }

    /// A file's path, which is of use only whole.
    static func path(_ text: String) -> String { escaped(text, atMost: pathScalars) }

    /// The name of a key, flag or variable, up to where it stops being one: in `{password:x}`,
    /// which lacks a space, the name is `password:x`.
    static func name(_ text: String) -> String {
        let legal = text.utf8.prefix { $0.isASCIILetterOrDigit || $0.isOne(of: "._-") }
        let shown = String(decoding: legal.prefix(scalars), as: UTF8.self)
        return shown.utf8.count == text.utf8.count ? text : "\(shown)…"
    }

    static func escaped(_ text: String, atMost scalars: Int = scalars) -> String {
        var result = ""
        var count = 0
        for scalar in text.unicodeScalars {
            guard count < scalars else { return result + "…" }
            count += 1
            if isHarmless(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result += "\\u{\(String(scalar.value, radix: 16))}"
            }
        }
        return result
    }

    /// False for what a terminal or a log would act on: controls, line ends, direction marks.
    static func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
        default: true
        }
    }

    /// Hides what stands before an `@` and after a `?`, where URLs carry credentials.
    private static func masked(_ text: String) -> String {
        var text = text
        if let at = text.lastIndex(of: "@") {
            let slashes = text.firstRange(of: "//").map(\.upperBound)
            let start = slashes.flatMap { $0 <= at ? $0 : nil } ?? text.startIndex
            text.replaceSubrange(start..<at, with: Secret.mask)
        }
        if let question = text.firstIndex(of: "?"), text.contains("//") {
            text.replaceSubrange(text.index(after: question)..., with: Secret.mask)
        }
        return text
    }
}
