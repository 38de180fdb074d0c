// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import NodeConfiguration
import PosixIO
import Testing
import WebSocketWire

@testable import BrokerCore

@Suite("WebSocket form of a batch")
struct WebSocketFormTests {
    private func batch(_ events: [String], topic: String = "detections") throws -> EventBatch {
        let bench = try HubBench(windowBytes: 1 << 20)
        let encoder = try BatchEncoder(directory: bench.directory, eventBytesMax: 1 << 20)
        let bytes = events.flatMap { Array($0.utf8) }
        return try encode(bytes, events.map(\.utf8.count), bench, encoder, topic)
    }

    private func encode(
        _ bytes: [UInt8], _ sizes: [Int], _ bench: HubBench, _ encoder: BatchEncoder,
        _ topic: String
    ) throws -> EventBatch {
        var ranges: [Range<Int>] = []
        for size in sizes {
            let start = ranges.last?.upperBound ?? 0
            ranges.append(start..<(start + size))
        }
        let batch = encoder.encode(
            route: bench.directory.route(for: topic),
            firstID: EventID(milliseconds: 77, sequence: 5), bytes: bytes.span, ranges: ranges,
            isReplay: false)
        return try #require(batch)
    }

    private func texts(_ batch: EventBatch) throws -> [String] {
        let set = batch.bytes(in: .webSocket)
        return try WebSocketTranscript(set.copy(0..<set.count)).texts
    }

    @Test("each event is one message, with the name it has in each channel")
    func events() throws {
        let batch = try batch(["{\"event_type\":\"a\\\"b\"}", "{\"x\":1}"])
        #expect(
            try texts(batch) == [
                #"{"id":"77-5","event":"camera_update","channel":"cameras","data":{"event_type":"a\"b"}}"#,
                #"{"id":"77-6","event":"camera_update","channel":"cameras","data":{"x":1}}"#,
                #"{"id":"77-5","event":"a\"b","channel":"detections","data":{"event_type":"a\"b"}}"#,
                #"{"id":"77-6","event":"detection","channel":"detections","data":{"x":1}}"#,
            ])
    }

    @Test("an event on several lines stays one JSON text")
    func lines() throws {
        let texts = try texts(batch(["{\n\"x\":\r\n [1,\r2]\n\n}", "{}\n"]))
        #expect(
            texts[0]
                == "{\"id\":\"77-5\",\"event\":\"camera_update\",\"channel\":\"cameras\","
                + "\"data\":{\n\"x\":\n [1,\n2]\n\n}}")
        #expect(texts[1].hasSuffix("\"data\":{}\n}"))
    }

    @Test("sizes at which the frame's head changes", arguments: [10, 60, 126, 65_400, 66_000])
    func sizes(_ size: Int) throws {
        let long = "{\"x\":\"\(String(repeating: "y", count: size))\"}"
        let texts = try texts(batch([long, "{}", long]))
        #expect(texts.count == 6)
        #expect(texts.allSatisfy { $0.hasSuffix(",\"data\":\(long)}") || $0.hasSuffix("{}}") })
    }

    @Test("what is no JSON object travels as a string and breaks nobody's text")
    func noObjects() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let encoder = try BatchEncoder(directory: bench.directory, eventBytesMax: 1 << 20)
        let parts: [[UInt8]] = [
            Array("{\"a\":1}".utf8), Array("{\"broken".utf8), [0x7b, 0xff, 0x7d], [],
            Array("{\"b\":2}".utf8),
        ]
        let batch = try encode(
            parts.flatMap { $0 }, parts.map(\.count), bench, encoder, "cams")
        #expect(
            try texts(batch).map { String($0[$0.range(of: "\"data\":")!.upperBound...]) } == [
                "{\"a\":1}}", "\"{\\\"broken\"}", "\"{\u{fffd}}\"}", "\"\"}", "{\"b\":2}}",
            ])
    }

    @Test("a notice says its type, its cursor and its data")
    func notice() throws {
        let gap = GapNotice(
            from: EventID(milliseconds: 1, sequence: 2), to: EventID(milliseconds: 3, sequence: 4),
            reason: .trimmed
        ).batch
        #expect(
            try texts(gap) == [
                #"{"type":"gap","id":"3-4","data":{"from":"1-2","to":"3-4","reason":"trimmed"}}"#
            ])
    }

    @Test("a notice about one topic goes to those who can see it, in both forms")
    func topicNotice() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let notice = GapNotice(
            from: EventID(milliseconds: 3, sequence: 3), to: EventID(milliseconds: 3, sequence: 4),
            reason: .retention, lost: 12
        ).batch(on: bench.directory.route(for: "cams"))
        #expect(
            try texts(notice) == [
                #"{"type":"gap","id":"3-4","data":{"from":"3-3","to":"3-4","#
                    + #""reason":"retention","lost":12}}"#
            ])
        let directory = bench.directory
        let sees = try directory.subscription(
            to: #require(directory.channel(named: "cameras")), parameters: [])
        let others = Subscription(channels: [], predicates: [])
        var slices: [Range<Int>] = []
        for format in [FrameFormat.eventStream, .webSocket] {
            #expect(notice.appendSlices(for: sees, in: format, after: .zero, to: &slices) == 1)
            #expect(notice.appendSlices(for: others, in: format, after: .zero, to: &slices) == 0)
            #expect(
                notice.appendSlices(for: sees, in: format, after: notice.lastID, to: &slices) == 0)
        }
        #expect(slices.count == 2)
    }

    @Test("every loop gets the same bytes, however many ask at once")
    func once() throws {
        let batch = try batch((0..<500).map { "{\"n\":\($0)}" })
        let plain = batch.memoryBytes
        let found = Lock<[SharedBytes]>([])
        let threads = (0..<8).map { index in
            NamedThread("asks-\(index)") {
                let bytes = batch.bytes(in: .webSocket)
                found.withLock { $0.append(bytes) }
            }
        }
        for thread in threads { #expect(thread.join(within: .seconds(10))) }
        let all = found.withLock { $0 }
        #expect(all.count == 8)
        #expect(all.allSatisfy { $0 === all[0] })
        #expect(batch.memoryBytes > plain + all[0].count)
        #expect(batch.bytes(in: .eventStream) === batch.frames)
    }
}

extension String {
    /// The first place of `text`, without Foundation.
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
