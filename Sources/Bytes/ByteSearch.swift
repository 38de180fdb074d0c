// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

extension Span where Element == UInt8 {
    /// The first position of `byte` at or after `start`, or `nil`.
    ///
    /// Many bytes per step (`memchr`), where a loop over the span looks at one.
    package func firstIndex(of byte: UInt8, from start: Int = 0) -> Int? {
        precondition(start >= 0 && start <= count, "start \(start) is outside \(count) bytes")
        return unsafe withUnsafeBytes { buffer -> Int? in
            guard let base = buffer.baseAddress else { return nil }
            guard let found = unsafe memchr(base + start, CInt(byte), buffer.count - start)
            else { return nil }
            return unsafe UnsafeRawPointer(found) - base
        }
    }
}
