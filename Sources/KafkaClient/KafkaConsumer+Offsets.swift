// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO

extension KafkaConsumer {
    /// Notes that everything before `nextOffset` is done, for the next ``commitStored()``.
    package func noteStored(_ partition: TopicPartition, nextOffset: Int64) {
        guard active[partition] != nil, nextOffset >= 0 else { return }
        stored[partition] = nextOffset
    }

    /// Sends the noted offsets to the group, without waiting for the answer.
    ///
    /// Nothing is sent while an earlier commit is under way, nor from a revocation until the
    /// assignment after it; what is noted goes with the next call then.
    package func commitStored() {
        guard owed == .none, !isRevoking, !isCommitting, !stored.isEmpty else { return }
        let list = PartitionList(capacity: stored.count)
        for (partition, offset) in stored { list.add(partition, rawOffset: offset) }
        let code = unsafe rd_kafka_commit_queue(handle.client, list.pointer, queue, nil, nil)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            log.debug("a commit was not taken", LogField("error", "\(KafkaError(code))"))
            return
        }
        isCommitting = true
        committing = stored
        stored = [:]
    }

    func deliverCommit(_ event: OpaquePointer, _ body: (borrowing KafkaEvent) -> Void) {
        let sent = committing
        committing = [:]
        isCommitting = false
        var code = unsafe rd_kafka_event_error(event)
        if code == RD_KAFKA_RESP_ERR_NO_ERROR,
            let list = unsafe rd_kafka_event_topic_partition_list(event),
            let failed = unsafe PartitionList.entries(of: list).first(where: {
                $0.error != RD_KAFKA_RESP_ERR_NO_ERROR
            })
        {
            code = failed.error
        }
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
        // What failed goes with the next commit, unless something newer is noted or another
        // member has the partition.
        for (partition, offset) in sent where active[partition] != nil {
            if stored[partition] == nil { stored[partition] = offset }
        }
        let error = KafkaError(code, "committing \(sent.count) offsets: \(KafkaError(code).detail)")
        guard error.code != .groupRebalancing, code != RD_KAFKA_RESP_ERR__NO_OFFSET else {
            log.debug("a commit fell into a rebalance", LogField("error", "\(error)"))
            return
        }
        let lent = KafkaEvent.commitFailed(error)
        body(lent)
    }

    /// What librdkafka, or the last query, knows of the partition's first and next offset.
    package func watermarks(of partition: TopicPartition) -> KafkaWatermarks? {
        guard !isClosed else { return nil }
        var low: Int64 = -1
        var high: Int64 = -1
        let code = unsafe rd_kafka_get_watermark_offsets(
            handle.client, partition.topic, partition.partition, &low, &high)
        let asked = knownWatermarks.withLock { $0[partition] }
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, high >= 0 else { return asked }
        // The first offset is fetched rarely, so a query may know a later one.
        return KafkaWatermarks(low: max(low, asked?.low ?? 0), high: max(high, asked?.high ?? 0))
    }

    /// How many records each partition that is read still holds for this member, as far as known.
    package var lag: [TopicPartition: Int64] {
        guard !active.isEmpty else { return [:] }
        let list = PartitionList(active.keys)
        guard unsafe rd_kafka_position(handle.client, list.pointer) == RD_KAFKA_RESP_ERR_NO_ERROR
        else { return [:] }
        var lag: [TopicPartition: Int64] = [:]
        for entry in list.entries {
            guard let marks = watermarks(of: entry.partition) else { continue }
            var next = entry.offset
            if next < 0 {
                switch active[entry.partition]?.position {
                case .at(let offset): next = offset
                case .beginning: next = marks.low
                default: continue
                }
            }
            lag[entry.partition] = max(0, marks.high - next)
        }
        return lag
    }

    /// Asks the brokers for first and next offsets, on a thread of its own.
    ///
    /// - Parameter completion: Called once, on that thread or, where nothing was asked, on this.
    package func queryWatermarks(
        of partitions: [TopicPartition], within limit: Duration,
        completion:
            @escaping @Sendable (Result<[TopicPartition: KafkaWatermarks], KafkaError>)
            -> Void
    ) {
        let known = knownWatermarks
        let refusal = handle.ask("kafka-marks") { handle in
            do throws(KafkaError) {
                let found = try handle.watermarks(of: partitions, within: limit)
                known.withLock { known in
                    // Bounded by what was asked for; a fresh answer replaces the old ones.
                    if known.count > 65_536 { known = [:] }
                    known.merge(found) { $1 }
                }
                completion(.success(found))
            } catch { completion(.failure(error)) }
        }
        if let refusal { completion(.failure(refusal)) }
    }

    /// Asks for the group's committed offsets, on a thread of its own. A partition without one
    /// is missing in the answer.
    ///
    /// - Parameter completion: Called once, on that thread or, where nothing was asked, on this.
    package func committedOffsets(
        of partitions: [TopicPartition], within limit: Duration,
        completion: @escaping @Sendable (Result<[TopicPartition: Int64], KafkaError>) -> Void
    ) {
        let refusal = handle.ask("kafka-offsets") { handle in
            do throws(KafkaError) {
                completion(.success(try handle.committedOffsets(of: partitions, within: limit)))
            } catch { completion(.failure(error)) }
        }
        if let refusal { completion(.failure(refusal)) }
    }

    /// Asks for first and next offsets and the group's committed ones, on a thread of its own.
    ///
    /// - Parameter completion: Called once, on that thread or, where nothing was asked, on this.
    package func queryStarts(
        of partitions: [TopicPartition], within limit: Duration,
        completion:
            @escaping @Sendable (Result<[TopicPartition: KafkaPartitionStart], KafkaError>) -> Void
    ) {
        let refusal = handle.ask("kafka-starts") { handle in
            do throws(KafkaError) {
                let deadline = MonotonicTime.now + limit
                let marks = try handle.watermarks(of: partitions, within: limit)
                let committed = try handle.committedOffsets(
                    of: partitions, within: max(.milliseconds(100), deadline - .now))
                var found: [TopicPartition: KafkaPartitionStart] = [:]
                for (partition, marks) in marks {
                    found[partition] = KafkaPartitionStart(
                        watermarks: marks, committed: committed[partition])
                }
                completion(.success(found))
            } catch { completion(.failure(error)) }
        }
        if let refusal { completion(.failure(refusal)) }
    }

    /// Asks for all topics, on a thread of its own, and remembers them for
    /// ``partitionCount(of:)``.
    ///
    /// - Parameter completion: Called once, on that thread or, where nothing was asked, on this.
    package func queryTopics(
        within limit: Duration,
        completion: @escaping @Sendable (Result<[KafkaTopic], KafkaError>) -> Void
    ) {
        let known = knownTopics
        let servers = settings.bootstrapServers
        let refusal = handle.ask("kafka-topics") { handle in
            do throws(KafkaError) {
                let topics = try handle.topics(servers: servers, within: limit)
                let counts = topics.map { ($0.name, $0.partitionCount) }
                known.withLock { $0 = Dictionary(counts) { $1 } }
                completion(.success(topics))
            } catch { completion(.failure(error)) }
        }
        if let refusal { completion(.failure(refusal)) }
    }

    /// How many partitions the topic had at the last ``queryTopics(within:completion:)``.
    package func partitionCount(of topic: String) -> Int? {
        knownTopics.withLock { $0[topic] }
    }
}
