// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO
import Synchronization

/// Lets events pass at a rate.
///
/// View: whoever shares it: a connection, or all connections of a node that one limit is for.
/// Threads: any. The generic cell rate algorithm (ITU-T I.371): all it knows is when the next event
/// would be due if they came evenly, which may lie ahead by no more than the burst. Events are told
/// apart by urgency alone: a fifth of the burst is for those that are urgent.
package final class RateGate: Sendable {
    /// Nanoseconds between two events; 0 lets nothing pass.
    private let interval = Atomic<UInt64>(0)
    /// When the next event would be due, in nanoseconds of the monotonic clock.
    private let due = Atomic<UInt64>(0)
    private let wanted = Atomic<Int>(0)
    private let isShort = Atomic<Bool>(false)
    /// How far `due` may lie ahead, in nanoseconds.
    private let burst: UInt64
    /// Within any time of this length, and any longer one, no more passes than the rate says: it is
    /// lowered by as much as the burst adds. 0 allows the burst on top.
    private let window: UInt64

    /// - Parameters:
    ///   - thousandths: Of an event a second.
    ///   - burst: As many events as come in this time may pass at once.
    ///   - window: Over any time as long as this the rate is not exceeded; `nil` allows the burst
    ///     on top of it.
    package init(thousandths: Int = 0, burst: Duration, window: Duration? = nil) {
        self.burst = UInt64(max(0, burst.wholeNanoseconds))
        self.window = UInt64(max(0, window?.wholeNanoseconds ?? 0))
        set(thousandths: thousandths)
    }

    /// Changes the rate, for what comes from here on.
    package func set(thousandths: Int, at now: MonotonicTime = .now) {
        guard thousandths > 0 else { return interval.store(0, ordering: .relaxed) }
        let plain = max(1, 1_000_000_000_000 / UInt64(thousandths))
        var changed = plain
        if window > 0 {
            // In a window as many pass as are due in it and in one burst.
            let longest = Double(window + max(burst, plain)) / Double(window)
            changed = UInt64((Double(plain) * longest).rounded(.up))
        }
        guard interval.exchange(changed, ordering: .relaxed) != changed else { return }
        // What was due long after now at a lower rate is due sooner.
        let latest = now.nanoseconds + max(burst, changed)
        due.min(latest, ordering: .relaxed)
    }

    /// Takes as many of `count` events as may pass now.
    package func take(upTo count: Int, at now: MonotonicTime, isUrgent: Bool = true) -> Int {
        guard count > 0 else { return 0 }
        let interval = interval.load(ordering: .relaxed)
        guard interval > 0 else {
            note(wanted: count, isShort: true)
            return 0
        }
        let whole = max(burst, interval)
        let ahead = isUrgent ? whole : max(interval, whole - whole / 5)
        var seen = due.load(ordering: .relaxed)
        while true {
            let start = max(seen, now.nanoseconds)
            let room = now.nanoseconds + ahead
            let taken = start >= room ? 0 : Int(min(UInt64(count), (room - start) / interval))
            guard taken > 0 else {
                note(wanted: count, isShort: true)
                return 0
            }
            let (exchanged, original) = due.weakCompareExchange(
                expected: seen, desired: start + UInt64(taken) * interval, ordering: .relaxed)
            if exchanged {
                note(wanted: count, isShort: taken < count)
                return taken
            }
            seen = original
        }
    }

    /// Gives back what was taken for events that another gate has stopped.
    package func giveBack(_ count: Int) {
        guard count > 0 else { return }
        let time = UInt64(count) * interval.load(ordering: .relaxed)
        var seen = due.load(ordering: .relaxed)
        while true {
            let (exchanged, original) = due.weakCompareExchange(
                expected: seen, desired: seen - min(seen, time), ordering: .relaxed)
            if exchanged { return }
            seen = original
        }
    }

    /// How long it takes until one event may pass; `nil` while none will, for want of a rate.
    package func delay(at now: MonotonicTime) -> Duration? {
        let interval = interval.load(ordering: .relaxed)
        guard interval > 0 else { return nil }
        let room = now.nanoseconds + max(burst, interval)
        let needed = max(due.load(ordering: .relaxed), now.nanoseconds) + interval
        return needed <= room ? .zero : .nanoseconds(Int64(needed - room))
    }

    // MARK: - Demand

    private func note(wanted count: Int, isShort: Bool) {
        wanted.wrappingAdd(count, ordering: .relaxed)
        if isShort { self.isShort.store(true, ordering: .relaxed) }
    }

    /// Somebody waits for it.
    package func noteShortage() { isShort.store(true, ordering: .relaxed) }

    /// How many events have come since this was last asked, and whether any of them was stopped.
    package func takeDemand() -> (count: Int, wasShort: Bool) {
        (
            wanted.exchange(0, ordering: .relaxed), isShort.exchange(false, ordering: .relaxed)
        )
    }
}
