// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a peer got wrong, in the request for a WebSocket or on the WebSocket itself.
///
/// Never worth a retry with the same bytes.
package struct WebSocketError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        /// The request does not ask for a WebSocket.
        case notAnUpgrade
        /// The request asks for a version of the protocol that is not spoken here.
        case versionUnsupported
        /// The request's key is missing, or not 16 bytes in base64.
        case keyMalformed
        /// `Sec-WebSocket-Extensions` is not what RFC 6455, section 9.1, allows.
        case extensionsMalformed
        /// OpenSSL does not compute SHA-1 here.
        case digestUnavailable
        /// A frame, or the order of frames, that RFC 6455 does not allow.
        case frameMalformed
        case textNotUTF8
        /// A compressed message that does not decompress (RFC 7692).
        case deflateMalformed
        case messageTooLarge
        case outOfMemory
    }

    package let code: Code
    package let detail: String

    package init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    /// What the close frame says that answers the error.
    package var closeCode: WebSocketCloseCode {
        switch code {
        case .notAnUpgrade, .versionUnsupported, .keyMalformed, .extensionsMalformed,
            .frameMalformed:
            .protocolError
        case .textNotUTF8, .deflateMalformed: .invalidPayload
        case .messageTooLarge: .messageTooBig
        case .digestUnavailable, .outOfMemory: .internalError
        }
    }

    package var description: String { "websocket.\(code.rawValue): \(detail)" }
}
