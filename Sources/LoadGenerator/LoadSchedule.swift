// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// How many events a second are due at which time of a run.
///
/// Decided before the first event is published: an open loop. Whatever falls behind is late from then
/// on, and each event's lateness counts from when it was due.
package struct LoadSchedule: Sendable, Equatable {
    package enum Shape: String, Sendable, CaseIterable {
        case constant
        /// From nothing to the rate.
        case ramp
        /// Four steps of the same length: a quarter, a half, three quarters and all of the rate.
        case steps
        /// A fifth of the rate, but all of it in the middle fifth.
        case spike
        /// A day: from a tenth of the rate to all of it and back.
        case diurnal
    }

    package let shape: Shape
    /// Events a second at the most.
    package let rate: Double
    package let length: Duration

    package init(shape: Shape, rate: Double, length: Duration) {
        self.shape = shape
        self.rate = rate
        self.length = length
    }

    /// Events that are due before a part of the run, from 0 to 1, is over.
    package func due(at part: Double) -> Int {
        let part = min(1, max(0, part))
        return Int((area(part) * rate * length.inSeconds).rounded(.down))
    }

    /// All events of the run.
    package var count: Int { due(at: 1) }

    /// The part of the run at which event `number` is due: the inverse of ``due(at:)``, to a
    /// millionth.
    package func part(of number: Int) -> Double {
        var (low, high) = (0.0, 1.0)
        for _ in 0..<40 {
            let middle = (low + high) / 2
            if due(at: middle) > number { high = middle } else { low = middle }
        }
        return high
    }

    /// What the rate adds up to until then, of the rate at the most for the whole run.
    private func area(_ part: Double) -> Double {
        switch shape {
        case .constant: return part
        case .ramp: return part * part / 2
        case .steps:
            let step = min(3, Int(part * 4))
            let before = Double(step * (step + 1)) / 2 / 16
            return before + (part - Double(step) / 4) * Double(step + 1) / 4
        case .spike: return part * 0.2 + min(0.2, max(0, part - 0.4)) * 0.8
        case .diurnal:
            return 0.1 * part + 0.9 * (part - sin(2 * .pi * part) / (2 * .pi)) / 2
        }
    }
}
