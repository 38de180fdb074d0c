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
        askWatermarks(of: [slot]) { [weak self] found in
            guard let self else { return }
            guard let marks = found?[partition] else {
                let timer = LoopTimer { [weak self] in self?.offsetOutOfRange(partition, offset) }
                return loop.schedule(timer, after: .seconds(1))
            }
            guard slots[partition] === slot else { return }
            if offset > marks.high {
                recreated(slot, marks)
            } else if offset < marks.low {
                passed(slot, asked: offset, low: marks.low)
            } else {
                consumer?.reposition(partition, to: .at(offset))
            }
        }
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
        markDirty(slot)
        dispatch()
    }

    /// Has the partition's jumps judged in a while.
    func suspect(_ slot: Slot) {
        guard !slot.isSuspect else { return }
        slot.isSuspect = true
        suspects.append(slot)
    }

    /// Asks for the low watermarks of partitions with jumps in their offsets, all in one question,
    /// and one question at a time.
    func askAboutJumps() {
        guard !suspects.isEmpty, !isAskingAboutJumps else { return }
        for slot in suspects { slot.isSuspect = false }
        let asked = suspects.filter { slots[$0.partition] === $0 && $0.ingest.askingAboutJumps() }
        suspects.removeAll(keepingCapacity: true)
        guard !asked.isEmpty else { return }
        isAskingAboutJumps = true
        askWatermarks(of: asked) { [weak self] found in
            guard let self else { return }
            isAskingAboutJumps = false
            for slot in asked where slots[slot.partition] === slot {
                judge(slot, low: found?[slot.partition]?.low)
            }
            guard found != nil else {
                return loop.schedule(jumpTimer, after: .seconds(1))
            }
            dispatch()
            askAboutJumps()
        }
    }

    private func judge(_ slot: Slot, low: Int64?) {
        guard let low else {
            slot.ingest.jumpsWereNotJudged()
            return suspect(slot)
        }
        let before = slot.ingest.heldBytes
        slot.ingest.judgeJumps(low: low)
        heldBytes += slot.ingest.heldBytes - before
        markDirty(slot)
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
        of slots: [Slot], _ completion: @escaping ([TopicPartition: KafkaWatermarks]?) -> Void
    ) {
        guard let consumer else { return completion(nil) }
        let bound = LoopBound(completion, on: loop)
        let loop = loop
        let log = log
        let partitions = slots.map(\.partition)
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
