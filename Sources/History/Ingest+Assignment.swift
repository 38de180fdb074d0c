// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient

/// How partitions come, go and find their place.
extension Ingest {
    /// The group gives partitions. They are accepted once Redis has said where each starts; until
    /// then the group waits for this member, which is right: without Redis nobody could append.
    func assigned(_ partitions: [TopicPartition]) {
        onUp?()
        awaitingStart = partitions
        findStarts()
    }

    func findStarts() {
        guard let partitions = awaitingStart else { return }
        guard !partitions.isEmpty else {
            awaitingStart = nil
            consumer?.completeAssignment([])
            return
        }
        guard connection.state == .ready, isAttached else { return }
        let byTopic = Dictionary(grouping: partitions, by: \.topic)
        let answers = StartAnswers(outstanding: byTopic.count)
        for (topic, members) in byTopic {
            let numbers = members.map(\.partition)
            appender.highWaters(of: topic, partitions: numbers) { [weak self] result in
                guard let self else { return }
                answers.outstanding -= 1
                switch result {
                case .success(let marks):
                    for (member, mark) in zip(members, marks.ofPartitions) {
                        answers.marks[member] = mark
                    }
                    if marks.topicIsKnown { answers.knownTopics.insert(topic) }
                case .failure(let error):
                    answers.hasFailed = true
                    log.warning(
                        "cannot read where a topic's partitions start", LogField("topic", topic),
                        LogField("error", error))
                }
                if answers.outstanding == 0 { startsFound(answers, for: partitions) }
            }
        }
    }

    private func startsFound(_ answers: StartAnswers, for partitions: [TopicPartition]) {
        // The group may have taken them back in the meantime.
        guard awaitingStart == partitions, let consumer else { return }
        guard !answers.hasFailed else {
            loop.schedule(startRetryTimer, after: .milliseconds(200))
            return
        }
        let unknown = partitions.filter { (answers.marks[$0] ?? nil) == nil }
        guard unknown.isEmpty || !answers.starts.isEmpty else {
            return findStarts(of: unknown, answers, for: partitions)
        }
        awaitingStart = nil
        var positions: [(TopicPartition, KafkaOffset)] = []
        for partition in partitions {
            let mark = answers.marks[partition] ?? nil
            let start = answers.starts[partition] ?? PartitionStart(offset: (mark ?? -1) + 1)
            begin(partition, highWater: mark, start)
            positions.append((partition, .at(start.offset)))
        }
        consumer.completeAssignment(positions)
        dispatch()
        lastError = nil
        pauseIfPaused(partitions)
        partitionsChanged()
        log.info(
            "reading partitions", LogField("added", partitions.count),
            LogField("partitions", slots.count))
    }

    /// Finds where partitions start that history knows nothing of. Asked of Kafka here and not left
    /// to librdkafka, because only who knows where a partition was to start can tell what is
    /// missing before its first record.
    private func findStarts(
        of unknown: [TopicPartition], _ answers: StartAnswers, for partitions: [TopicPartition]
    ) {
        let bound = LoopBound((self, answers), on: loop)
        let loop = loop
        consumer?.queryStarts(of: unknown, within: .seconds(5)) { result in
            loop.post {
                let (ingest, answers) = bound.value
                guard ingest.awaitingStart == partitions else { return }
                switch result {
                case .success(let found):
                    for partition in unknown {
                        guard let known = found[partition] else { continue }
                        // A partition that a known topic has grown is read whole: what it holds
                        // was written while this group was reading the topic.
                        let isNew = !answers.knownTopics.contains(partition.topic)
                        answers.starts[partition] = .init(
                            known, startsAtEnd: ingest.settings.startsAtEnd && isNew)
                    }
                    answers.hasFailed = answers.starts.count < unknown.count
                case .failure(let error):
                    answers.hasFailed = true
                    ingest.log.warning(
                        "cannot find out where partitions start; asking again",
                        LogField("partitions", unknown.count), LogField("error", error))
                }
                ingest.startsFound(answers, for: partitions)
            }
        }
    }

    /// The group takes partitions. What was collected of them is dropped: their next owner reads
    /// it again from the high-water offset, and what is under way is harmless.
    func revoked(_ partitions: [TopicPartition], lost: Bool) {
        if let awaiting = awaitingStart, partitions.contains(where: awaiting.contains) {
            awaitingStart = nil
        }
        for partition in partitions { slots[partition] = nil }
        consumer?.completeRevocation(partitions)
        partitionsChanged()
        log.info(
            lost ? "partitions were lost" : "partitions were handed over",
            LogField("removed", partitions.count), LogField("partitions", slots.count))
    }

    /// The partition ends before the high-water offset: it is another topic under the same name.
    func recreated(_ slot: Slot, _ marks: KafkaWatermarks) {
        let seen = slot.ingest.highWater
        log.error(
            "a topic was deleted and made again; its history starts over",
            LogField("partition", slot.partition), LogField("highWater", seen),
            LogField("end", marks.high))
        appender.forgetHighWater(
            of: slot.partition.topic, partition: slot.partition.partition, seen: seen
        ) { [weak self] result in
            guard let self, slots[slot.partition] === slot else { return }
            switch result {
            case .success(true):
                restart(slot, at: marks.low, highWater: -1)
                consumer?.reposition(slot.partition, to: .at(marks.low))
            case .success(false), .failure: findStart(of: slot)
            }
        }
    }

    /// Somebody else has moved the mark, or Redis did not answer: the mark is read anew, and Kafka
    /// says once more whether it holds what follows.
    private func findStart(of slot: Slot) {
        let partition = slot.partition
        appender.highWaters(of: partition.topic, partitions: [partition.partition]) {
            [weak self] result in
            guard let self, slots[partition] === slot else { return }
            guard case .success(let marks) = result else {
                let timer = LoopTimer { [weak self] in self?.findStart(of: slot) }
                loop.schedule(timer, after: .seconds(1))
                return
            }
            let mark = marks.ofPartitions[0]
            restart(slot, at: (mark ?? -1) + 1, highWater: mark ?? -1)
            consumer?.reposition(partition, to: mark.map { .at($0 + 1) } ?? .beginning)
        }
    }
}

/// Collects the answers for several topics; lives on the ingest loop.
private final class StartAnswers {
    var outstanding: Int
    var marks: [TopicPartition: Int64?] = [:]
    /// Topics of which history knows some partition.
    var knownTopics: Set<String> = []
    /// Of partitions without a mark.
    var starts: [TopicPartition: PartitionStart] = [:]
    var hasFailed = false

    init(outstanding: Int) { self.outstanding = outstanding }
}
