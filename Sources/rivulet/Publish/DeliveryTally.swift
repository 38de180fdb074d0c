// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import PosixIO
import Synchronization

/// Counts what became of the records that were handed over.
///
/// Threads: the producer's reporting thread counts, any reads.
final class DeliveryTally: Sendable {
    /// Different reasons that are told apart; one text for all the others.
    private static let reasonsMax = 8

    private struct Failures {
        var byReason: [String: Int] = [:]
        var lasting: KafkaError?
    }

    // Relaxed: each number stands alone.
    private let deliveredCount = Atomic<Int>(0)
    private let failedCount = Atomic<Int>(0)
    private let failures = Lock(Failures())

    var delivered: Int { deliveredCount.load(ordering: .relaxed) }
    var failed: Int { failedCount.load(ordering: .relaxed) }
    var settled: Int { delivered + failed }

    /// A failure that what follows would meet too, if there was one.
    var lastingFailure: KafkaError? {
        failed == 0 ? nil : failures.withLock { $0.lasting }
    }

    /// Each reason with how often it came.
    var reasons: [(reason: String, count: Int)] {
        failures.withLock { $0.byReason }
            .map { (reason: $0.key, count: $0.value) }
            .sorted { ($1.count, $0.reason) < ($0.count, $1.reason) }
    }

    func record(_ result: Result<KafkaDelivery, KafkaError>) {
        switch result {
        case .success: deliveredCount.wrappingAdd(1, ordering: .relaxed)
        case .failure(let error):
            failures.withLock { failures in
                let isKnown = failures.byReason[error.description] != nil
                let hasRoom = isKnown || failures.byReason.count < Self.reasonsMax
                failures.byReason[hasRoom ? error.description : "other reasons", default: 0] += 1
                if Self.isLasting(error) { failures.lasting = error }
            }
            failedCount.wrappingAdd(1, ordering: .relaxed)
        }
    }

    /// Whether the next record would fail for the same reason.
    static func isLasting(_ error: KafkaError) -> Bool {
        switch error.code {
        case .brokersUnavailable, .timedOut, .fatal, .authenticationFailed, .authorizationFailed,
            .topicUnknown, .closed:
            true
        default: false
        }
    }
}
