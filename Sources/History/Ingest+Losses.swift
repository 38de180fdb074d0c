// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Reactor
import RedisClient

/// How ingest finds out what Kafka has deleted before it was read, and makes it part of history.
extension Ingest {
    /// Kafka no longer, or not yet, holds the offset to read: retention was faster than this node,
    /// or the topic was deleted and made again.
    func offsetOutOfRange(_ partition: TopicPartition, _ offset: Int64) {
        guard let slot = slots[partition] else { return }
        slot.stoppedAt = offset
        suspect(slot)
    }

    /// Retention has passed the place where the partition was read. What was collected before it
    /// stays: it was read in time.
    private func passed(_ slot: Slot, asked: Int64, low: Int64) {
        let before = slot.ingest.heldBytes
        let missing = slot.ingest.retentionPassed(asked: asked, low: low)
        heldBytes += slot.ingest.heldBytes - before
        consumer?.reposition(slot.partition, to: .at(low))
        guard let missing else { return }
        log.notice(
            "retention has passed what was to be read next", LogField("partition", slot.partition),
            LogField("from", missing.lowerBound), LogField("to", missing.upperBound))
    }

    /// Has Kafka asked what it holds of the partition.
    func suspect(_ slot: Slot) {
        guard !slot.isSuspect else { return }
        slot.isSuspect = true
        suspects.append(slot)
    }

    /// Asks what Kafka holds of partitions that it does not hold the next offset of, or that have
    /// jumps in their offsets: all in one question, and one question at a time.
    func askAboutSuspects() {
        guard !suspects.isEmpty, !isAskingAboutSuspects, !suspectTimer.isScheduled else { return }
        var asked: [(slot: Slot, stoppedAt: Int64?)] = []
        for slot in suspects {
            slot.isSuspect = false
            let hasJumps = slot.ingest.askingAboutJumps()
            guard slots[slot.partition] === slot, hasJumps || slot.stoppedAt != nil else {
                continue
            }
            asked.append((slot, slot.stoppedAt))
            slot.stoppedAt = nil
        }
        suspects.removeAll(keepingCapacity: true)
        guard !asked.isEmpty else { return }
        isAskingAboutSuspects = true
        askWatermarks(of: asked.map(\.slot.partition)) { [weak self] found in
            guard let self else { return }
            isAskingAboutSuspects = false
            for (slot, stoppedAt) in asked where slots[slot.partition] === slot {
                judge(slot, stoppedAt, found?[slot.partition])
            }
            dispatch()
            guard found != nil else {
                return loop.schedule(suspectTimer, after: .seconds(1))
            }
            askAboutSuspects()
        }
    }

    /// - Parameter marks: What the partition holds; `nil` where Kafka did not say.
    private func judge(_ slot: Slot, _ stoppedAt: Int64?, _ marks: KafkaWatermarks?) {
        guard let marks else {
            slot.ingest.jumpsWereNotJudged()
            slot.stoppedAt = slot.stoppedAt ?? stoppedAt
            return suspect(slot)
        }
        let before = slot.ingest.heldBytes
        slot.ingest.judgeJumps(low: marks.low)
        heldBytes += slot.ingest.heldBytes - before
        markDirty(slot)
        guard let offset = stoppedAt else { return }
        if offset > marks.high {
            recreated(slot, marks)
        } else if offset < marks.low {
            passed(slot, asked: offset, low: marks.low)
        } else {
            consumer?.reposition(slot.partition, to: .at(offset))
        }
    }

    /// A loss has become part of history, once for the cluster.
    func lossWasAppended(_ loss: HistoryLoss, of slot: Slot) {
        metrics.lostOffsets.add(UInt64(clamping: loss.lost))
        log.error(
            "Kafka's retention deleted records before they were read",
            LogField("partition", slot.partition), LogField("from", loss.last - loss.lost + 1),
            LogField("to", loss.last), LogField("lost", loss.lost))
    }

    /// - Parameter completion: Called on the loop; with `nil` where Kafka did not answer.
    private func askWatermarks(
        of partitions: [TopicPartition],
        _ completion: @escaping ([TopicPartition: KafkaWatermarks]?) -> Void
    ) {
        guard let consumer else { return completion(nil) }
        let bound = LoopBound(completion, on: loop)
        let loop = loop
        let log = log
        consumer.queryWatermarks(of: partitions, within: .seconds(5)) { result in
            loop.post {
                switch result {
                case .success(let found): bound.value(found)
                case .failure(let error):
                    log.warning(
                        "cannot find out what partitions hold; asking again",
                        LogField("partitions", partitions.count), LogField("error", error))
                    bound.value(nil)
                }
            }
        }
    }
}
