// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a client that knows it speaks HTTP/2 sends first (RFC 9113, section 3.4).
package enum HTTP2Preface {
    package static let bytes = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    package enum Match: Sendable, Equatable {
        case none
        /// All of the input may be the beginning of a preface.
        case partial
        case whole
    }

    /// Whether `input` begins with the preface.
    package static func match(_ input: borrowing Span<UInt8>) -> Match {
        for index in 0..<min(input.count, bytes.count) where input[index] != bytes[index] {
            return .none
        }
        return input.count < bytes.count ? .partial : .whole
    }
}
