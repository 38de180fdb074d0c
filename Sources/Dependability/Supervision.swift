// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// The life of one component of a node: when it is restarted, and when that is given up.
///
/// A state machine without input or output; the time and the dice are given. A component that has
/// failed is restarted after a pause that doubles with each restart within the window. Where it
/// fails once more than it may, it has failed for good, as far as the node's readiness goes; it is
/// still tried once a window, so that a node whose trouble goes away serves again by itself.
package struct Supervision: Sendable {
    /// Raw values are what pages and metrics say.
    package enum Phase: String, Sendable, CaseIterable {
        case stopped
        case starting
        case running
        /// Waits for its next restart.
        case restarting
        /// Has failed more often than it may.
        case failed
    }

    package struct Rule: Sendable, Equatable {
        /// Restarts within ``window``.
        package var restartsMax = 3
        package var window: Duration = .seconds(60)
        /// Bounds of the pause before a restart.
        package var pauseMin: Duration = .milliseconds(200)
        package var pauseMax: Duration = .seconds(5)

        package init(restartsMax: Int = 3, window: Duration = .seconds(60)) {
            self.restartsMax = restartsMax
            self.window = window
        }
    }

    package let rule: Rule
    package private(set) var phase = Phase.stopped
    /// How often it was restarted in all.
    package private(set) var restarts: UInt64 = 0
    /// Why it failed last; stays after it is up again.
    package private(set) var reason: String?
    private var recent: [MonotonicTime] = []

    package init(_ rule: Rule = Rule()) { self.rule = rule }

    /// It was told to start, for the first time or again.
    package mutating func start() {
        if phase == .restarting || phase == .failed { restarts += 1 }
        // One that has failed says so until it is up.
        if phase != .failed { phase = .starting }
    }

    package mutating func isUp() {
        guard phase != .stopped else { return }
        phase = .running
    }

    /// It has failed.
    ///
    /// - Returns: When to start it again, from now; `nil` where it was stopped.
    package mutating func failed(
        _ reason: String, at now: MonotonicTime, using random: inout some RandomNumberGenerator
    ) -> Duration? {
        guard phase != .stopped else { return nil }
        self.reason = reason
        recent.removeAll { now - $0 > rule.window }
        guard phase != .failed, recent.count < rule.restartsMax else {
            phase = .failed
            return max(rule.window, .milliseconds(1))
        }
        phase = .restarting
        let bound = min(rule.pauseMin * (2 << min(recent.count, 16)), rule.pauseMax)
        recent.append(now)
        return .random(between: rule.pauseMin, and: bound, using: &random)
    }

    /// It was stopped on purpose.
    package mutating func stop() { phase = .stopped }
}
