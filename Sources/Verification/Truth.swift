// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire

/// Every event that was published, and the ID under which clients saw it.
///
/// Threads: one. Takes some 150 bytes an event, whatever its size and however many clients there
/// are.
package struct Truth {
    /// Where Kafka holds an event.
    package struct Place: Sendable, Hashable, CustomStringConvertible {
        package let topic: String
        package let partition: Int32
        package let offset: Int64

        package init(topic: String, partition: Int32, offset: Int64) {
            self.topic = topic
            self.partition = partition
            self.offset = offset
        }

        package var description: String { "\(topic)[\(partition)]@\(offset)" }
    }

    struct Entry {
        let fingerprint: UInt64
        /// Into ``partitions``; -1 for a line of a publisher's log.
        let partition: Int32
        /// The line's number in a publisher's log.
        let offset: Int64
        /// Whether the clients' subscription asks for it.
        let isOwed: Bool
        /// The ID under which it came; zero as long as nobody has received it.
        var id = EventID.zero
        /// The next event with the same fingerprint, or -1.
        var next: Int32 = -1
    }

    struct Partition {
        let topic: String
        let number: Int32
        var byOffset: [Int64: Int32] = [:]
    }

    /// What a receipt turned out to be.
    enum Finding {
        case event(Int)
        /// The event has come under another ID, or the ID with another event.
        case contradiction
        case unknown
    }

    package let eventsMax: Int
    /// Whether Kafka's retention had deleted the beginning before it was read.
    package var isTruncated = false

    private(set) var entries: [Entry] = []
    private(set) var partitions: [Partition] = []
    private var partitionNumbers: [String: [Int32: Int32]] = [:]
    /// The first event of each fingerprint that has no ID yet; -1 where all have one.
    private var waiting: [UInt64: Int32] = [:]
    private var byID: [EventID: Int32] = [:]
    private var fingerprint = Fingerprint()

    /// - Parameter eventsMax: More are an error, so that memory has a bound.
    package init(eventsMax: Int) { self.eventsMax = min(eventsMax, Int(Int32.max)) }

    package var count: Int { entries.count }

    /// Adds an event: with its place in Kafka, or in the order of a publisher's log.
    package mutating func add(_ data: Span<UInt8>, at place: Place?, isOwed: Bool)
        throws(VerificationError)
    {
        guard entries.count < eventsMax else {
            throw VerificationError(
                .truthTooLarge, "more than \(eventsMax) events; --events-max allows more")
        }
        let index = Int32(entries.count)
        let value = fingerprint.value(of: data)
        var entry = Entry(
            fingerprint: value, partition: place.map { partition(of: $0) } ?? -1,
            offset: place?.offset ?? Int64(index) + 1, isOwed: isOwed)
        entry.next = waiting[value] ?? -1
        waiting[value] = index
        if let place { partitions[Int(entry.partition)].byOffset[place.offset] = index }
        entries.append(entry)
    }

    private mutating func partition(of place: Place) -> Int32 {
        if let known = partitionNumbers[place.topic]?[place.partition] { return known }
        let number = Int32(partitions.count)
        partitions.append(Partition(topic: place.topic, number: place.partition))
        partitionNumbers[place.topic, default: [:]][place.partition] = number
        return number
    }

    /// Finds the event that a receipt is about, and remembers the ID under which it came.
    ///
    /// - Parameter place: Where the receipt says that it lies; `nil` goes by the data alone.
    mutating func find(_ data: Span<UInt8>, id: EventID, at place: Place?) -> Finding {
        let value = fingerprint.value(of: data)
        if let known = byID[id] {
            let isSame = entries[Int(known)].fingerprint == value
            let isThere = place.map { index(at: $0) == known } ?? true
            return isSame && isThere ? .event(Int(known)) : .contradiction
        }
        if let place {
            guard let index = index(at: place), entries[Int(index)].fingerprint == value else {
                return .unknown
            }
            guard entries[Int(index)].id == .zero else { return .contradiction }
            return take(index, as: id)
        }
        guard var candidate = waiting[value] else { return .unknown }
        // Those that a receipt with a place has taken already.
        while candidate >= 0, entries[Int(candidate)].id != .zero {
            candidate = entries[Int(candidate)].next
        }
        waiting[value] = candidate
        return candidate < 0 ? .contradiction : take(candidate, as: id)
    }

    private func index(at place: Place) -> Int32? {
        guard let number = partitionNumbers[place.topic]?[place.partition] else { return nil }
        return partitions[Int(number)].byOffset[place.offset]
    }

    private mutating func take(_ index: Int32, as id: EventID) -> Finding {
        entries[Int(index)].id = id
        byID[id] = index
        return .event(Int(index))
    }

    func topic(of index: Int) -> String? {
        let partition = entries[index].partition
        return partition < 0 ? nil : partitions[Int(partition)].topic
    }

    /// The event's place in the truth, for people.
    func name(of index: Int) -> String {
        let entry = entries[index]
        guard entry.partition >= 0 else { return "line \(entry.offset)" }
        let partition = partitions[Int(entry.partition)]
        return "\(partition.topic)[\(partition.number)]@\(entry.offset)"
    }

    // MARK: - What is owed

    /// The IDs of the owed events that anybody received, in ascending order.
    var owedIDs: [EventID] {
        entries.lazy.filter { $0.isOwed && $0.id != .zero }.map(\.id).sorted()
    }

    /// An owed event that nobody received, and where its ID would lie: a partition's events have
    /// IDs in the order of its offsets.
    struct Unseen {
        let index: Int
        let after: EventID?
        let before: EventID?
    }

    var unseen: [Unseen] {
        var found: [Unseen] = []
        for index in entries.indices
        where entries[index].partition < 0 && entries[index].isOwed && entries[index].id == .zero {
            found.append(Unseen(index: index, after: nil, before: nil))
        }
        for partition in partitions { appendUnseen(of: partition, to: &found) }
        return found
    }

    private func appendUnseen(of partition: Partition, to found: inout [Unseen]) {
        var last: EventID?
        var open: [Int] = []
        for (_, index) in partition.byOffset.sorted(by: { $0.key < $1.key }) {
            let entry = entries[Int(index)]
            guard entry.id != .zero else {
                if entry.isOwed { open.append(Int(index)) }
                continue
            }
            found += open.map { Unseen(index: $0, after: last, before: entry.id) }
            open.removeAll(keepingCapacity: true)
            last = entry.id
        }
        found += open.map { Unseen(index: $0, after: last, before: nil) }
    }

    /// The first events of each partition whose ID is below that of an earlier offset.
    func disorder(keeping limit: Int) -> OffenceTally {
        var tally = OffenceTally()
        for partition in partitions {
            var last = EventID.zero
            for (_, index) in partition.byOffset.sorted(by: { $0.key < $1.key }) {
                let id = entries[Int(index)].id
                guard id != .zero else { continue }
                if id < last {
                    tally.add("\(id) at \(name(of: Int(index)))", keeping: limit)
                }
                last = max(last, id)
            }
        }
        return tally
    }
}
