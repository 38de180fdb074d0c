// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Makes foreign text fit to be shown: one line, no control characters, not endless.
enum Excerpt {
    private static let scalars = 80

    /// `text` in quotes, cut and escaped. Credentials in a URL are masked.
    static func quoted(_ text: String) -> String { "\"\(escaped(masked(text)))\"" }

    static func escaped(_ text: String) -> String {
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
