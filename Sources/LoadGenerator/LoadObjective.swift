// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// What a run has to keep: `p99=50ms`, `loss=0`.
package struct LoadObjective: Sendable, Equatable {
    package enum Measure: Sendable, Equatable {
        /// Latency below which so much of all deliveries lie.
        case latency(Double)
        case loss
        case repeats
        case gaps
        case reconnects
    }

    package let measure: Measure
    /// As it was given.
    package let text: String
    /// Milliseconds of a latency, else a number.
    package let most: Double

    package static let accepted =
        "p50, p90, p99, p999 or max with a time such as 50ms; loss, repeats, gaps or reconnects with "
        + "a number; several with commas"

    /// Reads `p99=50ms,loss=0`; `nil` where an entry is none.
    package static func parse(_ text: String) -> [LoadObjective]? {
        var objectives: [LoadObjective] = []
        for entry in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = entry.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2, let objective = LoadObjective(pair[0], pair[1]) else {
                return nil
            }
            objectives.append(objective)
        }
        return objectives.isEmpty ? nil : objectives
    }

    private init?(_ name: String, _ value: String) {
        let latencies = ["p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0]
        if let share = latencies[name] {
            measure = .latency(share)
            guard let most = Self.milliseconds(value) else { return nil }
            self.most = most
        } else {
            switch name {
            case "loss": measure = .loss
            case "repeats": measure = .repeats
            case "gaps": measure = .gaps
            case "reconnects": measure = .reconnects
            default: return nil
            }
            guard let most = Double(value), most >= 0, most.isFinite else { return nil }
            self.most = most
        }
        text = "\(name)=\(value)"
    }

    private static func milliseconds(_ text: String) -> Double? {
        for (unit, factor) in [("ms", 1.0), ("us", 0.001), ("s", 1000.0)] where text.hasSuffix(unit)
        {
            guard let value = Double(text.dropLast(unit.count)), value > 0, value.isFinite else {
                return nil
            }
            return value * factor
        }
        return nil
    }
}
