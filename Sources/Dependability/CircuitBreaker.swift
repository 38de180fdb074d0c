// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// Decides whether it is worth asking somebody who has failed.
///
/// A state machine without input or output; the time and the dice are given. Closed, everybody may
/// ask. After some failures in a row it opens, and nobody may, until a pause is over. Then one may,
/// to find out (half-open): where that fails the pause doubles, and the first success of anybody
/// closes it. Pauses are drawn evenly from above the shortest, so that many nodes do not come back
/// to a recovering server in step.
package struct CircuitBreaker: Sendable {
    /// Raw values are what pages and metrics say.
    package enum State: String, Sendable, CaseIterable {
        case closed
        case halfOpen = "half_open"
        case open
    }

    package struct Settings: Sendable, Equatable {
        /// Failures in a row that open it.
        package var failuresToOpen = 3
        /// Failures further apart than this are not in a row.
        package var span: Duration = .seconds(10)
        /// Bounds of the pause before somebody may try again.
        package var pauseMin: Duration = .milliseconds(100)
        package var pauseMax: Duration = .seconds(1)
        /// A try that has come to nothing for this long has failed.
        package var probeLimit: Duration = .seconds(5)

        package init() {}
    }

    package let settings: Settings
    package private(set) var state = State.closed
    /// Since when it is in ``state``; `nil` where it has never been in another.
    package private(set) var since: MonotonicTime?
    /// How often it has opened.
    package private(set) var opens: UInt64 = 0
    private var failures = 0
    private var lastFailure: MonotonicTime?
    private var bound: Duration
    /// When somebody may try, while open; when the try has failed, while half-open.
    private var due = MonotonicTime(nanoseconds: 0)

    package init(_ settings: Settings = Settings()) {
        self.settings = settings
        bound = settings.pauseMin
    }

    /// Whether one may ask now. While it is not closed only the first who asks after the pause
    /// may, and owes an answer: ``succeeded(at:)`` or ``failed(at:using:)``.
    package mutating func admits(at now: MonotonicTime) -> Bool {
        switch state {
        case .closed: return true
        case .open, .halfOpen:
            guard now >= due else { return false }
            enter(.halfOpen, at: now)
            due = now + settings.probeLimit
            return true
        }
    }

    package mutating func succeeded(at now: MonotonicTime) {
        failures = 0
        bound = settings.pauseMin
        enter(.closed, at: now)
    }

    package mutating func failed(
        at now: MonotonicTime, using random: inout some RandomNumberGenerator
    ) {
        let isInRow = lastFailure.map { now - $0 <= settings.span } ?? true
        lastFailure = now
        switch state {
        case .closed:
            failures = isInRow ? failures + 1 : 1
            guard failures >= settings.failuresToOpen else { return }
            opens += 1
            open(at: now, using: &random)
        case .halfOpen: open(at: now, using: &random)
        // Somebody who had begun before it opened: nothing new.
        case .open: break
        }
    }

    private mutating func open(
        at now: MonotonicTime, using random: inout some RandomNumberGenerator
    ) {
        enter(.open, at: now)
        bound = min(bound * 2, max(settings.pauseMin, settings.pauseMax))
        due = now + .random(between: settings.pauseMin, and: bound, using: &random)
    }

    private mutating func enter(_ next: State, at now: MonotonicTime) {
        guard next != state else { return }
        state = next
        since = now
    }
}

extension Duration {
    /// One drawn evenly; `shortest` where that is the longer one.
    package static func random(
        between shortest: Duration, and longest: Duration,
        using random: inout some RandomNumberGenerator
    ) -> Duration {
        let low = shortest.wholeNanoseconds
        return .nanoseconds(
            Int64.random(in: low...max(low, longest.wholeNanoseconds), using: &random))
    }
}
