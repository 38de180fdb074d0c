// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

extension UInt8 {
    var isASCIIDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }

    var isASCIILowercase: Bool { self >= UInt8(ascii: "a") && self <= UInt8(ascii: "z") }

    var isASCIIUppercase: Bool { self >= UInt8(ascii: "A") && self <= UInt8(ascii: "Z") }

    var isASCIILetterOrDigit: Bool { isASCIIDigit || isASCIILowercase || isASCIIUppercase }

    /// True for one of the ASCII characters in `characters`.
    func isOne(of characters: StaticString) -> Bool {
        for other in characters.description.utf8 where other == self { return true }
        return false
    }
}
