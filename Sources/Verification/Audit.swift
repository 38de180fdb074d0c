// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire

/// Compares what clients received with what was published.
///
/// First the truth, then the receipts, each client's in the order in which they came, then
/// ``verdict(owed:)``. Threads: one. Beside the truth a client takes its runs of IDs
/// (``EventIDRanges``) and the first examples of each ``Offence``, not its receipts.
package struct Audit {
    package private(set) var truth: Truth
    package private(set) var clients: [ClientRecord] = []
    private var numbers: [String: Int] = [:]
    private let examplesMax: Int
    /// Topics that the clients may see; `nil` where nobody said.
    private let visibleTopics: Set<String>?

    package init(truth: Truth, examplesMax: Int = 5, visibleTopics: Set<String>? = nil) {
        self.truth = truth
        self.examplesMax = examplesMax
        self.visibleTopics = visibleTopics
    }

    /// The client's number, for ``take(_:of:)``; a new one for a new name.
    package mutating func client(named name: String) -> Int {
        if let known = numbers[name] { return known }
        clients.append(ClientRecord(name: name, examplesMax: examplesMax))
        numbers[name] = clients.count - 1
        return clients.count - 1
    }

    package mutating func take(_ receipt: borrowing Receipt, of client: Int) {
        switch receipt.kind {
        case .unreadable(let why): clients[client].add(.unreadable, why)
        case .gap(let from, let to): clients[client].takeGap(from: from, to: to)
        case .event: takeEvent(receipt, client)
        }
    }

    private mutating func takeEvent(_ receipt: borrowing Receipt, _ client: Int) {
        let id = receipt.id
        switch truth.find(receipt.data, id: id, at: receipt.place) {
        case .event(let index):
            clients[client].take(id)
            if !truth.entries[index].isOwed { clients[client].add(.wronglyFiltered, "\(id)") }
            if let visibleTopics, let topic = truth.topic(of: index),
                !visibleTopics.contains(topic)
            {
                clients[client].add(.unauthorised, "\(id) of \(topic)")
            }
        case .contradiction: clients[client].add(.contradictory, "\(id)")
        case .unknown where truth.isTruncated && clients[client].first == nil:
            clients[client].leaveUnjudged()
        case .unknown: clients[client].add(.unknown, "\(id)")
        }
    }

    // MARK: - The verdict

    /// Judges all clients. Takes time with the clients' runs of IDs, not with their receipts.
    package func verdict(owed span: OwedSpan) -> AuditVerdict {
        var judged = clients
        let owed = truth.owedIDs
        let unseen = truth.unseen
        var toldLosses = [Int](repeating: 0, count: clients.count)
        for index in judged.indices {
            let window = Self.window(of: judged[index], span)
            toldLosses[index] = judge(&judged[index], owed, unseen, window, span)
        }
        return AuditVerdict(
            events: truth.count, owedEvents: truth.entries.lazy.filter(\.isOwed).count,
            unseen: unseen.count, span: span, clients: judged, toldLosses: toldLosses,
            partitionDisorder: truth.disorder(keeping: examplesMax),
            judgesAuthority: visibleTopics != nil, isTruthTruncated: truth.isTruncated)
    }

    /// The IDs a client is owed, its first receipt included.
    private static func window(of client: ClientRecord, _ span: OwedSpan)
        -> ClosedRange<EventID>?
    {
        let end = EventID(milliseconds: .max, sequence: .max)
        guard span != .all else { return .zero...end }
        guard let first = client.first, let last = client.last else { return nil }
        return first...(span == .between ? last : end)
    }

    /// Counts what the client lacks; returns how many of these it was told of.
    private func judge(
        _ client: inout ClientRecord, _ owed: [EventID], _ unseen: [Truth.Unseen],
        _ window: ClosedRange<EventID>?, _ span: OwedSpan
    ) -> Int {
        guard let window else { return 0 }
        var told = 0
        var place = Self.firstIndex(in: owed, from: window.lowerBound)
        for run in client.ranges.runs + [.end(window.upperBound)] {
            while place < owed.count, owed[place] < run.low, owed[place] <= window.upperBound {
                if client.wasTold(owed[place]) {
                    told += 1
                } else {
                    client.add(.lost, "\(owed[place])")
                }
                place += 1
            }
            guard place < owed.count, owed[place] <= window.upperBound else { break }
            place = Self.firstIndex(in: owed, from: run.high, after: true)
        }
        for event in unseen where Self.isOwed(event, window, span) {
            if let after = event.after, client.wasTold(after: after, before: event.before) {
                told += 1
            } else {
                client.add(.lost, truth.name(of: event.index))
            }
        }
        return told
    }

    private static func isOwed(
        _ event: Truth.Unseen, _ window: ClosedRange<EventID>, _ span: OwedSpan
    ) -> Bool {
        guard span != .all else { return true }
        guard let after = event.after, after >= window.lowerBound else { return false }
        guard span == .between else { return true }
        return event.before.map { $0 <= window.upperBound } ?? false
    }

    private static func firstIndex(in ids: [EventID], from id: EventID, after: Bool = false) -> Int
    {
        var (low, high) = (0, ids.count)
        while low < high {
            let middle = (low + high) / 2
            if ids[middle] < id || (after && ids[middle] == id) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
}
