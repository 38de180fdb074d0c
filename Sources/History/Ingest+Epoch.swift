// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire
import KafkaClient
import Observability
import Reactor
import RedisClient

/// How ingest finds out that Redis holds less than it did, also where nothing is produced.
extension Ingest {
    private static let attachInterval: Duration = .seconds(1)

    /// Attaches to the history that this server holds. Nothing is appended before, because a
    /// server that was promoted, restarted or emptied has to end the epoch first.
    func attach() {
        guard !isStopped, !isAttaching, connection.state == .ready else { return }
        isAttaching = true
        let before = appender.epoch
        let seen = max(appendedID, tailProgress().newestID)
        appender.attach(seen: seen) { [weak self] result in
            guard let self, !isStopped else { return }
            isAttaching = false
            loop.schedule(attachTimer, after: Self.attachInterval)
            switch result {
            case .failure(let error):
                isAttached = false
                guard connection.state == .ready else { return }
                lastError = error.description
                log.warning("cannot attach to history", LogField("error", error))
                loop.schedule(attachTimer, after: .milliseconds(200))
            case .success(let state):
                let hasChanged = state.epoch != before
                if hasChanged { appendedID = .zero }
                if hasChanged, !before.isEmpty {
                    metrics.epochs.add()
                    log.notice(
                        "history goes on in another epoch", LogField("epoch", state.epoch),
                        LogField("before", before))
                    marksAreOld = true
                }
                if marksAreOld { compareMarks() }
                guard hasChanged || !isAttached else { return }
                isAttached = true
                findStarts()
                resend()
            }
        }
    }

    /// Looks at the high-water offsets of all partitions: where one has fallen back, Kafka is read
    /// again. A partition with a batch under way learns it from the answer.
    private func compareMarks() {
        marksAreOld = false
        for (topic, members) in Dictionary(grouping: slots.values, by: \.partition.topic) {
            let numbers = members.map(\.partition.partition)
            appender.highWaters(of: topic, partitions: numbers) { [weak self] result in
                guard let self, !isStopped else { return }
                guard case .success(let marks) = result else {
                    // The next attach compares them.
                    marksAreOld = true
                    return
                }
                for (slot, mark) in zip(members, marks.ofPartitions)
                where slots[slot.partition] === slot {
                    guard !slot.isUnderWay, (mark ?? -1) < slot.ingest.highWater else { continue }
                    heal(slot, from: mark ?? -1)
                }
            }
        }
    }
}
