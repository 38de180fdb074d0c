// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Counts durations so that any quantile can be had to 1.6 %.
///
/// Values below 64 ns have a bucket each; above, each power of two has 64 buckets.
///
/// Threads: a value. HDR-style: the error is relative, whatever the duration.
package struct LatencyHistogram: Sendable {
    private static let bitsKept = 6
    private static let perPower = 1 << bitsKept

    private var buckets = [UInt64](repeating: 0, count: (64 - bitsKept + 1) * perPower)
    package private(set) var count: UInt64 = 0
    package private(set) var maximum: UInt64 = 0

    package init() {}

    package mutating func record(_ nanoseconds: UInt64) {
        buckets[Self.index(of: nanoseconds)] &+= 1
        count &+= 1
        maximum = max(maximum, nanoseconds)
    }

    package mutating func add(_ other: LatencyHistogram) {
        for index in buckets.indices { buckets[index] += other.buckets[index] }
        count += other.count
        maximum = max(maximum, other.maximum)
    }

    /// The smallest recorded duration that `share` of all are not above, in nanoseconds, to the
    /// width of its bucket; 0 where nothing was recorded.
    package func quantile(_ share: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let wanted = max(1, UInt64((share * Double(count)).rounded(.up)))
        var passed: UInt64 = 0
        for index in buckets.indices {
            passed += buckets[index]
            if passed >= wanted { return min(maximum, Self.middle(of: index)) }
        }
        return maximum
    }

    package func milliseconds(_ share: Double) -> Double { Double(quantile(share)) / 1e6 }

    package var maximumMilliseconds: Double { Double(maximum) / 1e6 }

    /// The buckets that hold anything, ascending, and how much.
    package var occupied: [(bucket: Int, count: UInt64)] {
        buckets.indices.compactMap { buckets[$0] > 0 ? ($0, buckets[$0]) : nil }
    }

    /// Takes what ``occupied`` of another process said. What is no bucket is left out.
    package mutating func add(_ number: UInt64, to bucket: Int) {
        guard buckets.indices.contains(bucket) else { return }
        buckets[bucket] &+= number
        count &+= number
        maximum = max(maximum, Self.middle(of: bucket))
    }

    private static func index(of value: UInt64) -> Int {
        guard value >= UInt64(perPower) else { return Int(value) }
        let power = 63 - value.leadingZeroBitCount
        let rest = Int(truncatingIfNeeded: value >> UInt64(power - bitsKept)) & (perPower - 1)
        return (power - bitsKept + 1) * perPower + rest
    }

    private static func middle(of index: Int) -> UInt64 {
        guard index >= perPower else { return UInt64(index) }
        let power = index / perPower + bitsKept - 1
        let width = UInt64(1) << UInt64(power - bitsKept)
        return (UInt64(perPower + index % perPower) << UInt64(power - bitsKept)) + width / 2
    }
}
