// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// One line of what a client received.
package struct Receipt: ~Escapable {
    package enum Kind: Sendable, Equatable {
        case event
        /// The server said that events are missing in `from..<=to`.
        case gap(from: EventID, to: EventID)
        /// It has no ID that can be read; the text says what is wrong.
        case unreadable(String)
    }

    package let kind: Kind
    package let id: EventID
    package let data: Span<UInt8>
    package let place: Truth.Place?

    @_lifetime(copy data)
    package init(
        _ kind: Kind, id: EventID = .zero, data: Span<UInt8>, place: Truth.Place? = nil
    ) {
        self.kind = kind
        self.id = id
        self.data = data
        self.place = place
    }
}
