// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// How events arrive.
enum FanoutMode: String, Sendable, CaseIterable {
    /// Each on its own, evenly spaced: one append, and for the floor one send a connection.
    case single
    /// Many at once: one append, and one send a connection, for a batch of them.
    case firehose
}

/// Where the node's events come from.
enum FanoutPath: String, Sendable, CaseIterable {
    case history
    case kafka

    var explanation: String {
        switch self {
        case .history:
            "appended to history by the benchmark: the node tails Redis and fans out, nothing else"
        case .kafka: "published to Kafka: the node ingests, appends, tails and fans out"
        }
    }
}

/// What the fan-out benchmark was asked to do.
struct FanoutPlan: Sendable {
    var connections = [1, 1_000, 10_000]
    var modes = FanoutMode.allCases
    var path = FanoutPath.history
    var rounds = 3
    var window: Duration = .seconds(3)
    var eventBytes = 300
    /// Events of one batch in ``FanoutMode/firehose``.
    var batch = 16
    var p99Limit: Duration = .milliseconds(250)
    /// Deliveries a second, where no highest rate is to be looked for.
    var fixedRate: Double?
    /// The search ends once the rates held and not held are this near.
    var searchStep = 1.12
    /// A rate counts as not held when it was missed this often.
    var attempts = 2

    /// Length of the windows at the moderate load, where it is another.
    var moderateWindow: Duration?
    var hasNchan = true
    var measuresIdle = true

    /// At which latency is compared, in deliveries a second; of one connection no more than
    /// ``moderateEvents`` events a second.
    static let moderateDeliveries = 10_000.0
    static let moderateEvents = 1_000.0

    init() {}

    init(_ options: GivenOptions) throws(BenchmarkError) {
        if options.has("quick") {
            rounds = 1
            window = .seconds(1)
            searchStep = 1.35
            attempts = 1
        }
        rounds = try options.integer("rounds", in: 1...100) ?? rounds
        connections = try options.integers("connections", in: 1...1_000_000) ?? connections
        if let seconds = try options.integer("seconds", in: 1...600) { window = .seconds(seconds) }
        eventBytes = try options.integer("event-bytes", in: 80...60_000) ?? eventBytes
        batch = try options.integer("batch", in: 2...500) ?? batch
        if let limit = try options.integer("p99-limit", in: 1...60_000) {
            p99Limit = .milliseconds(limit)
        }
        if let mode: FanoutMode = try options.choice("mode") { modes = [mode] }
        if let path: FanoutPath = try options.choice("path") { self.path = path }
        fixedRate = try options.integer("rate", in: 1...100_000_000).map { Double($0) }
        hasNchan = !options.has("without-nchan")
    }

    func eventsPerBatch(_ mode: FanoutMode) -> Int { mode == .single ? 1 : batch }

    /// Where the search begins, in events a second.
    func firstRate(_ mode: FanoutMode, connections: Int) -> Double {
        let deliveries = mode == .single ? 40_000.0 : 300_000.0
        return min(deliveries / Double(connections), mode == .single ? 3_000 : 50_000)
    }

    /// The rate at which the fewest batches of a window take four times its length.
    func slowestRate(eventsPerBatch: Int) -> Double {
        Double(Schedule.batchesMin * eventsPerBatch) / (4 * window.inSeconds)
    }

    func moderateRate(connections: Int) -> Double {
        min(Self.moderateDeliveries / Double(connections), Self.moderateEvents)
    }
}
