// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import NodeConfiguration
import Testing

@testable import History

/// What a client would have received.
struct Received: Hashable, Sendable {
    let id: EventID
    let event: String
    let data: String

    var isGap: Bool { event == "gap" }

    /// The notice that this message is.
    func gap() throws -> GapNotice {
        let parts = data.split(separator: "\"").map(String.init)
        func value(_ name: String) throws -> String {
            let index = try #require(parts.firstIndex(of: name))
            return try #require(parts.dropFirst(index + 2).first)
        }
        let lost = data.split(separator: "\"lost\":").dropFirst().first.flatMap {
            UInt64($0.dropLast())
        }
        let notice = GapNotice(
            from: try EventID.parse(value("from")), to: try EventID.parse(value("to")),
            reason: try #require(GapNotice.Reason(rawValue: value("reason"))), lost: lost)
        #expect(notice.received == self)
        return notice
    }
}

extension EventBatch {
    /// What a connection with that subscription and cursor would be sent of this batch.
    func received(by subscription: Subscription, after cursor: EventID) throws -> [Received] {
        var slices: [Range<Int>] = []
        let count = appendSlices(for: subscription, after: cursor, to: &slices)
        var parser = EventStreamParser()
        var messages: [EventStreamMessage] = []
        for slice in slices {
            let bytes = frames.copy(slice)
            try parser.feed(bytes.span) { messages.append($0) }
        }
        #expect(messages.count == count)
        return try messages.map {
            Received(id: try $0.cursor(), event: $0.event, data: $0.dataText)
        }
    }
}

extension GapNotice {
    var received: Received {
        let count = lost.map { ",\"lost\":\($0)" } ?? ""
        return Received(
            id: to, event: "gap",
            data:
                "{\"from\":\"\(from)\",\"to\":\"\(to)\",\"reason\":\"\(reason.rawValue)\"\(count)}")
    }
}

extension StoredBatch {
    var received: [Received] {
        events.enumerated().map { row, event in
            Received(
                id: EventID(
                    milliseconds: lastID.milliseconds,
                    sequence: sequences.lowerBound + UInt64(row)), event: "e",
                data: event.value.text)
        }
    }
}

extension ChannelDirectory {
    /// Channel `left` has topics `a` and `b`, channel `right` has `b` and `c`; topics that begin
    /// with `late.` are channels of their own.
    static func forTests() throws -> ChannelDirectory {
        try ChannelDirectory(
            channels: [
                ChannelConfiguration(name: "left", topics: ["a", "b"], event: .fixed("e")),
                ChannelConfiguration(name: "right", topics: ["b", "c"], event: .fixed("e")),
            ], patterns: [PatternConfiguration(topics: "late.*", event: .fixed("e"))])
    }

    func subscription(_ channels: String...) throws -> Subscription {
        Subscription(
            channels: try channels.map { try #require(channel(named: $0)).index }, predicates: [])
    }
}

extension Subscription {
    static let everything = Subscription(channels: nil, predicates: [])
}
