// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// A deadline that one loop keeps. Its owner makes it once and schedules it again and again.
///
/// View: shard. Threads: its loop's. Holds its action strongly while it lives.
package final class LoopTimer {
    let action: () -> Void
    fileprivate(set) var deadlineTick: UInt64 = 0
    fileprivate(set) var slot = -1
    fileprivate var next: LoopTimer?
    fileprivate unowned(unsafe) var previous: LoopTimer?

    package init(_ action: @escaping () -> Void) { self.action = action }

    package var isScheduled: Bool { slot >= 0 }
}

/// Timers by the millisecond in which they are due: constant time to set, move and cancel.
///
/// A slot holds the timers of every revolution that fall on it, so a timer further away than one
/// revolution (4.096 s) is looked at once a revolution until it is due.
struct TimerWheel {
    private static let slotCount = 4096
    private static let tickNanoseconds: UInt64 = 1_000_000

    private var slots: [LoopTimer?] = Array(repeating: nil, count: slotCount)
    private var occupied: [UInt64] = Array(repeating: 0, count: slotCount / 64)
    private var currentTick: UInt64
    private(set) var count = 0

    init(now: MonotonicTime) { currentTick = now.nanoseconds / Self.tickNanoseconds }

    mutating func schedule(_ timer: LoopTimer, at deadline: MonotonicTime) {
        remove(timer)
        // Rounded up, so that no timer fires early; and never into the past.
        let tick = (deadline.nanoseconds + Self.tickNanoseconds - 1) / Self.tickNanoseconds
        timer.deadlineTick = max(tick, currentTick + 1)
        let slot = Int(timer.deadlineTick % UInt64(Self.slotCount))
        timer.slot = slot
        timer.next = slots[slot]
        unsafe timer.previous = nil
        if let first = slots[slot] { unsafe first.previous = timer }
        slots[slot] = timer
        occupied[slot / 64] |= 1 << UInt64(slot % 64)
        count += 1
    }

    mutating func remove(_ timer: LoopTimer) {
        guard timer.slot >= 0 else { return }
        if let previous = unsafe timer.previous {
            previous.next = timer.next
        } else {
            slots[timer.slot] = timer.next
        }
        if let next = timer.next { unsafe next.previous = timer.previous }
        if slots[timer.slot] == nil { occupied[timer.slot / 64] &= ~(1 << UInt64(timer.slot % 64)) }
        timer.slot = -1
        timer.next = nil
        unsafe timer.previous = nil
        count -= 1
    }

    /// Runs the timers that are due at `now`. A timer's action may schedule or cancel any timer.
    mutating func takeDue(until now: MonotonicTime, into due: inout [LoopTimer]) {
        let target = now.nanoseconds / Self.tickNanoseconds
        guard target > currentTick else { return }
        if count > 0 {
            // After a long sleep one revolution visits every slot; more would visit none anew.
            let steps = min(target - currentTick, UInt64(Self.slotCount))
            for step in 1...steps {
                let slot = Int((currentTick + step) % UInt64(Self.slotCount))
                guard occupied[slot / 64] & (1 << UInt64(slot % 64)) != 0 else { continue }
                var next = slots[slot]
                while let timer = next {
                    next = timer.next
                    if timer.deadlineTick <= target {
                        remove(timer)
                        due.append(timer)
                    }
                }
            }
        }
        currentTick = target
    }

    /// When the loop has to look again: the first occupied slot, though its timers may belong to
    /// a later revolution.
    var nextDeadline: MonotonicTime? {
        guard count > 0 else { return nil }
        let start = Int((currentTick + 1) % UInt64(Self.slotCount))
        let words = occupied.count
        for offset in 0...words {
            let index = (start / 64 + offset) % words
            var word = occupied[index]
            if offset == 0 { word &= ~0 << UInt64(start % 64) }
            guard word != 0 else { continue }
            let slot = index * 64 + word.trailingZeroBitCount
            let distance = (slot - start + Self.slotCount) % Self.slotCount
            return MonotonicTime(
                nanoseconds: (currentTick + 1 + UInt64(distance)) * Self.tickNanoseconds)
        }
        return nil
    }
}
