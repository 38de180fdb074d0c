// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import PosixIO
import Testing
import WebSocketWire

@testable import BrokerCore

/// Sockets that agreed on permessage-deflate, beside others that did not.
@Suite("WebSocket with permessage-deflate")
struct DeflatedSocketTests {
    private static let subscribe = #"{"type":"subscribe","channel":"cameras"}"#
    private static let narrow = "permessage-deflate; server_max_window_bits=9"

    private func deflate(_ offer: String = "permessage-deflate") throws -> PerMessageDeflate {
        try #require(try PerMessageDeflate(offers: [offer]))
    }

    @Test("every client understands the same, compressed or not, from whatever event on")
    func sameEvents() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 3, padding: 300)
        let plain = bench.openWebSocket()
        let wide = bench.openWebSocket(deflate: try deflate())
        let narrow = bench.openWebSocket(deflate: try deflate(Self.narrow))
        let late = bench.openWebSocket(deflate: try deflate())
        for socket in [plain, wide, narrow] { bench.say(socket, Self.subscribe) }
        bench.say(
            late, #"{"type":"subscribe","channel":"cameras","last_event_id":"1000-1"}"#)
        bench.publish("cams", count: 4, padding: 300)
        bench.publish("cams", count: 1, padding: 5)
        let expected = try bench.transcript(plain)
        #expect(expected.sequences() == [4, 5, 6, 7, 8])
        for socket in [wide, narrow] {
            let found = try bench.transcript(socket, inflates: true)
            #expect(found.events == expected.events)
            #expect(found.texts.suffix(5) == expected.texts.suffix(5))
            #expect(bench.received(socket).count < bench.received(plain).count / 2)
        }
        let resumed = try bench.settled(late, [2, 3, 4, 5, 6, 7, 8], inflates: true)
        #expect(resumed.sequences() == [2, 3, 4, 5, 6, 7, 8])
        // A client that did not agree on it cannot read it: the bit is set.
        #expect(throws: WebSocketError.self) { try bench.transcript(wide) }
    }

    @Test("a client's own messages may be compressed")
    func fromClient() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket(deflate: try deflate())
        let deflater = try #require(MessageDeflater(.wide))
        let text = #"{"type":"subscribe","channel":"cameras","filters":{"camera_ids":["cam1"]}}"#
        var frame = ByteWriter()
        deflater.append(.text, Array(text.utf8).span, to: &frame)
        var bytes = frame.bytes
        #expect(bytes[0] == 0xc1)
        // As a client would: masked, here with zeros.
        bytes[1] |= 0x80
        bytes.insert(contentsOf: [0, 0, 0, 0], at: 2)
        let sent = bytes
        bench.step { parts in parts.sessions[socket].receive(sent.span) }
        bench.publish("cams", count: 4, padding: 100)
        #expect(try bench.transcript(socket, inflates: true).sequences() == [1, 4])
    }

    @Test("a socket that takes byte by byte tears no compressed frame, and nobody starves")
    func byteByByte() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket(deflate: try deflate())
        for name in ["a", "b"] {
            bench.say(
                socket, #"{"type":"subscribe","subscription":"\#(name)","channel":"cameras"}"#)
        }
        bench.step { parts in parts.sinks[socket].allowance = 0 }
        for _ in 0..<3 { bench.publish("cams", count: 2, padding: 200) }
        bench.send(socket, .ping, [9])
        for _ in 0..<400 {
            bench.step { parts in
                for _ in 0..<16 {
                    parts.sinks[socket].allowance = 1
                    parts.sessions[socket].socketIsWritable()
                }
            }
        }
        bench.makeRoom(socket)
        let found = try bench.transcript(socket, inflates: true)
        #expect(found.sequences("a") == [1, 2, 3, 4, 5, 6])
        #expect(found.sequences("b") == [1, 2, 3, 4, 5, 6])
        #expect(found.pongs == [[9]])
        #expect(!found.isTorn)
    }

    @Test("a gap reaches a client that has compressed events")
    func gap() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 3)
        let socket = bench.openWebSocket(deflate: try deflate())
        bench.say(
            socket,
            #"{"type":"subscribe","channel":"cameras","last_event_id":"9999999-5"}"#)
        let told = eventually {
            (try? bench.transcript(socket, inflates: true).types.contains("gap")) ?? false
        }
        #expect(told)
    }

    @Test("every loop gets the same compressed bytes, and each window its own")
    func once() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 50, padding: 400)
        let batch = try #require(bench.history.state.withLock { $0.batches.first })
        let plain = batch.memoryBytes
        let found = Lock<[SharedBytes]>([])
        let threads = (0..<8).map { index in
            NamedThread("asks-\(index)") {
                let bytes = batch.bytes(in: .deflated(.wide))
                found.withLock { $0.append(bytes) }
            }
        }
        for thread in threads { #expect(thread.join(within: .seconds(10))) }
        let all = found.withLock { $0 }
        #expect(all.count == 8)
        #expect(all.allSatisfy { $0 === all[0] })
        #expect(batch.bytes(in: .deflated(.narrow)) !== all[0])
        #expect(batch.memoryBytes > plain + all[0].count)
    }
}
