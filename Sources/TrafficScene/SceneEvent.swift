// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Something the scene reports, ready to be published.
package struct SceneEvent: Sendable, Equatable {
    package enum Kind: String, Sendable, CaseIterable { case camera, detection, analytics }

    package let kind: Kind
    /// The camera's or the zone's ID, as the key that keeps its events in order.
    package let key: String
    /// A JSON object without white space.
    package let json: [UInt8]
}
