// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a WebSocket is closed, as the close frame says it (RFC 6455, section 7.4).
package struct WebSocketCloseCode: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    package let rawValue: UInt16

    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let normal = WebSocketCloseCode(rawValue: 1000)
    /// The client leaves its page, or the server its port.
    package static let goingAway = WebSocketCloseCode(rawValue: 1001)
    package static let protocolError = WebSocketCloseCode(rawValue: 1002)
    /// A kind of message that is not taken, such as a binary one where text is expected.
    package static let unsupportedData = WebSocketCloseCode(rawValue: 1003)
    /// A message that is not what its kind promises: text that is not UTF-8.
    package static let invalidPayload = WebSocketCloseCode(rawValue: 1007)
    package static let policyViolation = WebSocketCloseCode(rawValue: 1008)
    package static let messageTooBig = WebSocketCloseCode(rawValue: 1009)
    package static let internalError = WebSocketCloseCode(rawValue: 1011)
    /// The server restarts: come back after a moment (IANA's WebSocket registry).
    package static let serviceRestart = WebSocketCloseCode(rawValue: 1012)
    /// The server is overloaded or not ready yet (IANA's WebSocket registry).
    package static let tryAgainLater = WebSocketCloseCode(rawValue: 1013)

    /// Whether a close frame may carry the code. 1004 is reserved, 1005, 1006 and 1015 stand for
    /// closes without a frame; 1016 to 2999 are kept for later versions of the protocol.
    package var isForTheWire: Bool {
        switch rawValue {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }

    package var description: String { "\(rawValue)" }
}
