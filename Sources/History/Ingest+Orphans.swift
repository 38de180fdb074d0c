// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient
import Observability

/// How partitions are read that no group gave: those of a node that died, until the group has
/// reassigned them. What another node appends meanwhile is found there and costs nothing.
extension Ingest {
    /// Reads exactly these from here on, each from its high-water offset.
    ///
    /// For an ingest that joins no group.
    package func read(orphans wanted: Set<TopicPartition>) {
        precondition(!settings.joinsGroup, "a member of a group reads what the group gives")
        guard wanted != orphans else { return }
        let gone = orphans.subtracting(wanted)
        let fresh = wanted.subtracting(orphans)
        orphans = wanted
        if !gone.isEmpty { release(gone) }
        log.notice(
            "reading partitions of dead nodes", LogField("added", fresh.count),
            LogField("removed", gone.count), LogField("partitions", wanted.count))
        beginOrphans()
    }

    /// Finds the starts of those that are not read yet.
    func beginOrphans() {
        let waiting = orphans.filter { slots[$0] == nil }.sorted()
        awaitingStart = waiting.isEmpty ? nil : waiting
        guard !waiting.isEmpty, let consumer else { return }
        consumer.grant(waiting)
        findStarts()
    }

    private func release(_ partitions: Set<TopicPartition>) {
        for partition in partitions { slots[partition] = nil }
        consumer?.withdraw(partitions)
        partitionsChanged()
    }
}
