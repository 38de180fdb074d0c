// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// Spreads events evenly over time.
struct Pacer: Sendable {
    /// What may be caught up after a pause, so that a stall is not followed by a flood.
    static let catchUp: Duration = .milliseconds(100)

    private let interval: Duration
    private var due: MonotonicTime

    /// - Parameter rate: Per second; above zero.
    init(rate: Double, start: MonotonicTime) {
        interval = .nanoseconds(Int64(max(1, min(1e9 / rate, 1e18))))
        due = start
    }

    /// Takes the next place in the schedule and says when it is.
    mutating func next(at now: MonotonicTime) -> MonotonicTime {
        if now - due > Self.catchUp { due = now + (.zero - Self.catchUp) }
        let place = due
        due = due + interval
        return place
    }
}
