// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO

/// Ends a consumer on a thread of its own, around what librdkafka 2.0 gets wrong.
///
/// - Before 2.3, ending a cooperative consumer that has asked to join and has no assignment yet
///   is a segmentation fault: the first assignment is waited for.
/// - Before 2.14.2, leaving while the coordinator is away is one as well: it is asked something
///   harmless first, and where it does not answer the group is left to notice by itself.
/// - Before 2.4, an assignment that arrives while the consumer closes hangs it for ever, and
///   before 2.6 a deleted partition may hang the destruction: all of this has a deadline that
///   ``KafkaConsumer/close(within:)`` keeps from outside.
///
/// Threads: its own. Nothing else uses the client any more.
@safe
struct ConsumerClosing: @unchecked Sendable {
    // @unchecked: the queue is safe across threads and given up by its former user.
    let handle: ClientHandle
    let queue: OpaquePointer
    let deadline: MonotonicTime
    let offsets: [TopicPartition: Int64]
    let owed: KafkaConsumer.OwedAnswer
    let active: [TopicPartition]
    let isSubscribed: Bool
    let hasSeenAssignment: Bool
    let areBrokersDown: Bool
    let probe: TopicPartition

    /// librdkafka's version as it runs: 0x020000ff is 2.0.0.
    private static var version: Int32 { KafkaLibrary.versionNumber }

    /// The share of the time left that a probe of the coordinator may take.
    private static let probeLimit: Duration = .seconds(2)
    /// Time kept back from leaving for the destruction, which joins librdkafka's threads.
    private static let destroyReserve: Duration = .milliseconds(300)

    func run() {
        var canLeave = isSubscribed && !areBrokersDown
        var isAssignorReady = hasSeenAssignment || !isSubscribed || Self.version >= 0x0203_0000
        if canLeave, !isAssignorReady {
            isAssignorReady = waitForFirstAssignment()
            canLeave = isAssignorReady
        } else if owed != .none {
            answer(isAssignment: owed == .assignment, active)
        }
        if canLeave { canLeave = coordinatorAnswers() }
        if canLeave {
            commit()
            leave()
        }
        // Without a member ID no join has been answered, so librdkafka has chosen no assignor.
        guard isAssignorReady || !handle.hasMemberID else {
            handle.log.warning(
                "the Kafka consumer is between joining and its first assignment, where ending it "
                    + "is unsafe; its memory is given up")
            return
        }
        unsafe rd_kafka_queue_destroy(queue)
        handle.destroy(flags: RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    }

    private var leaveDeadline: MonotonicTime { deadline + (.zero - Self.destroyReserve) }

    private func waitForFirstAssignment() -> Bool {
        while MonotonicTime.now < leaveDeadline {
            guard let event = unsafe rd_kafka_queue_poll(queue, 50) else { continue }
            defer { unsafe rd_kafka_event_destroy(event) }
            guard unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE else { continue }
            answer(
                isAssignment: unsafe rd_kafka_event_error(event)
                    == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, [])
            return true
        }
        return false
    }

    /// Ends a rebalance that waits for an answer: reads nothing more, gives up what is read.
    private func answer(isAssignment: Bool, _ partitions: [TopicPartition]) {
        let list = PartitionList(isAssignment ? [] : partitions)
        let error =
            unsafe isAssignment
            ? rd_kafka_incremental_assign(handle.client, list.pointer)
            : rd_kafka_incremental_unassign(handle.client, list.pointer)
        if let error = unsafe error { unsafe rd_kafka_error_destroy(error) }
    }

    private func coordinatorAnswers() -> Bool {
        let left = leaveDeadline - MonotonicTime.now
        let limit = min(left / 3, Self.probeLimit)
        guard limit > .zero else { return false }
        do throws(KafkaError) {
            _ = try handle.committedOffsets(of: [probe], within: limit)
            return true
        } catch  where error.code == .timedOut || error.code == .brokersUnavailable {
            handle.log.notice(
                "the group's coordinator is away; the group will notice the leave by itself",
                LogField("error", "\(error)"))
            return false
        } catch { return true }
    }

    private func commit() {
        guard !offsets.isEmpty else { return }
        let list = PartitionList(capacity: offsets.count)
        for (partition, offset) in offsets { list.add(partition, rawOffset: offset) }
        guard let answers = unsafe rd_kafka_queue_new(handle.client) else { return }
        defer { unsafe rd_kafka_queue_destroy(answers) }
        let code = unsafe rd_kafka_commit_queue(handle.client, list.pointer, answers, nil, nil)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { return }
        while MonotonicTime.now < leaveDeadline {
            guard let event = unsafe rd_kafka_queue_poll(answers, 50) else { continue }
            unsafe rd_kafka_event_destroy(event)
            return
        }
    }

    private func leave() {
        // A queue of its own: the consumer's queue is forwarded to it, and cannot be to itself.
        guard let events = unsafe rd_kafka_queue_new(handle.client) else { return }
        defer { unsafe rd_kafka_queue_destroy(events) }
        if let error = unsafe rd_kafka_consumer_close_queue(handle.client, events) {
            unsafe rd_kafka_error_destroy(error)
            return
        }
        while unsafe rd_kafka_consumer_closed(handle.client) == 0,
            MonotonicTime.now < leaveDeadline
        {
            guard let event = unsafe rd_kafka_queue_poll(events, 20) else { continue }
            defer { unsafe rd_kafka_event_destroy(event) }
            guard unsafe rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE else { continue }
            // While it closes, librdkafka takes any answer for "give up everything".
            answer(isAssignment: false, [])
        }
    }
}
