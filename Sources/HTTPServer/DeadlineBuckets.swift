// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// The deadlines of a listener's connections, in steps of one sweep.
///
/// A connection's deadline moves far more often than it passes, so moving it later costs nothing
/// here: the connection stays where it was queued, and whoever takes it out queues it again. A
/// connection without a deadline, such as an open stream, is not in here at all.
struct DeadlineBuckets {
    /// Deadlines further ahead than this many steps are queued again on the way.
    private static let bucketCount = 128
    /// Room that an emptied bucket may keep.
    private static let keptCapacity = 1024

    private let start: MonotonicTime
    private let stepNanoseconds: UInt64
    private var buckets: [[UInt64]] = Array(repeating: [], count: bucketCount)
    private(set) var currentStep: UInt32 = 0

    init(step: Duration, now: MonotonicTime) {
        precondition(step > .zero, "a sweep every \(step)")
        start = now
        stepNanoseconds = UInt64(step.wholeNanoseconds)
    }

    /// The first step at which `deadline` has passed: never early, and late by less than a step.
    /// Never zero, which stands for no deadline.
    func step(of deadline: MonotonicTime) -> UInt32 {
        let elapsed = deadline > start ? deadline.nanoseconds - start.nanoseconds : 0
        let step = (elapsed + stepNanoseconds - 1) / stepNanoseconds
        return max(UInt32(clamping: step), currentStep + 1)
    }

    /// Queues `key` for `step`, or for the furthest step that there is room for.
    ///
    /// - Returns: The step at which the key will be taken out.
    mutating func append(_ key: UInt64, step: UInt32) -> UInt32 {
        let furthest = currentStep + UInt32(Self.bucketCount) - 1
        let taken = min(max(step, currentStep + 1), furthest)
        buckets[Int(taken) % Self.bucketCount].append(key)
        return taken
    }

    /// Takes out what was queued for the next step that has been reached; `nil` once none is left.
    mutating func takeNext(now: MonotonicTime) -> [UInt64]? {
        let elapsed = now > start ? now.nanoseconds - start.nanoseconds : 0
        guard UInt64(currentStep) < elapsed / stepNanoseconds else { return nil }
        currentStep += 1
        let index = Int(currentStep) % Self.bucketCount
        let keys = buckets[index]
        buckets[index].removeAll(keepingCapacity: keys.count <= Self.keptCapacity)
        return keys
    }
}
