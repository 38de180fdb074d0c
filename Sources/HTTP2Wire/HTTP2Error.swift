// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a connection cannot go on. Its streams end with it.
package struct HTTP2Error: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case prefaceMalformed
        /// A frame that no peer may send, or may not send there.
        case protocolViolation
        /// Streams were opened and cancelled too often (CVE-2023-44487, CVE-2025-8671).
        case resetFlood
        case pingFlood
        case settingsFlood
        case windowUpdateFlood
        case idleFrameFlood
        /// A header block in too many frames (CVE-2024-28182).
        case continuationFlood
        /// A header block that decodes to many times its size.
        case headerBomb
        /// Acknowledgements that the peer asked for and does not read.
        case acknowledgementFlood
        case outOfMemory

        /// What GOAWAY says.
        package var reset: HTTP2ResetCode {
            switch self {
            case .prefaceMalformed, .protocolViolation: .protocolError
            case .outOfMemory: .internalError
            default: .enhanceYourCalm
            }
        }
    }

    package let code: Code
    package let detail: String

    init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { "http2.\(code.rawValue): \(detail)" }
}

/// The error codes of RST_STREAM and GOAWAY (RFC 9113, section 7).
package struct HTTP2ResetCode: RawRepresentable, Sendable, Hashable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let noError = HTTP2ResetCode(rawValue: 0x0)
    package static let protocolError = HTTP2ResetCode(rawValue: 0x1)
    package static let internalError = HTTP2ResetCode(rawValue: 0x2)
    package static let flowControlError = HTTP2ResetCode(rawValue: 0x3)
    package static let streamClosed = HTTP2ResetCode(rawValue: 0x5)
    package static let refusedStream = HTTP2ResetCode(rawValue: 0x7)
    package static let cancel = HTTP2ResetCode(rawValue: 0x8)
    package static let enhanceYourCalm = HTTP2ResetCode(rawValue: 0xb)
}
