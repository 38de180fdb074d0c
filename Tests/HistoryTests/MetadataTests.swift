// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import Testing

@testable import History

@Suite("Events with their metadata")
struct MetadataTests {
    private let directory: ChannelDirectory
    private let encoder: BatchEncoder

    init() throws {
        directory = try .forTests()
        encoder = try BatchEncoder(directory: directory, eventBytesMax: 1 << 20)
    }

    private func batch(_ events: [HistoryEvent], isReplay: Bool = false) throws -> EventBatch {
        var encoding = BatchEncoding(base: events[0].offset)
        for event in events { encoding.append(event) }
        let bytes = encoding.writer.bytes
        var layout = BatchLayout()
        let entry = WindowEntry(
            lastID: EventID(milliseconds: 7, sequence: UInt64(events.count)), partition: 5,
            base: events[0].offset, count: events.count)
        let found = WindowEntry.encode(
            bytes.span, entry, topic: "a", route: directory.route(for: "a"), with: encoder,
            layout: &layout, isReplay: isReplay
        ) { Issue.record("\($0)") }
        return try #require(found)
    }

    private func wanted(_ parameters: (String, String)...) throws -> Subscription {
        try directory.subscription(
            to: #require(directory.channel(named: "left")),
            parameters: parameters.map { (name: $0.0, value: $0.1) })
    }

    @Test("who asks gets topic, partition, offset, time, key and headers around the event")
    func described() throws {
        let events = [
            HistoryEvent(
                offset: 12, timestamp: 1_763_683_200_123, key: bytes("cam\"1"),
                headers: [
                    (name: bytes("traceparent"), value: bytes("00-4bf9-00f0-01")),
                    (name: bytes("raw"), value: [0xff, 0x00, 0x10, 0x20]),
                ], value: bytes("{\"n\":1}")),
            HistoryEvent(offset: 15, timestamp: -1, value: bytes("{\n\"n\":2}")),
            HistoryEvent(offset: 16, timestamp: 1 << 61, key: [0xfe], value: bytes("{}")),
        ]
        let batch = try batch(events)
        let plain = batch.memoryBytes
        let asked = try wanted(("metadata", "true"))
        let data = try batch.described(for: asked).received(by: asked, after: .zero).map(\.data)
        #expect(
            data == [
                #"{"topic":"a","partition":5,"offset":12,"timestamp":1763683200123,"#
                    + #""key":"cam\"1","headers":[{"name":"traceparent","value":"00-4bf9-00f0-01"},"#
                    + #"{"name":"raw","value_base64":"/wAQIA=="}],"data":{"n":1}}"#,
                "{\"topic\":\"a\",\"partition\":5,\"offset\":15,\"timestamp\":null,\"key\":null,"
                    + "\"headers\":[],\"data\":{\n\"n\":2}}",
                #"{"topic":"a","partition":5,"offset":16,"timestamp":2305843009213693952,"#
                    + #""key_base64":"/g==","headers":[],"data":{}}"#,
            ])
        #expect(batch.memoryBytes > plain)
        // The same bytes for everybody, in a replay too, and others see the event alone.
        #expect(batch.described(for: asked) === batch.described(for: asked))
        let replayed = try self.batch(events, isReplay: true)
        #expect(
            try replayed.described(for: asked).received(by: asked, after: .zero).map(\.data) == data
        )
        let others = try wanted()
        #expect(others != asked)
        #expect(batch.described(for: others) === batch)
        #expect(
            try batch.received(by: others, after: .zero).map(\.data)
                == events.map(\.value.text))
    }

    @Test("a value that is neither true nor false is refused")
    func refused() throws {
        #expect(try !wanted(("metadata", "false")).withMetadata)
        #expect(throws: SubscriptionError.self) { try wanted(("metadata", "yes")) }
        #expect(throws: SubscriptionError.self) {
            try wanted(("metadata", "true"), ("metadata", "true"))
        }
        #expect(
            try directory.subscription(toAny: [(name: "metadata", value: "true")]).withMetadata)
    }
}
