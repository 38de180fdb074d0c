// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// How long to wait before the next attempt to connect.
///
/// The bound doubles with each failure and the pause is drawn evenly from all of it above the
/// minimum (full jitter), so that many nodes do not return to a recovering server in step.
package struct ReconnectBackoff: Sendable {
    private let shortest: Duration
    private let longest: Duration
    private var bound: Duration

    package init(shortest: Duration, longest: Duration) {
        self.shortest = shortest
        self.longest = max(shortest, longest)
        bound = shortest
    }

    package mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        bound = min(bound * 2, longest)
        let range = shortest.wholeNanoseconds...max(shortest, bound).wholeNanoseconds
        return .nanoseconds(Int64.random(in: range, using: &random))
    }

    package mutating func reset() { bound = shortest }
}
