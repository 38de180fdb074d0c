// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import History
import JSONFields
import KafkaClient

/// One node: its ingest of some partitions, its tail, its hot window.
///
/// The rules are the product's own (`PartitionIngest`, `TailMerge`, `HotWindow`, `EventBatch`);
/// what drives them here does what `Ingest` and `HistoryTail` do with sockets.
struct SimulatedNode {
    /// What an event is shown as here: its number and its ID, 20 bytes.
    static let frameBytes = 20

    struct Reading {
        var ingest: PartitionIngest
        var position: Int64
    }

    var readings: [TopicPartition: Reading] = [:]
    var epoch = ""
    var isAttached = false
    /// Offsets that may be committed.
    var committable: [TopicPartition: Int64] = [:]
    var appendedID = EventID.zero
    private(set) var merge: TailMerge<EventBatch>?
    private(set) var window: HotWindow?
    private(set) var hasTailAttached = false
    private var positions: [String: EventID] = [:]
    private var topics: [String] = []
    private var newsRead = 0
    private var layout = BatchLayout()
    /// What went wrong by itself, without a client.
    private(set) var complaint: String?
    let windowBytes: Int
    /// The canary whose tail gives out what a read brings without waiting for what is before it.
    let holdsNothingBack: Bool

    init(windowBytes: Int, holdsNothingBack: Bool) {
        self.windowBytes = windowBytes
        self.holdsNothingBack = holdsNothingBack
    }

    /// The newest ID that the node has seen.
    var seen: EventID { max(merge?.newestID ?? .zero, appendedID) }
    var ends: [EpochEnd] { merge?.ends ?? [] }

    /// Its connections to Redis are cut.
    mutating func disconnect() {
        isAttached = false
        hasTailAttached = false
    }

    // MARK: - Ingest

    mutating func own(_ partition: TopicPartition, mark: Int64?, committed: Int64?) {
        guard readings[partition] == nil else { return }
        let start =
            mark.map { $0 + 1 }
            ?? committed.map { max(0, $0 - PartitionIngest.rewindAfterTotalLoss) } ?? 0
        readings[partition] = Reading(
            ingest: PartitionIngest(
                topic: partition.topic, partition: partition.partition, highWater: mark ?? -1,
                limits: .init(batchEvents: 3, batchBytes: 1 << 16)), position: start)
    }

    mutating func collect(_ partition: TopicPartition, _ records: ArraySlice<SimulatedKafka.Record>)
    {
        guard var reading = readings[partition] else { return }
        readings[partition] = nil
        for record in records {
            reading.position = record.offset + 1
            guard reading.ingest.isNew(record.offset) else { continue }
            let value = (0..<4).map { UInt8(truncatingIfNeeded: record.number >> (8 * $0)) }
            let key: [UInt8] = []
            reading.ingest.collect(
                offset: record.offset, timestamp: 0, key: key.span, hasKey: false, headers: [],
                value: value.span)
        }
        // Nothing is ever deleted here, so what is missing never was.
        if reading.ingest.askingAboutJumps() { reading.ingest.judgeJumps(low: 0) }
        readings[partition] = reading
    }

    /// Takes an answer.
    ///
    /// - Returns: The offset to commit, where there is one.
    mutating func settle(_ partition: TopicPartition, _ outcome: AppendOutcome) -> Int64? {
        guard readings[partition] != nil else { return nil }
        switch outcome {
        case .otherEpoch: isAttached = false
        case .appended(let ms, let n):
            appendedID = EventID(milliseconds: ms, sequence: n)
        case .alreadyThere, .overlaps, .redisLostData: break
        }
        switch readings[partition]!.ingest.finished(outcome) {
        case .none: return nil
        case .stored(let next): return next
        case .rewind(let offset):
            readings[partition]!.position = offset
            return nil
        }
    }

    mutating func attachIngest(_ state: HistoryState, _ redis: HistoryModel) {
        let before = epoch
        epoch = state.epoch
        isAttached = true
        guard before != epoch else { return }
        appendedID = .zero
        guard !before.isEmpty else { return }
        for (partition, reading) in readings {
            let mark = redis.mark(partition.topic, partition.partition) ?? -1
            guard mark < reading.ingest.highWater else { continue }
            if case .rewind(let offset) = readings[partition]!.ingest.fellBack(to: mark) {
                readings[partition]!.position = offset
            }
        }
    }

    // MARK: - Tail

    var wantsToAttach: Bool { !hasTailAttached || merge?.wantsTopics != false }

    mutating func attachTail(_ state: HistoryState) {
        hasTailAttached = true
        guard merge != nil else {
            merge = TailMerge(after: state.tip)
            _ = merge?.learn(state.ends)
            for topic in state.topics { add(topic, from: state.tip) }
            window = HotWindow(bytesMax: windowBytes, startingAfter: state.tip)
            return
        }
        let regression = merge?.learn(state.ends)
        if regression != nil {
            for topic in topics { positions[topic] = merge?.lastID ?? .zero }
            newsRead = 0
        }
        for topic in state.topics { add(topic, from: merge?.lastID ?? .zero) }
        merge?.topicsWereRead()
        if let regression { pass(on: [regression]) }
    }

    private mutating func add(_ topic: String, from position: EventID) {
        guard positions[topic] == nil else { return }
        positions[topic] = position
        topics.append(topic)
    }

    /// One read of all windows.
    mutating func tail(_ redis: HistoryModel, atMost count: Int) {
        guard let last = merge?.lastID else { return }
        var entries: [TailMerge<EventBatch>.Entry] = []
        for topic in topics {
            for entry in redis.read(topic, after: positions[topic] ?? .zero, count: count) {
                positions[topic] = entry.id
                entries.append(
                    .init(lastID: entry.id, count: entry.count, payload: batch(entry)))
            }
        }
        for topic in redis.news.dropFirst(newsRead) { add(topic, from: last) }
        newsRead = redis.news.count
        guard !holdsNothingBack else {
            entries.sort { $0.lastID < $1.lastID }
            for entry in entries { append(entry.payload) }
            return
        }
        pass(on: merge?.take(entries) ?? [])
    }

    private mutating func pass(on outputs: [TailMerge<EventBatch>.Output]) {
        for output in outputs {
            switch output {
            case .batch(let entry): append(entry.payload)
            case .gap(let from, let to):
                append(GapNotice(from: from, to: to, reason: .trimmed).batch)
            case .regressed(let from, let to):
                append(GapNotice(from: from, to: to, reason: .historyLost).batch)
                if !ends.contains(EpochEnd(from: from, to: to)) {
                    complaint = "a regression \(from)..\(to) that no end of an epoch explains"
                }
            case .passed(let end):
                append(
                    GapNotice(from: end.from, to: end.to, reason: .historyLost)
                        .batch(forCursorsAfter: end.from))
            }
        }
    }

    private mutating func append(_ batch: EventBatch) {
        window?.append(batch)
        window?.trim()
    }

    /// The events of an entry as this node encodes them.
    mutating func batch(_ entry: HistoryModel.Entry) -> EventBatch {
        do throws(BatchCodecError) {
            try layout.read(entry.bytes.span, base: entry.base, count: entry.count)
        } catch { preconditionFailure("an entry of our own cannot be read: \(error)") }
        var frames: [UInt8] = []
        for row in 0..<entry.count {
            frames += entry.bytes[layout.values[row]]
            frames += Self.frame(
                EventID(
                    milliseconds: entry.id.milliseconds,
                    sequence: entry.firstID.sequence + UInt64(row)))
        }
        let ends = (1...entry.count).map { UInt32($0 * Self.frameBytes) }
        return EventBatch(
            firstID: entry.firstID, count: entry.count, route: Scene.route(entry.topic),
            frames: SharedBytes(frames), frameEnds: ends, fields: Scene.noFields, isReplay: false)
    }

    private static func frame(_ id: EventID) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(16)
        for word in [id.milliseconds, id.sequence] {
            for shift in 0..<8 {
                bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(8 * shift)))
            }
        }
        return bytes
    }
}
