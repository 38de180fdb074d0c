// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability

extension KafkaConsumer {
    /// Turns one of librdkafka's events into ours. Takes the event over.
    func deliver(_ event: OpaquePointer, _ body: (borrowing KafkaEvent) -> Void) {
        let type = unsafe rd_kafka_event_type(event)
        if type == RD_KAFKA_EVENT_FETCH {
            unsafe deliverRecord(event, body)
            return
        }
        defer { unsafe rd_kafka_event_destroy(event) }
        switch type {
        case RD_KAFKA_EVENT_REBALANCE: unsafe deliverRebalance(event, body)
        case RD_KAFKA_EVENT_OFFSET_COMMIT: unsafe deliverCommit(event, body)
        case RD_KAFKA_EVENT_ERROR: unsafe deliverError(event, body)
        case RD_KAFKA_EVENT_LOG: unsafe handle.relay.take(event)
        default: break
        }
    }

    private func deliverRecord(_ event: OpaquePointer, _ body: (borrowing KafkaEvent) -> Void) {
        guard let record = unsafe KafkaRecord(event) else {
            unsafe rd_kafka_event_destroy(event)
            return
        }
        areBrokersDown = false
        // Only while an answer is owed can a record belong to a position already given up;
        // otherwise librdkafka's own version barrier has dropped those.
        if !postponed.isEmpty,
            postponed[TopicPartition(record.topic, record.partition)] != nil
        {
            return
        }
        let lent = KafkaEvent.record(record)
        body(lent)
    }

    private func deliverRebalance(_ event: OpaquePointer, _ body: (borrowing KafkaEvent) -> Void) {
        let partitions = unsafe rd_kafka_event_topic_partition_list(event).map {
            unsafe PartitionList.entries(of: $0).map(\.partition)
        }
        let list = partitions ?? []
        areBrokersDown = false
        if unsafe rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            hasSeenAssignment = true
            if let first = list.first { probeTopic = first.topic }
            owed = .assignment
            granted.formUnion(list)
            let lent = KafkaEvent.assigned(list)
            body(lent)
        } else {
            owed = .revocation
            isRevoking = true
            let isLost = unsafe rd_kafka_assignment_lost(handle.client) != 0
            let lent = KafkaEvent.revoked(list, lost: isLost)
            body(lent)
        }
    }

    private func deliverError(_ event: OpaquePointer, _ body: (borrowing KafkaEvent) -> Void) {
        let code = unsafe rd_kafka_event_error(event)
        let text = unsafe rd_kafka_event_error_string(event).map { unsafe String(cString: $0) }
        if let entry = unsafe rd_kafka_event_topic_partition(event) {
            let partition = unsafe TopicPartition(
                String(cString: entry.pointee.topic), entry.pointee.partition)
            let offset = unsafe entry.pointee.offset
            unsafe rd_kafka_topic_partition_destroy(entry)
            // An error of a position that a reposition has already replaced is nobody's news.
            guard postponed[partition] == nil, active[partition] != nil else { return }
            let error = KafkaError(code, text.map { "\(partition): \($0)" })
            deliverPartitionError(partition, offset, error, body)
            return
        }
        if let fatal = handle.fatalError {
            let lent = KafkaEvent.error(fatal)
            body(lent)
        } else if code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN {
            areBrokersDown = true
            let servers = settings.bootstrapServers.joined(separator: ", ")
            let lent = KafkaEvent.brokersDown(
                KafkaError(code, "no broker is reachable; began with \(servers)"))
            body(lent)
        } else {
            let lent = KafkaEvent.error(KafkaError(code, text))
            body(lent)
        }
    }

    private func deliverPartitionError(
        _ partition: TopicPartition, _ offset: Int64, _ error: KafkaError,
        _ body: (borrowing KafkaEvent) -> Void
    ) {
        let position = active[partition]?.position
        guard error.code == .offsetOutOfRange else {
            let lent = KafkaEvent.partitionError(partition, error)
            body(lent)
            return
        }
        // These errors carry no version, so one may be about a position given up meanwhile. A
        // partition never falls behind where it was last told to begin.
        if case .at(let start) = position, offset < start { return }
        if offset >= 0 {
            let lent = KafkaEvent.offsetOutOfRange(partition, offset: offset)
            body(lent)
        } else if position == .committed {
            let lent = KafkaEvent.positionMissing(partition)
            body(lent)
        } else {
            let lent = KafkaEvent.partitionError(partition, error)
            body(lent)
        }
    }
}
