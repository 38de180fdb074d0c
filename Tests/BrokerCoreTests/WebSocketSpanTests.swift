// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire
import PosixIO
import Testing

@Suite("Time and count over WebSocket")
struct WebSocketSpanTests {
    @Test("a bounded subscription ends by itself; the socket and the others stay")
    func bounded() throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { WallClock.milliseconds })
        let times = (1...5).map { 1_700_000_000_000 + UInt64($0) * 1_000 }
        for time in times { bench.publish("cams", count: 2, at: time) }
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            """
            {"type":"subscribe","subscription":"past","channel":"cameras",
             "since":\(times[1]),"until":"\(times[3])","speed":1000}
            """)
        bench.say(socket, #"{"type":"subscribe","subscription":"live","channel":"cameras"}"#)
        let ended = try bench.settledTypes(socket) { $0.contains("end") }
        #expect(ended.sequences("past") == [3, 4, 5, 6])
        let end = try #require(ended.texts.first { $0.contains(#""type":"end""#) })
        #expect(end.contains(#""id":"\#(times[3] - 1)-18446744073709551615""#))
        #expect(end.contains(#""reason":"until""#))
        #expect(end.contains(#""count":4"#))
        bench.publish("cams", count: 1, at: WallClock.milliseconds)
        let after = try bench.settled(socket, [11], of: "live")
        #expect(after.sequences("past") == [3, 4, 5, 6])
        #expect(after.close == nil)
        #expect(bench.value { $0.sessions[socket].subscriptionCount } == 1)
        // The name is free again.
        bench.say(
            socket,
            #"{"type":"subscribe","subscription":"past","channel":"cameras","history":"2"}"#)
        let again = try bench.settled(socket, [3, 4, 5, 6, 10, 11], of: "past")
        #expect(!again.types.contains("error"))
    }

    @Test("the last N of a subscription, also where one begins anew")
    func history() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 9)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            """
            {"type":"subscribe","channel":"cameras","filters":{"camera_ids":"cam1"},"history":2}
            """)
        #expect(try bench.settled(socket, [4, 7]).sequences() == [4, 7])
        bench.say(socket, #"{"type":"resume","subscription":"1","history":1}"#)
        bench.publish("cams", count: 3)
        let found = try bench.settled(socket, [4, 7, 7, 10])
        #expect(found.sequences() == [4, 7, 7, 10])
        // Where it begins is not known when it is announced.
        let announced = found.texts.filter { $0.contains(#""type":"subscribed""#) }
        #expect(announced.count == 2)
        #expect(!announced.contains { $0.contains("\"after\"") })
    }

    @Test("a stream whose end has come already is over at once")
    func over() throws {
        let bench = try HubBench(windowBytes: 1 << 20, wallClock: { WallClock.milliseconds })
        bench.publish("cams", count: 1, at: 1_700_000_000_000)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            """
            {"type":"subscribe","channel":"cameras","until":"1700000000000",
             "last_event_id":"1700000000000-18446744073709551615"}
            """)
        #expect(try bench.transcript(socket).types == ["retry", "subscribed", "end"])
        #expect(bench.value { $0.sessions[socket].subscriptionCount } == 0)
        #expect(bench.value { $0.hub.subscriberCount } == 0)
    }

    @Test(
        "nonsense is told and nothing is subscribed",
        arguments: [
            (#""since":"soon""#, "invalid_value", "since"),
            (#""history":0"#, "invalid_value", "history"),
            (#""history":-1"#, "invalid_value", "history"),
            (#""history":1.5"#, "invalid_value", "history"),
            (#""speed":10"#, "invalid_value", "speed"),
            (#""since":"5m","history":3"#, "invalid_value", "history"),
            (#""since":"5m","since":"6m""#, "invalid_value", "since"),
            (#""since":"5m","until":"6m""#, "invalid_value", "until"),
            (#""since":true"#, "invalid_field", "since"),
            (#""history":null"#, "invalid_field", "history"),
            (#""filters":{"since":"5m"}"#, "unknown_parameter", "since"),
        ])
    func refused(_ fields: String, _ code: String, _ parameter: String) throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            #"{"type":"subscribe","subscription":"s","channel":"cameras","# + fields + "}")
        let found = try bench.transcript(socket)
        #expect(found.types == ["retry", "error"])
        #expect(found.texts[1].contains("\"code\":\"\(code)\""), "\(found.texts[1])")
        #expect(found.texts[1].contains("\"parameter\":\"\(parameter)\""), "\(found.texts[1])")
        #expect(found.texts[1].contains(#""subscription":"s""#))
        #expect(bench.value { $0.hub.subscriberCount } == 0)
    }
}

extension HubBench {
    func settledTypes(_ session: Int, _ holds: ([String]) -> Bool) throws -> WebSocketTranscript {
        let deadline = MonotonicTime.now + .seconds(10)
        while true {
            let found = try transcript(session)
            if holds(found.types) || MonotonicTime.now > deadline { return found }
        }
    }
}
