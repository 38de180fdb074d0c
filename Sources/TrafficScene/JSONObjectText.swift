// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Writes compact JSON. Names and text are the scene's own words and need no escapes.
struct JSONObjectText {
    private var writer = ByteWriter(reserving: 640)
    private var needsComma = false

    init() { open() }

    /// Ends the outermost object.
    consuming func finished() -> [UInt8] {
        close()
        return writer.bytes
    }

    // MARK: - Members

    mutating func member(_ name: StaticString, _ text: String) {
        self.name(name)
        element(text)
    }

    mutating func member(_ name: StaticString, _ number: Int) {
        self.name(name)
        element(number)
    }

    mutating func member(_ name: StaticString, _ number: Double, decimals: Int) {
        self.name(name)
        element(number, decimals: decimals)
    }

    /// A member whose value `body` writes, between `{` and `}`.
    mutating func object(_ name: StaticString, _ body: (inout Self) -> Void) {
        self.name(name)
        open()
        body(&self)
        close()
    }

    /// A member whose elements `body` writes, between `[` and `]`.
    mutating func array(_ name: StaticString, _ body: (inout Self) -> Void) {
        self.name(name)
        writer.append(UInt8(ascii: "["))
        needsComma = false
        body(&self)
        writer.append(UInt8(ascii: "]"))
        needsComma = true
    }

    // MARK: - Elements

    mutating func element(_ text: String) {
        comma()
        writer.append(UInt8(ascii: "\""))
        writer.append(text)
        writer.append(UInt8(ascii: "\""))
    }

    mutating func element(_ number: Int) {
        comma()
        if number < 0 { writer.append(UInt8(ascii: "-")) }
        writer.appendDecimal(UInt64(number.magnitude))
    }

    /// A number with up to `decimals` digits after the point, rounded, without trailing zeros.
    mutating func element(_ number: Double, decimals: Int) {
        comma()
        let scale = (0..<decimals).reduce(1) { power, _ in power * 10 }
        let scaled = Int((number.magnitude * Double(scale)).rounded())
        if number < 0, scaled > 0 { writer.append(UInt8(ascii: "-")) }
        writer.appendDecimal(UInt64(scaled / scale))
        var rest = scaled % scale
        guard rest > 0 else { return }
        writer.append(UInt8(ascii: "."))
        var place = scale / 10
        while rest > 0 {
            writer.append(UInt8(ascii: "0") + UInt8(rest / place))
            rest %= place
            place /= 10
        }
    }

    mutating func elementObject(_ body: (inout Self) -> Void) {
        comma()
        open()
        body(&self)
        close()
    }

    // MARK: - Punctuation

    private mutating func open() {
        writer.append(UInt8(ascii: "{"))
        needsComma = false
    }

    private mutating func close() {
        writer.append(UInt8(ascii: "}"))
        needsComma = true
    }

    private mutating func comma() {
        if needsComma { writer.append(UInt8(ascii: ",")) }
        needsComma = true
    }

    private mutating func name(_ name: StaticString) {
        comma()
        writer.append(UInt8(ascii: "\""))
        writer.append(name)
        writer.append("\":")
        needsComma = false
    }
}
