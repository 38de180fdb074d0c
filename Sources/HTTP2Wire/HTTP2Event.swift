// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire

/// What the peer's bytes have brought about, in the order in which it happened.
package enum HTTP2Event: Sendable {
    /// A request is whole.
    case request(stream: Int32, HTTP1RequestHead, body: [UInt8])

    /// What came is no request that can be served: answer with the error's status.
    case badRequest(stream: Int32, HTTP1Error)

    /// The stream is over and its number means nothing any more.
    case streamClosed(stream: Int32, HTTP2ResetCode)

    /// The stream's window, or with `nil` the connection's, has room for more.
    case windowOpened(stream: Int32?)

    /// The peer has sent its settings. Every window may have grown.
    case settingsReceived

    /// The peer knows that it shall open no more streams here; see ``HTTP2Session/beginDrain()``.
    case drainAcknowledged
}

/// What has not moved for too long.
package enum HTTP2Overdue: Sendable {
    /// A header block: nothing else can come on this connection before its end.
    case head
    case body
    /// An answer that its peer does not read.
    case answer
}
