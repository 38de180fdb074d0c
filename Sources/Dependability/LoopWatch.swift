// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Whether a loop still turns: it is asked once a tick and answers when it gets to it.
///
/// A state machine without input or output. Ticks are counted and not time, so that a process that
/// was stopped as a whole and goes on does not take its loops for stuck.
package struct LoopWatch: Sendable {
    package enum Change: Sendable, Equatable {
        case stuck
        case turnsAgain
    }

    /// Ticks without an answer after which a loop is stuck.
    package let ticksMax: Int
    package private(set) var isStuck = false
    private var unanswered = 0

    package init(ticksMax: Int) { self.ticksMax = max(1, ticksMax) }

    /// True where the loop is to be asked again: an earlier question still waits otherwise, and a
    /// stuck loop's mail does not pile up.
    package mutating func tick() -> (asks: Bool, change: Change?) {
        defer { unanswered += 1 }
        guard unanswered > 0 else { return (true, nil) }
        guard unanswered >= ticksMax, !isStuck else { return (false, nil) }
        isStuck = true
        return (false, .stuck)
    }

    package mutating func answered() -> Change? {
        unanswered = 0
        guard isStuck else { return nil }
        isStuck = false
        return .turnsAgain
    }
}
