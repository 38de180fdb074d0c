// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Tells events apart by their data where nothing better is known.
///
/// White space between JSON's tokens does not count, because a line of NDJSON and an event stream
/// both may change it. Two different events have the same fingerprint with a chance of one in 2^64
/// for each pair. It holds within this process only.
struct Fingerprint {
    private var compact: [UInt8] = []

    mutating func value(of data: Span<UInt8>) -> UInt64 {
        compact.removeAll(keepingCapacity: true)
        var isInString = false
        var isEscaped = false
        for index in data.indices {
            let byte = data[index]
            if isInString {
                compact.append(byte)
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
            } else if byte > 0x20 {
                compact.append(byte)
                isInString = byte == UInt8(ascii: "\"")
            }
        }
        var hasher = Hasher()
        unsafe compact.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        return UInt64(bitPattern: Int64(hasher.finalize()))
    }
}
