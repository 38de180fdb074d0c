// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// One node's part of a rate of events that the whole cluster shares.
///
/// A state machine without input or output, with the same script in Redis as ``LeasedBudget``.
/// View: node. Threads: a value. Rates are in thousandths of an event a second, so that a limit
/// can be divided among any number of nodes. A node that needs more takes it from those that need
/// less than their part: these have stopped using it before Redis hears that they have.
package struct LeasedRate: Sendable {
    /// Of the whole cluster.
    package let maximum: Int
    package let lease: Duration
    /// What this node may deliver at.
    package private(set) var leased = 0
    package private(set) var isAsking = false
    package private(set) var answer: (at: MonotonicTime, BudgetAnswer)?
    private var sequence: UInt64 = 0
    /// It has stopped using more than its part, and Redis has not heard so.
    package private(set) var owesClaim = false
    private var wantsMore = false

    /// - Parameter perSecond: Events.
    package init(perSecond: Int, lease: Duration) {
        maximum = perSecond * 1000
        self.lease = lease
    }

    package var isUnused: Bool { leased == 0 && !isAsking }

    /// What to ask now, or `nil` while an ask is under way.
    ///
    /// - Parameters:
    ///   - offered: What was to be delivered of late, in thousandths of an event a second.
    ///   - wasShort: Something had to wait or was shed, for which the rate was to blame.
    ///   - isIdle: Nobody is connected whom it concerns, and the part is given back.
    package mutating func ask(offered: Int, wasShort: Bool, isIdle: Bool) -> BudgetAsk? {
        guard !isAsking else { return nil }
        isAsking = true
        owesClaim = false
        sequence += 1
        // Who was short may need anything: what was offered is a guess of the past.
        let need = isIdle ? 0 : wasShort ? maximum : min(maximum, offered)
        wantsMore = wasShort
        if isIdle { leased = 0 }
        return BudgetAsk(
            sequence: sequence, maximum: maximum, claim: leased, held: 0, need: need,
            spare: isIdle ? 0 : maximum)
    }

    /// Whether Redis should hear of something sooner than with the next renewal.
    package var isAskDue: Bool {
        guard !isAsking else { return false }
        if owesClaim { return true }
        guard wantsMore, let (_, answer) = answer else { return false }
        return leased < answer.target
    }

    package mutating func take(_ answer: BudgetAnswer, at now: MonotonicTime) {
        isAsking = false
        self.answer = (now, answer)
        leased = answer.granted
        // A little more than its part is left alone: parts that follow every change of what is
        // needed would never come to rest.
        if leased > answer.target + maximum / 200 {
            leased = answer.target
            owesClaim = true
        }
    }

    /// Redis could not be asked: the node goes on at the rate it has.
    package mutating func failed() { isAsking = false }
}
