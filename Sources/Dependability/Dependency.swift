// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO
import Synchronization

/// What is wrong with a server that a node depends on.
package struct Trouble: Sendable, Equatable {
    /// One word for pages and metrics, such as `unreachable` or `loading`.
    package let word: String
    /// What was seen, and what to do about it, in a sentence.
    package let message: String

    package init(_ word: String, _ message: String) {
        self.word = word
        self.message = message
    }
}

/// What all parts of a node know together of one server that they depend on.
///
/// View: node. Threads: any. It is touched where an attempt is made and where something fails, and
/// by a success only while there is trouble, so the hot path takes no lock.
///
/// Two kinds of trouble: nobody answers, which the ``CircuitBreaker`` keeps; and an answer that
/// says no, such as a replica's or a full server's, which is remembered for ``noticeHolds`` after it
/// was last seen, because other questions are answered meanwhile.
package final class Dependency: Sendable {
    /// One moment of it.
    package struct Status: Sendable, Equatable {
        package var name: String
        package var breaker: CircuitBreaker.State
        /// `nil` where all is well.
        package var trouble: Trouble?
        /// How often the breaker has opened.
        package var opens: UInt64

        package init(
            name: String, breaker: CircuitBreaker.State, trouble: Trouble? = nil, opens: UInt64 = 0
        ) {
            self.name = name
            self.breaker = breaker
            self.trouble = trouble
            self.opens = opens
        }

        package var isWell: Bool { breaker == .closed && trouble == nil }
        /// `ready`, or the trouble's word.
        package var word: String { trouble?.word ?? "ready" }
    }

    /// How long an answer that says no is held against the server.
    package static let noticeHolds: Duration = .seconds(3)
    /// How soon one who was not admitted asks again, at least and at most: apart, so that the
    /// connections of a node do not come back in one instant.
    private static let lookAgain: ClosedRange<Int64> = 50...250

    private struct Values {
        var breaker: CircuitBreaker
        var failure: Trouble?
        var notice: (trouble: Trouble, until: MonotonicTime)?
        var random: any RandomNumberGenerator & Sendable
    }

    package let name: String
    private let values: Lock<Values>
    /// Relaxed: a hint that spares successes the lock; one that comes too late for it is followed
    /// by others.
    private let hasTrouble = Atomic<Bool>(false)

    package init(
        _ name: String, breaker: CircuitBreaker.Settings = CircuitBreaker.Settings(),
        random: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        self.name = name
        values = Lock(Values(breaker: CircuitBreaker(breaker), random: random))
    }

    /// `nil` where one may ask now; else how long to wait before asking here again.
    package func admission(at now: MonotonicTime = .now) -> Duration? {
        values.withLock { values in
            guard !values.breaker.admits(at: now) else { return nil }
            let wait = Int64.random(in: Self.lookAgain, using: &values.random)
            return .milliseconds(wait)
        }
    }

    /// How long to wait before asking here whether one may ask; `nil` while the breaker is closed.
    package var pause: Duration? {
        values.withLock { values in
            guard values.breaker.state != .closed else { return nil }
            return .milliseconds(Int64.random(in: Self.lookAgain, using: &values.random))
        }
    }

    /// The server has answered.
    package func succeeded(at now: MonotonicTime = .now) {
        guard hasTrouble.load(ordering: .relaxed) else { return }
        values.withLock { values in
            values.breaker.succeeded(at: now)
            values.failure = nil
            if let notice = values.notice, notice.until <= now { values.notice = nil }
            hasTrouble.store(values.notice != nil, ordering: .relaxed)
        }
    }

    /// An attempt has failed, or what was being asked got no answer.
    package func failed(_ trouble: Trouble, at now: MonotonicTime = .now) {
        values.withLock { values in
            values.breaker.failed(at: now, using: &values.random)
            values.failure = trouble
            hasTrouble.store(true, ordering: .relaxed)
        }
    }

    /// The server has answered, and said no.
    package func refused(
        _ trouble: Trouble, for span: Duration = noticeHolds, at now: MonotonicTime = .now
    ) {
        values.withLock { values in
            values.notice = (trouble, now + span)
            hasTrouble.store(true, ordering: .relaxed)
        }
    }

    package func status(at now: MonotonicTime = .now) -> Status {
        values.withLock { values in
            let notice = values.notice.flatMap { $0.until > now ? $0.trouble : nil }
            let state = values.breaker.state
            // A single failure is a connection that comes back; three are trouble.
            let trouble = state == .closed ? notice : values.failure ?? notice
            return Status(
                name: name, breaker: state, trouble: trouble, opens: values.breaker.opens)
        }
    }
}
