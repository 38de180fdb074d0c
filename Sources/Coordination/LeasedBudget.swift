// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// One node's part of a number of connections that the whole cluster shares.
///
/// A state machine without input or output. View: node. Threads: a value. The node leases places
/// from Redis (``BudgetScripts/share``) and admits with what it has leased, without asking. What
/// all nodes have leased never exceeds the maximum, so neither do the connections.
///
/// A few places are kept at hand, fewer the fewer are left, and none once somebody waits for one.
/// Who finds none here waits until Redis has been asked, and as long as another node has places
/// that it does not use, for that node gives them back.
package struct LeasedBudget: Sendable {
    /// What becomes of somebody who wants to connect.
    package enum Verdict: Sendable, Equatable {
        case admitted
        /// Redis has to be asked; see ``Admissions``.
        case wait
        case refused(Refusal)
    }

    package enum Refusal: Sendable, Equatable {
        /// All places of the cluster are taken.
        case full
        /// Redis cannot be asked, and this node has used its part up.
        case unreachable
        /// Too many wait already.
        case crowded
    }

    /// Of those who wait, the first so many are admitted, and the rest refused where it says so.
    package struct Admissions: Sendable, Equatable {
        package var admitted = 0
        package var refusal: Refusal?
    }

    package struct Settings: Sendable, Equatable {
        package var maximum: Int
        /// Places kept at hand at most.
        package var chunkMax: Int
        /// The length of a node's lease: an answer that is older says nothing of what others hold.
        package var lease: Duration

        package init(maximum: Int, chunkMax: Int = 256, lease: Duration) {
            self.maximum = maximum
            self.chunkMax = chunkMax
            self.lease = lease
        }
    }

    /// Those who may wait at once: each holds a socket and its request. More would not be admitted
    /// within the time that anybody waits.
    package static let waitingMax = 16_384
    /// For how long nobody is asked after everything was taken.
    static let fullFor: Duration = .milliseconds(20)

    package let settings: Settings
    package private(set) var leased = 0
    package private(set) var held = 0
    package private(set) var waiting = 0
    package private(set) var isAsking = false
    /// What Redis said last, and when.
    package private(set) var answer: (at: MonotonicTime, BudgetAnswer)?
    /// Redis could not be asked when it was last tried.
    package private(set) var isAway = false
    private var sequence: UInt64 = 0
    private var fullUntil: MonotonicTime?
    /// It has more than its part, and has lowered what it uses without having said so.
    private var owesClaim = false

    package init(_ settings: Settings) { self.settings = settings }

    /// Places that are leased and not used.
    package var idle: Int { max(0, leased - held) }

    /// True where nothing is held, leased or wanted, so that the budget may be forgotten.
    package var isUnused: Bool { held == 0 && waiting == 0 && leased == 0 && !isAsking }

    /// What was leased may have been given to others: this node was cut off or paused for as long
    /// as a lease lasts.
    private func isLapsed(at now: MonotonicTime) -> Bool {
        guard let answer else { return true }
        return now - answer.at > settings.lease
    }

    /// Somebody wants to connect.
    package mutating func acquire(at now: MonotonicTime) -> Verdict {
        if held < leased, waiting == 0, isAway || !isLapsed(at: now) {
            held += 1
            return .admitted
        }
        if !isAway, waiting == 0, let fullUntil, now < fullUntil { return .refused(.full) }
        guard waiting < Self.waitingMax else { return .refused(.crowded) }
        waiting += 1
        return .wait
    }

    /// One of those who waited has gone.
    package mutating func cancel() {
        precondition(waiting > 0, "nobody waits")
        waiting -= 1
    }

    /// A connection has ended.
    ///
    /// - Returns: Whether the first of those who wait takes its place.
    package mutating func release(at now: MonotonicTime) -> Bool {
        precondition(held > 0, "a place is released that nobody took")
        held -= 1
        guard waiting > 0, held < leased, !isLapsed(at: now) else { return false }
        waiting -= 1
        held += 1
        return true
    }

    /// Places to keep at hand: a quarter of an equal part of what is free.
    private var chunk: Int {
        guard let (_, answer) = answer else { return 0 }
        return min(settings.chunkMax, answer.free / (4 * max(1, answer.nodes)))
    }

    /// What to ask now, or `nil` while an ask is under way. Call ``take(_:at:)`` with what comes of
    /// it, or ``failed()``.
    package mutating func ask() -> BudgetAsk? {
        guard !isAsking else { return nil }
        isAsking = true
        owesClaim = false
        sequence += 1
        let spare = waiting > 0 ? 0 : chunk
        // Given back: what is neither used nor kept at hand.
        leased = min(leased, max(held, held + waiting + spare))
        return BudgetAsk(
            sequence: sequence, maximum: settings.maximum, claim: leased, held: held,
            need: held + waiting, spare: spare)
    }

    /// Whether something has changed that Redis should hear of soon rather than with the next
    /// renewal.
    package var isAskDue: Bool { !isAsking && (waiting > 0 || owesClaim) }

    /// Takes what Redis said.
    package mutating func take(_ answer: BudgetAnswer, at now: MonotonicTime) -> Admissions {
        isAsking = false
        isAway = false
        self.answer = (now, answer)
        leased = answer.granted
        var admissions = Admissions()
        admissions.admitted = min(waiting, idle)
        held += admissions.admitted
        waiting -= admissions.admitted
        if waiting == 0, leased > max(held, answer.target) {
            leased = max(held, answer.target)
            owesClaim = true
        }
        if waiting > 0, answer.free + answer.idleElsewhere == 0 {
            admissions.refusal = .full
            waiting = 0
            fullUntil = now + Self.fullFor
        }
        return admissions
    }

    /// Redis could not be asked. Those who wait get what is at hand, and the rest are refused: the
    /// limit holds at the part that this node has.
    package mutating func failed() -> Admissions {
        isAsking = false
        isAway = true
        var admissions = Admissions()
        admissions.admitted = min(waiting, idle)
        held += admissions.admitted
        if admissions.admitted < waiting { admissions.refusal = .unreachable }
        waiting = 0
        return admissions
    }
}
