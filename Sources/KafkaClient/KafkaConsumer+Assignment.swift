// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability

extension KafkaConsumer {
    /// Answers ``KafkaEvent/assigned(_:)``: begins to read each partition at its position.
    ///
    /// A partition left out is not read; a later call may add it as long as the group leaves it
    /// to this member. One that the group has taken back, or that is being read, is ignored.
    package func completeAssignment(_ positions: [(TopicPartition, KafkaOffset)]) {
        var fresh: [TopicPartition: KafkaOffset] = [:]
        for (partition, position) in positions
        where granted.contains(partition) && active[partition] == nil {
            fresh[partition] = position
        }
        let ends = owed == .assignment
        guard ends || !fresh.isEmpty else { return }
        // An owed revocation is answered first: librdkafka takes any assignment for the answer.
        guard owed != .revocation else {
            log.warning("an assignment was answered while a revocation is owed; ignored")
            return
        }
        let added = assign(fresh)
        if ends {
            owed = .none
            isRevoking = false
        }
        if added {
            for (partition, position) in fresh { active[partition] = Reading(position: position) }
        }
        applyPostponed()
    }

    /// Answers ``KafkaEvent/revoked(_:lost:)``: stops reading and lets the group go on.
    ///
    /// Stored offsets of these partitions are forgotten. A commit between a revocation and the
    /// assignment after it can cost the whole assignment in librdkafka before 2.10, and one after
    /// it could set back what the next owner has committed.
    package func completeRevocation(_ partitions: [TopicPartition]) {
        guard owed == .revocation else { return }
        let ours = partitions.filter { active[$0] != nil }
        // The pause of a partition outlives its revocation in librdkafka; a later owner's turn
        // that ends here again would begin paused.
        resume(ours)
        unassign(ours)
        for partition in partitions {
            active[partition] = nil
            granted.remove(partition)
            postponed[partition] = nil
            stored[partition] = nil
            committing[partition] = nil
        }
        owed = .none
        applyPostponed()
    }

    /// Gives partitions to a consumer that is in no group, as a group would give them; begin to
    /// read them with ``completeAssignment(_:)``.
    ///
    /// Only for one that never subscribes: a member has what its group gives it.
    package func grant(_ partitions: some Sequence<TopicPartition>) {
        precondition(!isSubscribed, "a member of a group was given partitions by hand")
        granted.formUnion(partitions)
    }

    /// Takes back what ``grant(_:)`` gave, and reads it no more.
    package func withdraw(_ partitions: some Sequence<TopicPartition>) {
        precondition(!isSubscribed, "partitions of a group's member were taken by hand")
        let ours = partitions.filter { active[$0] != nil }
        resume(ours)
        if !ours.isEmpty { unassign(ours) }
        for partition in partitions {
            active[partition] = nil
            granted.remove(partition)
            postponed[partition] = nil
            stored[partition] = nil
            committing[partition] = nil
        }
    }

    /// Goes on reading `partition` at `position`. No record of the old position arrives after it.
    ///
    /// Where a rebalance is owed an answer it takes effect with that answer.
    package func reposition(_ partition: TopicPartition, to position: KafkaOffset) {
        reposition([(partition, position)])
    }

    /// Goes on reading each partition at its position; see ``reposition(_:to:)``.
    ///
    /// Not a seek: librdkafka 2.0 counts a seek's timeout a thousand times too short, and a seek
    /// revives no partition that stopped at an error.
    package func reposition(_ positions: [(TopicPartition, KafkaOffset)]) {
        var wanted: [TopicPartition: KafkaOffset] = [:]
        for (partition, position) in positions where active[partition] != nil {
            wanted[partition] = position
        }
        guard !wanted.isEmpty else { return }
        guard owed == .none else {
            postponed.merge(wanted) { $1 }
            return
        }
        // Stopping raises the partition's version, which drops what is still queued. A pause
        // stays in force over both calls.
        unassign(Array(wanted.keys))
        guard assign(wanted) else {
            for partition in wanted.keys { active[partition] = nil }
            return
        }
        for (partition, position) in wanted { active[partition]?.position = position }
    }

    /// Stops the records of these partitions until ``resume(_:)``. Those not being read, or
    /// paused already, are left alone.
    package func pause(_ partitions: [TopicPartition]) {
        let running = partitions.filter { active[$0]?.isPaused == false }
        guard !running.isEmpty else { return }
        let list = PartitionList(running)
        unsafe rd_kafka_pause_partitions(handle.client, list.pointer)
        for partition in running { active[partition]?.isPaused = true }
    }

    /// Ends a pause. Those that are not paused are left alone: librdkafka before 2.4 would read
    /// them again from an old position.
    package func resume(_ partitions: [TopicPartition]) {
        let paused = partitions.filter { active[$0]?.isPaused == true }
        guard !paused.isEmpty else { return }
        let list = PartitionList(paused)
        unsafe rd_kafka_resume_partitions(handle.client, list.pointer)
        for partition in paused { active[partition]?.isPaused = false }
    }

    private func applyPostponed() {
        guard owed == .none, !postponed.isEmpty else { return }
        let waiting = postponed
        postponed = [:]
        reposition(waiting.map { ($0.key, $0.value) })
    }

    private func assign(_ positions: [TopicPartition: KafkaOffset]) -> Bool {
        let list = PartitionList(capacity: positions.count)
        for (partition, position) in positions { list.add(partition, rawOffset: position.raw) }
        guard let error = unsafe rd_kafka_incremental_assign(handle.client, list.pointer) else {
            return true
        }
        unsafe report(KafkaError(taking: error, about: "assigning \(positions.count) partitions"))
        return false
    }

    private func unassign(_ partitions: [TopicPartition]) {
        let list = PartitionList(partitions)
        guard let error = unsafe rd_kafka_incremental_unassign(handle.client, list.pointer) else {
            return
        }
        unsafe report(KafkaError(taking: error, about: "giving up \(partitions.count) partitions"))
    }

    /// librdkafka refuses a change only where it is closing or beyond repair; both show as events.
    private func report(_ error: KafkaError) {
        log.warning("Kafka refused a change of the assignment", LogField("error", "\(error)"))
    }
}
