// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import KafkaClient
import Observability
import Reactor

/// What becomes of records that are no events.
extension Ingest {
    func reasonForDeadLetter(_ value: Span<UInt8>) -> (DeadLetterReason, String)? {
        switch validator.validate(value) {
        case .object: return nil
        case .notAnObject: return (.notAnObject, "valid JSON, but not an object")
        case .tooLarge:
            return (.tooLarge, "\(value.count) bytes, at most \(settings.eventBytesMax)")
        case .invalidUTF8: return (.invalidUTF8, "not UTF-8")
        case .malformed(let reason, let offset):
            let place = offset.map { " at byte \($0)" } ?? ""
            return (.malformed, reason.explanation + place)
        }
    }

    /// Writes a record that is no event to the dead-letter topic. True where an answer will come.
    func sendDeadLetter(
        _ record: borrowing KafkaRecord, _ value: Span<UInt8>, _ reason: (DeadLetterReason, String),
        _ slot: Slot
    ) -> Bool {
        metrics.deadLetters(reason.0).add()
        var headers: [(name: String, value: [UInt8])] = [
            ("rivulet-reason", Array(reason.0.rawValue.utf8)),
            ("rivulet-detail", Array(reason.1.utf8)),
            ("rivulet-topic", Array(slot.partition.topic.utf8)),
            ("rivulet-partition", Array("\(record.partition)".utf8)),
            ("rivulet-offset", Array("\(record.offset)".utf8)),
        ]
        // What is too large for the dead-letter topic would be lost there; its place in Kafka says
        // where to find the whole of it.
        let isLarge = value.count > IngestSettings.deadLetterBytesMax
        let kept = isLarge ? IngestSettings.deadLetterSample : value.count
        if isLarge { headers.append(("rivulet-size", Array("\(value.count)".utf8))) }
        let bound = LoopBound(self, on: loop)
        let loop = loop
        let (partition, generation) = (slot.partition, slot.generation)
        var keyBytes: [UInt8]?
        if let key = record.key {
            let isLarge = key.count > IngestSettings.deadLetterBytesMax
            let kept = isLarge ? IngestSettings.deadLetterSample : key.count
            if isLarge { headers.append(("rivulet-key-size", Array("\(key.count)".utf8))) }
            keyBytes = Self.copy(key.extracting(0..<kept))
        }
        do throws(KafkaError) {
            try producer.produce(
                topic: settings.deadLetterTopic, key: keyBytes,
                value: Self.copy(value.extracting(0..<kept)), headers: headers
            ) { result in
                loop.post { bound.value.deadLetterAnswered(result, partition, generation) }
            }
            return true
        } catch {
            deadLetterFailed(error, slot.partition)
            return false
        }
    }

    private func deadLetterAnswered(
        _ result: Result<KafkaDelivery, KafkaError>, _ partition: TopicPartition, _ generation: Int
    ) {
        if case .failure(let error) = result { deadLetterFailed(error, partition) }
        guard let slot = slots[partition], slot.generation == generation else { return }
        slot.ingest.deadLetterSettled()
        markDirty(slot)
        dispatch()
    }

    private func deadLetterFailed(_ error: KafkaError, _ partition: TopicPartition) {
        metrics.deadLetterFailures.add()
        log.error(
            "a record that is no event could not be kept in the dead-letter topic",
            LogField("partition", partition), LogField("error", error))
    }
}
