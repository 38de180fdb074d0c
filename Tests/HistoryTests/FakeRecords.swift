// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import KafkaClient
import PosixIO

@testable import History

/// Kafka as a table of records, for tests of what is read back from it.
final class FakeKafka: Sendable {
    struct State {
        var records: [TopicPartition: [Int64: HistoryEvent]] = [:]
        /// What retention has deleted lies below.
        var low: [TopicPartition: Int64] = [:]
        var gone: Set<TopicPartition> = []
        /// Records that are given before it stops to answer; `nil` is no limit.
        var answersLeft: Int?
        var reads = 0
    }

    let state = Lock(State())

    /// Keeps what a batch was made of.
    func keep(_ request: AppendRequest) throws {
        let events = try request.events
        let partition = TopicPartition(request.topic, request.partition)
        state.withLock { state in
            for event in events { state.records[partition, default: [:]][event.offset] = event }
        }
    }

    /// The topic was deleted and made again.
    func forget(_ partition: TopicPartition) {
        state.withLock { $0.records[partition] = [:] }
    }

    func compact(_ topic: String, _ partition: Int32, _ offset: Int64) {
        state.withLock { $0.records[TopicPartition(topic, partition)]?[offset] = nil }
    }
}

final class FakeRecordSource: RecordSource {
    private let kafka: FakeKafka
    private var placed: [TopicPartition: Int64] = [:]

    init(_ kafka: FakeKafka) { self.kafka = kafka }

    func place(_ positions: [(TopicPartition, Int64)]) throws(KafkaError) {
        for (partition, offset) in positions { placed[partition] = offset }
    }

    func rest() { placed = [:] }

    func append(
        recordAt offset: Int64, of partition: TopicPartition, to batch: inout BatchEncoding
    ) -> RecordOutcome {
        precondition(placed[partition].map { offset >= $0 } ?? false, "\(partition) is not placed")
        placed[partition] = offset + 1
        let found: (outcome: RecordOutcome, event: HistoryEvent?) = kafka.state.withLock { state in
            state.reads += 1
            if state.gone.contains(partition) { return (.lost(.kafkaLost), nil) }
            if offset < state.low[partition] ?? 0 { return (.lost(.retention), nil) }
            if let left = state.answersLeft {
                guard left > 0 else {
                    return (.unavailable(KafkaError(.timedOut, "a test", isRetriable: true)), nil)
                }
                state.answersLeft = left - 1
            }
            guard let event = state.records[partition]?[offset] else {
                return (.lost(.compacted), nil)
            }
            return (.appended, event)
        }
        if let event = found.event { batch.append(event) }
        return found.outcome
    }
}
