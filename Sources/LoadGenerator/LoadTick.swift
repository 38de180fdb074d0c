// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// What subscribers have seen in one interval.
///
/// View: one worker, or all of them once added up. Threads: a value. Workers are processes of their
/// own and write it as one line of text.
package struct LoadTick: Sendable {
    /// Counts of the interval, in the order in which the line has them.
    package enum Count: Int, CaseIterable, Sendable {
        /// Streams that are open at its end.
        case streaming
        case opened
        /// Streams that the server or the network ended.
        case ended
        /// Answers that were no stream, and connections that failed.
        case refused
        case delivered
        case others
        case bytes
        /// Events with an ID that the client had had before.
        case repeats
        case gaps
        case rateLimited
        /// Thousandths of the time that the worker was busy.
        case busy
    }

    package var counts = [UInt64](repeating: 0, count: Count.allCases.count)
    /// Events by target, in the order of the plan.
    package var byTarget: [UInt64]
    /// From when an event was due by the schedule until it was read.
    package var latency = LatencyHistogram()
    /// From when it was due until Redis gave it its ID, to a millisecond.
    package var toHistory = LatencyHistogram()
    /// From there until it was read.
    package var toClient = LatencyHistogram()
    /// From the attempt to connect until the head of the stream was there.
    package var connect = LatencyHistogram()

    package init(targets: Int) { byTarget = [UInt64](repeating: 0, count: targets) }

    package subscript(_ count: Count) -> UInt64 {
        get { counts[count.rawValue] }
        set { counts[count.rawValue] = newValue }
    }

    /// Adds another worker's, of the same interval.
    package mutating func add(_ other: LoadTick) {
        for index in counts.indices {
            counts[index] =
                index == Count.busy.rawValue
                ? max(counts[index], other.counts[index]) : counts[index] + other.counts[index]
        }
        for index in byTarget.indices where index < other.byTarget.count {
            byTarget[index] += other.byTarget[index]
        }
        latency.add(other.latency)
        toHistory.add(other.toHistory)
        toClient.add(other.toClient)
        connect.add(other.connect)
    }

    // MARK: - As text

    private static let histograms: [any WritableKeyPath<LoadTick, LatencyHistogram> & Sendable] = [
        \.latency, \.toHistory, \.toClient, \.connect,
    ]

    package var line: String {
        var parts = [
            counts.map(String.init).joined(separator: ","),
            byTarget.map(String.init).joined(separator: ","),
        ]
        for path in Self.histograms {
            parts.append(
                self[keyPath: path].occupied.map { "\($0.bucket):\($0.count)" }
                    .joined(separator: ","))
        }
        return parts.joined(separator: ";")
    }

    /// `nil` where the text is none that ``line`` gives.
    package init?(line: some StringProtocol) {
        let parts = line.split(separator: ";", omittingEmptySubsequences: false)
        guard parts.count == 2 + Self.histograms.count else { return nil }
        let counts = parts[0].split(separator: ",").map { UInt64($0) }
        let targets = parts[1].split(separator: ",").map { UInt64($0) }
        guard counts.count == Count.allCases.count, !counts.contains(nil), !targets.contains(nil)
        else { return nil }
        self.init(targets: targets.count)
        self.counts = counts.compactMap(\.self)
        byTarget = targets.compactMap(\.self)
        for (path, part) in zip(Self.histograms, parts[2...]) {
            for entry in part.split(separator: ",") {
                let pair = entry.split(separator: ":")
                guard pair.count == 2, let bucket = Int(pair[0]), let count = UInt64(pair[1]) else {
                    return nil
                }
                self[keyPath: path].add(count, to: bucket)
            }
        }
    }
}
