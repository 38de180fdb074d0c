// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
import Bytes
package import KafkaClient
package import Observability
import PosixIO

/// What became of one record that the index lists.
package enum RecordOutcome: Sendable {
    case appended
    /// It is not there any more, for this reason.
    case lost(GapNotice.Reason)
    /// It cannot be had at the moment.
    case unavailable(KafkaError)
}

/// Where the records of old events are read back from.
///
/// View: one reader of a node. Threads: one at a time, which may block.
package protocol RecordSource: AnyObject {
    /// Announces what is read next: each partition once, with the lowest offset that is wanted.
    func place(_ positions: [(TopicPartition, Int64)]) throws(KafkaError)

    /// Appends one record to `batch`. Offsets of a partition ascend.
    func append(
        recordAt offset: Int64, of partition: TopicPartition, to batch: inout BatchEncoding
    ) -> RecordOutcome

    /// Nothing is wanted for the time being.
    func rest()
}

/// The records in Kafka.
package final class KafkaRecordSource: RecordSource {
    private let reader: KafkaRangeReader
    /// How long a record that has to be there may take. Generous, because a leader may have to be
    /// found first; whoever waits is asked to come again.
    private let patience: Duration
    /// Partitions of which something is gone, with what they hold.
    private var marks: [TopicPartition: KafkaWatermarks] = [:]
    private var gone: Set<TopicPartition> = []

    package init(settings: KafkaSettings, patience: Duration = .seconds(5), log: Logger)
        throws(KafkaError)
    {
        reader = try KafkaRangeReader(settings: settings, log: log)
        self.patience = patience
    }

    package func place(_ positions: [(TopicPartition, Int64)]) throws(KafkaError) {
        gone.removeAll()
        var wanted = positions
        for index in wanted.indices {
            // What is known to be gone is not asked for again; marks only ever move up.
            if let low = marks[wanted[index].0]?.low { wanted[index].1 = max(low, wanted[index].1) }
        }
        try reader.place(wanted)
    }

    package func rest() {
        reader.rest()
        marks.removeAll()
    }

    package func append(
        recordAt offset: Int64, of partition: TopicPartition, to batch: inout BatchEncoding
    ) -> RecordOutcome {
        if gone.contains(partition) { return .lost(.kafkaLost) }
        if let known = marks[partition], offset < known.low { return .lost(.retention) }
        var isEvent = false
        let found = reader.read(partition, at: offset, until: .now + patience) { record in
            isEvent = batch.append(record)
        }
        switch found {
        case .record:
            // A tombstone was no event when the index was written: the topic is another one.
            return isEvent ? .appended : .lost(.kafkaLost)
        case .nothing: return .lost(.compacted)
        case .outOfRange: return outOfRange(partition, offset)
        case .late: return late(partition, offset)
        case .failed(let error):
            guard error.code == .topicUnknown else { return .unavailable(error) }
            return late(partition, offset)
        }
    }

    /// Finds out what the partition holds, and goes on reading it where something that is wanted
    /// may be left.
    private func outOfRange(_ partition: TopicPartition, _ offset: Int64) -> RecordOutcome {
        do throws(KafkaError) {
            guard let found = try reader.watermarks(of: partition, within: patience) else {
                gone.insert(partition)
                return .lost(.kafkaLost)
            }
            marks[partition] = found
            guard offset < found.low || offset >= found.high else {
                return .unavailable(
                    KafkaError(
                        .offsetOutOfRange, "\(partition) holds \(found.low)..<\(found.high) again",
                        isRetriable: true))
            }
            if offset < found.low {
                try reader.place([(partition, found.low)])
                return .lost(.retention)
            }
            gone.insert(partition)
            return .lost(.kafkaLost)
        } catch { return .unavailable(error) }
    }

    private func late(_ partition: TopicPartition, _ offset: Int64) -> RecordOutcome {
        do throws(KafkaError) {
            guard let found = try reader.watermarks(of: partition, within: patience),
                offset < found.high
            else {
                gone.insert(partition)
                return .lost(.kafkaLost)
            }
            if offset < found.low {
                marks[partition] = found
                return .lost(.retention)
            }
            return .unavailable(
                KafkaError(
                    .timedOut, "\(partition) did not give offset \(offset)", isRetriable: true))
        } catch { return .unavailable(error) }
    }
}

extension BatchEncoding {
    /// Appends a record as ingest does; false where it has no value.
    mutating func append(_ record: borrowing KafkaRecord) -> Bool {
        guard let value = record.value else { return false }
        var headers: [(name: [UInt8], value: [UInt8])] = []
        record.forEachHeader(limit: IngestSettings.headersMax) { name, value in
            if let value {
                headers.append((Ingest.copy(name), Ingest.copy(value)))
            } else {
                headers.append((Ingest.copy(name), []))
            }
        }
        if let key = record.key {
            append(
                offset: record.offset, timestamp: record.timestamp, key: key, hasKey: true,
                headers: headers, value: value)
        } else {
            append(
                offset: record.offset, timestamp: record.timestamp, key: value.extracting(0..<0),
                hasKey: false, headers: headers, value: value)
        }
        return true
    }
}

extension KafkaPageReaders {
    /// Makes what a reader needs, on its thread.
    package struct Equipment: Sendable {
        package let source: @Sendable () throws(KafkaError) -> any RecordSource
        package let encoder: @Sendable () -> BatchEncoder?

        package init(
            source: @escaping @Sendable () throws(KafkaError) -> any RecordSource,
            encoder: @escaping @Sendable () -> BatchEncoder?
        ) {
            self.source = source
            self.encoder = encoder
        }
    }
}
