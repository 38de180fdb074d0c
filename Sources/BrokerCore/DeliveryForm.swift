// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// How events are written for a subscriber.
package enum DeliveryForm: UInt8, Sendable, Hashable, CaseIterable {
    /// `text/event-stream`, for Server-Sent Events.
    case eventStream
    /// Unmasked WebSocket frames, each with one JSON text.
    case webSocket

    /// Whether one subscriber is a whole connection, which the hub then greets, keeps alive, and
    /// ends where its socket takes nothing. Subscribers over WebSocket share one, and who shares
    /// it out looks after it (``WebSocketSession``).
    var isWholeConnection: Bool { self == .eventStream }
}

/// The events of a batch in one form: all bytes, and where each event's frame ends.
final class FrameSet: Sendable {
    let bytes: SharedBytes
    let ends: [UInt32]

    init(bytes: SharedBytes, ends: [UInt32]) {
        self.bytes = bytes
        self.ends = ends
    }

    var memoryBytes: Int { bytes.count + ends.count * 4 + 64 }
}
