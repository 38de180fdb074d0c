// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Colours for a terminal, and none for anything else.
struct TerminalStyle: Sendable {
    enum Colour: String, Sendable {
        case dim = "2"
        case bold = "1"
        case cyan = "36"
        case green = "32"
        case yellow = "33"
        case alarm = "1;37;41"
    }

    let isColoured: Bool

    /// Colours where `descriptor` is a terminal that can show them and `NO_COLOR` is unset or
    /// empty (https://no-color.org).
    static func of(_ descriptor: CInt) -> TerminalStyle {
        let refused = Environment.value("NO_COLOR").map { !$0.isEmpty } ?? false
        let isDumb = Environment.value("TERM") == "dumb"
        return TerminalStyle(isColoured: isatty(descriptor) == 1 && !refused && !isDumb)
    }

    func callAsFunction(_ colour: Colour, _ text: String) -> String {
        isColoured ? "\u{1b}[\(colour.rawValue)m\(text)\u{1b}[0m" : text
    }
}
