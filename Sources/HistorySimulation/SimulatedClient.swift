// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import History

/// A client that keeps what it gets as docs/reference/http.md tells it to: after a gap for lost
/// history it gives up what it had got after the gap's `from`, because that comes again.
struct SimulatedClient {
    let subscription: Subscription
    let topics: [String]
    /// The node it is connected to.
    var node: Int?
    private(set) var cursor: EventID?
    /// Where its sequence of events begins.
    private(set) var start: EventID?
    private(set) var received: [(id: EventID, number: UInt32)] = []
    /// Stretches that it was told it cannot have.
    private(set) var gaps: [(from: EventID, to: EventID)] = []
    private(set) var complaint: String?
    /// A cursor that history has confirmed may lie ahead of the node's window.
    private var isConfirmed = false

    init(to subscription: Subscription, topics: [String]) {
        self.subscription = subscription
        self.topics = topics
    }

    mutating func connect(to number: Int, _ window: HotWindow) {
        node = number
        isConfirmed = false
        guard cursor == nil else { return }
        cursor = window.lastID
        start = cursor
    }

    /// Takes what its node has for it, at most so many batches; what `Hub` does without a socket.
    ///
    /// - Parameter attach: Runs the script of that name; `nil` where Redis cannot be reached.
    mutating func pull(
        _ node: inout SimulatedNode, _ redis: inout HistoryModel, atMost steps: Int,
        pageEntries: Int, attach: ((inout HistoryModel, EventID) -> HistoryState)?
    ) {
        guard let window = node.window else { return }
        for _ in 0..<steps {
            guard let cursor, complaint == nil else { return }
            if cursor >= window.coveredAfter, cursor <= window.lastID || isConfirmed {
                let ordinal = window.ordinal(after: cursor)
                guard ordinal < window.endOrdinal else { return }
                take(window[ordinal])
            } else {
                // Without Redis nobody can serve it now.
                guard let attach else { return }
                pullPage(&node, &redis, pageEntries, cursor, attach)
            }
        }
    }

    /// What `HistoryReplay` does.
    private mutating func pullPage(
        _ node: inout SimulatedNode, _ redis: inout HistoryModel, _ limit: Int,
        _ cursor: EventID, _ attach: (inout HistoryModel, EventID) -> HistoryState
    ) {
        isConfirmed = true
        var ends = node.ends
        if cursor > redis.tip || ends.first != redis.ends.first {
            ends = attach(&redis, node.seen).ends
        }
        if let end = ends.covering(cursor) {
            self.cursor = end.from
            return take(GapNotice(from: end.from, to: end.to, reason: .historyLost).batch, end)
        }
        guard cursor <= redis.tip else {
            complaint = "the cursor \(cursor) is unknown, the tip is \(redis.tip)"
            return
        }
        var entries: [HistoryModel.Entry] = []
        var through = redis.tip
        var floor = EventID.zero
        for topic in topics {
            floor = max(floor, redis.topics[topic]?.floor ?? .zero)
            let found = redis.read(topic, after: cursor, count: limit)
            if found.count == limit, let last = found.last { through = min(through, last.id) }
            entries += found
        }
        entries = entries.filter { $0.id <= through }.sorted { $0.id < $1.id }
        if floor > cursor {
            // As far as the floor some of it may be missing; what is left of it is given too.
            gaps.append((cursor, floor))
        }
        for entry in entries { take(node.batch(entry)) }
        self.cursor = max(self.cursor ?? .zero, through)
    }

    private mutating func take(_ batch: EventBatch, _ end: EpochEnd? = nil) {
        guard let before = cursor else { return }
        var slices: [Range<Int>] = []
        let count = batch.appendSlices(for: subscription, after: before, to: &slices)
        if count > 0, batch.isNotice {
            notice(batch, end)
        } else {
            for slice in slices {
                let bytes = batch.frames.copy(slice)
                for place in stride(from: 0, to: bytes.count, by: SimulatedNode.frameBytes) {
                    receive(bytes[place..<(place + SimulatedNode.frameBytes)])
                }
            }
        }
        cursor = max(cursor ?? .zero, batch.lastID)
    }

    private mutating func receive(_ frame: ArraySlice<UInt8>) {
        func word(_ from: Int, _ count: Int) -> UInt64 {
            (0..<count).reduce(0) {
                $0 | UInt64(frame[frame.startIndex + from + $1]) << UInt64(8 * $1)
            }
        }
        let id = EventID(milliseconds: word(4, 8), sequence: word(12, 8))
        if let last = received.last?.id, id <= last {
            complaint = "\(id) came after \(last)"
        }
        received.append((id, UInt32(word(0, 4))))
    }

    private mutating func notice(_ batch: EventBatch, _ end: EpochEnd?) {
        guard let notice = Scene.notice(batch) else {
            complaint = "a notice that is none: \(batch.lastID)"
            return
        }
        switch notice.reason {
        case .historyLost:
            received.removeAll { $0.id > notice.from }
            gaps.removeAll { $0.from >= notice.from }
            start = min(start ?? .zero, notice.from)
        case .trimmed: gaps.append((notice.from, notice.to))
        default: complaint = "a gap for \(notice.reason)"
        }
    }
}
