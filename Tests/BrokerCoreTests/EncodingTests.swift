// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import NodeConfiguration
import Testing

@testable import BrokerCore

@Suite("Encoding once")
struct EncodingTests {
    private let directory: ChannelDirectory
    private let batch: EventBatch

    init() throws {
        directory = try ChannelDirectory(
            channels: [
                ChannelConfiguration(name: "a", topics: ["t"], event: .fixed("x")),
                ChannelConfiguration(name: "b", topics: ["t"], event: .field("k", fallback: "z")),
                ChannelConfiguration(name: "c", topics: ["t"], event: .fixed("x")),
            ], patterns: [])
        let encoder = try BatchEncoder(directory: directory, eventBytesMax: 1 << 20)
        let texts = ["{\"k\":\"one\"}", "{\"k\":\"two\"}"]
        let bytes = Array(texts.joined().utf8)
        let encoded = encoder.encode(
            route: directory.route(for: "t"), firstID: EventID(milliseconds: 5, sequence: 1),
            bytes: bytes.span, ranges: [0..<11, 11..<22], isReplay: false)
        batch = try #require(encoded)
    }

    private func subscription(_ channel: String) throws -> Subscription {
        try directory.subscription(
            to: try #require(directory.channel(named: channel)), parameters: [])
    }

    private func slices(_ channel: String, _ format: FrameFormat) throws -> [Range<Int>] {
        var slices: [Range<Int>] = []
        let count = batch.appendSlices(
            for: try subscription(channel), in: format, after: .zero, to: &slices)
        #expect(count == 2)
        return slices
    }

    private func text(_ channel: String, _ format: FrameFormat) throws -> String {
        let bytes = batch.bytes(in: format)
        return try slices(channel, format).map {
            String(decoding: bytes.copy($0), as: UTF8.self)
        }.joined()
    }

    @Test("channels that show a topic under the same event name share its bytes")
    func shared() throws {
        #expect(try slices("a", .eventStream) == slices("c", .eventStream))
        let a = try text("a", .eventStream)
        let b = try text("b", .eventStream)
        #expect(
            a == "id: 5-1\nevent: x\ndata: {\"k\":\"one\"}\n\nid: 5-2\nevent: x\n"
                + "data: {\"k\":\"two\"}\n\n")
        #expect(b.contains("event: one\n") && b.contains("event: two\n"))
        #expect(batch.frames.count == a.utf8.count + b.utf8.count)
    }

    @Test("over WebSocket each frame names its channel, whoever shares the event name")
    func webSocket() throws {
        for (channel, name) in [("a", "x"), ("b", "one"), ("c", "x")] {
            let text = try text(channel, .webSocket)
            #expect(text.contains("\"event\":\"\(name)\",\"channel\":\"\(channel)\""))
            #expect(text.contains("{\"k\":\"two\"}"))
        }
        #expect(try slices("a", .webSocket) != slices("c", .webSocket))
    }

    @Test("what is left of a frame is the same for every channel that shares it")
    func remainder() throws {
        for format in [FrameFormat.eventStream, .webSocket] {
            let whole = try slices("c", format).flatMap { batch.bytes(in: format).copy($0) }
            let found = batch.remainder(
                for: try subscription("c"), in: format, after: .zero, sentBytes: 3)
            #expect(Array(whole[3...].prefix(found.rest.count)) == found.rest)
            #expect(found.cursor == EventID(milliseconds: 5, sequence: 1))
        }
    }
}
