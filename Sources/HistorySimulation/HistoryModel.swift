// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire
package import History

/// What Redis holds of history, and what the scripts of `HistoryScripts` do to it, in Swift.
///
/// A value: a copy is a replica, or a dump. `ModelTests` holds it against the scripts themselves,
/// on a real server, so that it says what they do.
package struct HistoryModel: Sendable, Equatable {
    /// One entry of a window; that of the index holds the same without the bytes.
    package struct Entry: Sendable, Equatable {
        package let id: EventID
        package let topic: String
        package let partition: Int32
        package let base: Int64
        package let count: Int
        package let bytes: [UInt8]

        package var firstID: EventID {
            EventID(milliseconds: id.milliseconds, sequence: id.sequence - UInt64(count) + 1)
        }
    }

    package struct Topic: Sendable, Equatable {
        package var window: [Entry] = []
        /// The IDs of the index, with the events each counts.
        package var index: [Entry] = []
        /// The newest entry that the window let go.
        package var floor = EventID.zero
        package var events = 0
        package var marks: [Int32: Int64] = [:]
    }

    /// The ways in which a canary breaks the append, for the checkers to find.
    package enum Fault: Sendable, CaseIterable {
        /// What was appended is not recognised.
        case marksIgnored
        /// The mark is written before the events, and a script is cut in between.
        case marksFirst
        /// A server that lost data goes on as if nothing had happened.
        case epochsIgnored
    }

    package private(set) var milliseconds: UInt64 = 0
    package private(set) var sequence: UInt64 = 0
    package private(set) var epoch: String?
    private var server: String?
    package private(set) var topics: [String: Topic] = [:]
    package private(set) var news: [String] = []
    package private(set) var ends: [EpochEnd] = []
    /// What the canary does wrong.
    package var fault: Fault?
    /// Ends the next append between its two parts, where the fault is ``Fault/marksFirst``.
    package var cutsNextAppend = false
    private var epochsEnded = 0

    private static let endsMax = 64

    package init(fault: Fault? = nil) { self.fault = fault }

    package var tip: EventID { EventID(milliseconds: milliseconds, sequence: sequence) }

    // MARK: - The append

    /// `HistoryScripts.append`, at `now` by the server's clock.
    ///
    /// - Returns: `nil` where the script was cut.
    package mutating func append(
        _ request: AppendRequest, epoch: String, now: UInt64, windowEvents: Int = .max
    ) -> AppendOutcome? {
        if !epoch.isEmpty, fault != .epochsIgnored, self.epoch != epoch { return .otherEpoch }
        let mark = topics[request.topic]?.marks[request.partition] ?? -1
        if fault != .marksIgnored {
            if request.last <= mark { return .alreadyThere(highWater: mark) }
            if request.base <= mark { return .overlaps(highWater: mark) }
        }
        if mark < request.expectedHighWater { return .redisLostData(highWater: mark) }
        if fault == .marksFirst, cutsNextAppend {
            cutsNextAppend = false
            topics[request.topic, default: Topic()].marks[request.partition] = request.last
            return nil
        }
        guard request.count > 0 else {
            topics[request.topic, default: Topic()].marks[request.partition] = request.last
            return .appended(lastMilliseconds: milliseconds, lastSequence: sequence)
        }
        milliseconds = max(milliseconds, now)
        sequence += UInt64(request.count)
        let entry = Entry(
            id: tip, topic: request.topic, partition: request.partition, base: request.base,
            count: request.count, bytes: request.bytes)
        if !news.contains(request.topic) { news.append(request.topic) }
        var topic = topics[request.topic] ?? Topic()
        topic.window.append(entry)
        topic.index.append(entry)
        topic.events += request.count
        topic.marks[request.partition] = request.last
        topic.trim(to: windowEvents)
        topics[request.topic] = topic
        return .appended(lastMilliseconds: milliseconds, lastSequence: sequence)
    }

    // MARK: - The epoch

    /// `HistoryScripts.attach`, on a server of that name.
    package mutating func attach(seen: EventID, server: String, now: UInt64) -> HistoryState {
        let isNew = epoch == nil || self.server != server
        let isAhead = seen > tip
        var from = tip
        var cut = 0
        for (place, end) in ends.enumerated() {
            let covers =
                seen.sequence > end.from.sequence && seen.sequence < end.to.sequence
            if (covers && seen > end.to) || (isAhead && !isNew && (covers || place == 0)) {
                cut = place + 1
                from = end.from
            }
        }
        if isNew || isAhead || cut > 0, !(fault == .epochsIgnored && epoch != nil) {
            if cut > 0 {
                takeBack(after: from)
                ends.removeFirst(cut)
            }
            milliseconds = max(milliseconds, now, seen.milliseconds)
            sequence = max(sequence, seen.sequence)
            if sequence > 0 {
                milliseconds += HistoryScripts.clockAllowance
                sequence += HistoryScripts.leap
            }
            epochsEnded += 1
            epoch = "\(tip).\(now).\(epochsEnded)"
            self.server = server
            ends.insert(EpochEnd(from: from, to: tip), at: 0)
            if ends.count > Self.endsMax { ends.removeLast() }
        }
        return HistoryState(tip: tip, epoch: epoch ?? "", topics: news, ends: ends)
    }

    private mutating func takeBack(after from: EventID) {
        for name in news {
            guard var topic = topics[name] else { continue }
            for entry in topic.index where entry.id > from {
                if let mark = topic.marks[entry.partition], mark >= entry.base {
                    topic.marks[entry.partition] = entry.base == 0 ? nil : entry.base - 1
                }
                topic.events -= entry.count
            }
            topic.index.removeAll { $0.id > from }
            topic.window.removeAll { $0.id > from }
            topics[name] = topic
        }
    }

    // MARK: - Reading

    /// XREAD: entries of a window after `position`.
    package func read(_ topic: String, after position: EventID, count: Int) -> [Entry] {
        guard let window = topics[topic]?.window else { return [] }
        var start = window.count
        while start > 0, window[start - 1].id > position { start -= 1 }
        return Array(window[start...].prefix(count))
    }

    package func mark(_ topic: String, _ partition: Int32) -> Int64? {
        topics[topic]?.marks[partition]
    }

    /// All that the index knows, in the order of the IDs.
    package var history: [Entry] {
        topics.values.flatMap(\.index).sorted { $0.id < $1.id }
    }
}

extension HistoryModel.Topic {
    fileprivate mutating func trim(to most: Int) {
        guard let newest = window.last else { return }
        while events > most, let oldest = index.first(where: { $0.id > floor }),
            oldest.id != newest.id
        {
            floor = oldest.id
            events -= oldest.count
        }
        window.removeAll { $0.id <= floor }
    }
}
