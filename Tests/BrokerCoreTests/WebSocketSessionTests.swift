// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import PosixIO
import Testing
import WebSocketWire

@Suite("WebSocket session")
struct WebSocketSessionTests {
    @Test("a client subscribes, hears from where, and then gets what is new")
    func subscribe() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 2)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
        bench.publish("cams", count: 2)
        bench.publish("detections", count: 1)
        let found = try bench.transcript(socket)
        #expect(found.types == ["retry", "subscribed"])
        #expect(
            found.texts[1]
                == #"{"type":"subscribed","subscription":"1","channel":"cameras","after":"1000-2"}"#
        )
        #expect(found.sequences() == [3, 4, 5])
        #expect(Set(found.events.map(\.channel)) == ["cameras"])
        #expect(Set(found.events.map(\.name)) == ["camera_update"])
        #expect(found.texts[2].contains(#""data":{"camera_id":"cam0""#))
    }

    @Test("with metadata each event comes with its origin, pushed and pulled, for who asked only")
    func metadata() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 2)
        let asking = bench.openWebSocket()
        let plain = bench.openWebSocket()
        bench.say(
            asking,
            #"{"type":"subscribe","channel":"cameras","metadata":true,"last_event_id":"1000-1"}"#)
        bench.say(plain, #"{"type":"subscribe","channel":"cameras"}"#)
        bench.publish("cams", count: 1)
        let found = try bench.transcript(asking)
        #expect(found.sequences() == [2, 3])
        for (text, offset) in zip(found.texts.suffix(2), 2...) {
            let origin = #""data":{"topic":"cams","partition":3,"offset":\#(offset),"timestamp":9,"#
            #expect(text.contains(origin + #""key":null,"headers":[],"data":{"camera_id":"#))
        }
        #expect(
            try bench.transcript(plain).texts.last?.contains(#""data":{"camera_id":"#) == true)
        let wrong = bench.openWebSocket()
        bench.say(wrong, #"{"type":"subscribe","channel":"cameras","metadata":"yes"}"#)
        #expect(try bench.transcript(wrong).types == ["retry", "error"])
    }

    @Test("filters and a cursor do what they do in a query")
    func filtered() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 9)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            """
            {"type":"subscribe","subscription":"mine","channel":"cameras",
             "filters":{"camera_ids":["cam1","cam9"]},"last_event_id":"1000-3"}
            """)
        bench.publish("cams", count: 4)
        let found = try bench.transcript(socket)
        #expect(found.sequences("mine") == [4, 7, 10, 13])
        #expect(found.begins[0].after == EventID(milliseconds: 1000, sequence: 3))
    }

    @Test("any channels can be asked for, with the parameters of the stream of all events")
    func anyChannels() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            #"{"type":"subscribe","filters":{"channels":["detections"],"event_types":"t"}}"#)
        bench.publish("cams", count: 1)
        bench.publish("detections", count: 1)
        #expect(try bench.transcript(socket).events.map(\.channel) == ["detections"])
    }

    @Test("with several subscriptions a message says whose events come next")
    func several() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.publish("cams", count: 1)
        bench.say(socket, #"{"type":"subscribe","subscription":"b","channel":"detections"}"#)
        bench.publish("cams", count: 2)
        bench.publish("cams", count: 1)
        bench.publish("detections", count: 1)
        let found = try bench.transcript(socket)
        #expect(found.sequences("a") == [1, 2, 3, 4, 5])
        #expect(found.sequences("b") == [5])
        // Which of the two has its turn first is open; nobody is announced twice in a row.
        let announcements = found.types.filter { $0 == "events" }.count
        #expect((2...3).contains(announcements))
        bench.say(socket, #"{"type":"unsubscribe","subscription":"a"}"#)
        bench.publish("detections", count: 2)
        let after = try bench.transcript(socket)
        #expect(after.types.last(where: { $0 != "events" }) == "unsubscribed")
        #expect(after.sequences("a") == [1, 2, 3, 4, 5])
        #expect(after.sequences("b") == [5, 6, 7])
        #expect(bench.value { parts in parts.hub.subscriberCount } == 1)
    }

    @Test("a subscription can go back to an event and get what followed again")
    func resume() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
        bench.publish("cams", count: 5)
        bench.say(socket, #"{"type":"resume","subscription":"1","last_event_id":"1000-2"}"#)
        #expect(try bench.transcript(socket).sequences() == [1, 2, 3, 4, 5, 3, 4, 5])
    }

    @Test("a cursor that is older than history is told as a gap")
    func gap() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        bench.publish("cams", count: 3)
        let socket = bench.openWebSocket()
        bench.say(
            socket,
            #"{"type":"subscribe","channel":"cameras","last_event_id":"9999999-5"}"#)
        let deadline = MonotonicTime.now + .seconds(10)
        while try !bench.transcript(socket).types.contains("gap"), MonotonicTime.now < deadline {}
        bench.publish("cams", count: 1)
        let found = try bench.settled(socket, [4])
        #expect(found.types == ["retry", "subscribed", "gap"])
        #expect(found.texts[2].contains(#""reason":"unknown_id""#))
        #expect(found.sequences() == [4])
    }

    @Test(
        "a message that cannot be done is answered with what was wrong, and the socket stays",
        arguments: [
            ("", "malformed_message"), ("[]", "malformed_message"), ("{", "malformed_message"),
            ("{}", "missing_field"), (#"{"type":7}"#, "invalid_field"),
            (#"{"type":"subscribe","type":"ping"}"#, "invalid_field"),
            (#"{"type":"shout"}"#, "unknown_type"),
            (#"{"type":"ping","extra":1}"#, "invalid_field"),
            (#"{"type":"subscribe","channel":"nothing"}"#, "unknown_channel"),
            (#"{"type":"subscribe","channel":["cameras","detections"]}"#, "invalid_field"),
            (#"{"type":"subscribe","chanel":"cameras"}"#, "invalid_field"),
            (#"{"type":"subscribe","channel":{"name":"cameras"}}"#, "invalid_field"),
            (#"{"type":"subscribe","channel":"cameras","filters":"x"}"#, "invalid_field"),
            (
                #"{"type":"subscribe","channel":"cameras","filters":{"colour":"red"}}"#,
                "unknown_parameter"
            ),
            (
                #"{"type":"subscribe","channel":"cameras","filters":{"last_event_id":"1"}}"#,
                "unknown_parameter"
            ),
            (
                #"{"type":"subscribe","channel":"cameras","filters":{"camera_ids":[]}}"#,
                "invalid_value"
            ),
            (
                #"{"type":"subscribe","channel":"cameras","filters":{"camera_ids":null}}"#,
                "invalid_value"
            ),
            (
                #"{"type":"subscribe","channel":"cameras","filters":{"camera_ids":[""]}}"#,
                "invalid_value"
            ),
            (
                #"{"type":"subscribe","channel":"cameras","last_event_id":"soon"}"#,
                "malformed_event_id"
            ),
            (#"{"type":"subscribe","subscription":"","channel":"cameras"}"#, "invalid_field"),
            (#"{"type":"unsubscribe"}"#, "missing_field"),
            (#"{"type":"unsubscribe","subscription":"x"}"#, "unknown_subscription"),
            (#"{"type":"resume","subscription":"x"}"#, "missing_field"),
            (
                #"{"type":"resume","subscription":"x","last_event_id":"1"}"#,
                "unknown_subscription"
            ),
        ])
    func refusals(message: String, code: String) throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, message)
        bench.say(socket, #"{"type":"ping"}"#)
        let found = try bench.transcript(socket)
        #expect(found.types == ["retry", "error", "pong"])
        let names = found.texts[1].contains("\"code\":\"\(code)\"")
        #expect(names, "\(found.texts[1])")
        #expect(found.close == nil)
    }

    @Test("a name is given once, and a socket has a bounded number of subscriptions")
    func manySubscriptions() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"2","channel":"cameras"}"#)
        bench.say(socket, #"{"type":"subscribe","subscription":"2","channel":"cameras"}"#)
        for _ in 0..<WebSocketLimits.subscriptions {
            bench.say(socket, #"{"type":"subscribe","channel":"detections"}"#)
        }
        let found = try bench.transcript(socket)
        #expect(found.begins.prefix(3).map(\.subscription) == ["2", "1", "3"])
        #expect(found.begins.count == WebSocketLimits.subscriptions)
        let errors = found.texts.filter { $0.hasPrefix(#"{"type":"error""#) }
        #expect(errors.count == 2)
        #expect(errors[0].contains(#""code":"duplicate_subscription""#))
        #expect(errors[0].contains(#""subscription":"2""#))
        #expect(errors[1].contains(#""code":"too_many_subscriptions""#))
    }

    @Test("pings are answered with their payload, also between the frames of a message")
    func pings() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.send(socket, .ping, [1, 2, 3])
        bench.send(socket, .text, Array(#"{"type":"#.utf8), isFinal: false)
        bench.send(socket, .ping, [4])
        bench.send(socket, .continuation, Array(#""ping"}"#.utf8))
        let found = try bench.transcript(socket)
        #expect(found.pongs == [[1, 2, 3], [4]])
        #expect(found.types == ["retry", "pong"])
    }

    /// How a session ends, by what the client did.
    @Test("every end has its code")
    func closes() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        func end(_ act: (Int) -> Void) throws -> (code: UInt16?, reason: String)? {
            let socket = bench.openWebSocket()
            bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
            act(socket)
            bench.publish("cams", count: 1)
            let found = try bench.transcript(socket)
            #expect(found.events.isEmpty)
            #expect(bench.hasEnded(socket))
            return found.close
        }
        #expect(try end { bench.send($0, .close, [3, 232, 0x61]) }?.code == 1000)
        #expect(try end { bench.send($0, .close, []) }?.code == 1000)
        #expect(try end { bench.send($0, .close, [3, 233]) }?.code == 1001)
        #expect(try end { bench.send($0, .close, [3]) }?.code == 1002)
        #expect(try end { bench.send($0, .continuation, [3]) }?.code == 1002)
        #expect(try end { bench.send($0, .binary, [1]) }?.code == 1003)
        #expect(try end { bench.send($0, .text, [0xff]) }?.code == 1007)
        let large = [UInt8](repeating: 0x20, count: WebSocketLimits.messageBytes + 1)
        #expect(try end { bench.send($0, .text, large) }?.code == 1009)
        let flood = try end { socket in
            for _ in 0..<WebSocketLimits.burst * 2 { bench.send(socket, .pong, []) }
        }
        #expect(flood?.code == 1008)
        let drained = try end { socket in
            bench.step { parts in parts.sessions[socket].drain() }
        }
        #expect(drained?.code == 1012)
        #expect(drained?.reason.isEmpty == false)
        #expect(bench.value { parts in parts.hub.subscriberCount } == 0)
    }

    @Test("a hub that is drained without its sessions sends them away all the same")
    func hubDrain() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        for _ in 0..<3 { bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#) }
        bench.step { parts in _ = parts.hub.drain() }
        #expect(try bench.transcript(socket).close?.code == 1012)
        #expect(bench.value { parts in parts.hub.subscriberCount } == 0)
    }

    @Test("a drain finishes the frame that was begun, then says why")
    func drainInFrame() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
        bench.step { parts in parts.sinks[socket].allowance = 150 }
        bench.publish("cams", count: 3, padding: 100)
        #expect(try bench.transcript(socket).isTorn)
        bench.step { parts in parts.sessions[socket].drain() }
        bench.makeRoom(socket, 60)
        #expect(!bench.hasEnded(socket))
        bench.makeRoom(socket)
        let found = try bench.transcript(socket)
        #expect(!found.isTorn)
        #expect(found.sequences() == [1])
        #expect(found.types == ["retry", "subscribed", "retry"])
        #expect(found.close?.code == 1012)
        #expect(bench.hasEnded(socket))
    }

    @Test("a socket that ends takes its subscriptions with it")
    func ended() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        for _ in 0..<3 { bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#) }
        #expect(bench.value { parts in parts.hub.subscriberCount } == 3)
        bench.step { parts in parts.sinks[socket].hasEnded = true }
        bench.publish("cams", count: 1)
        bench.step { parts in parts.sessions[socket].socketEnded() }
        #expect(bench.value { parts in parts.hub.subscriberCount } == 0)
        bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
        #expect(bench.value { parts in parts.hub.subscriberCount } == 0)
    }

    @Test("a session that has ended is let go, with all it held")
    func letGo() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket(allowance: 300)
        for _ in 0..<3 { bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#) }
        bench.publish("cams", count: 3, padding: 100)
        let isGone = bench.value { parts in
            weak let session = parts.sessions[socket]
            weak let sink = parts.sinks[socket]
            parts.sessions[socket].socketEnded()
            parts.sessions = []
            parts.sinks = []
            return session == nil && sink == nil
        }
        #expect(isGone)
    }

    // MARK: - Keeping sockets alive

    private func sweep(_ bench: HubBench, _ socket: Int, _ times: Int = 1) {
        for _ in 0..<times { bench.step { parts in parts.sessions[socket].sweep() } }
    }

    @Test("a silent socket is pinged, and given up where nobody answers")
    func heartbeat() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let answering = bench.openWebSocket(heartbeat: .zero)
        let silent = bench.openWebSocket(heartbeat: .zero)
        let calm = bench.openWebSocket(heartbeat: .seconds(60))
        for _ in 0..<10 {
            sweep(bench, answering)
            bench.send(answering, .pong, [])
        }
        sweep(bench, silent, 10)
        sweep(bench, calm, 10)
        #expect(try bench.transcript(answering).pings >= 9)
        #expect(!bench.hasEnded(answering))
        #expect(try bench.transcript(silent).pings == WebSocketLimits.unansweredPings)
        #expect(bench.hasEnded(silent))
        #expect(try bench.transcript(calm).pings == 0)
        #expect(!bench.hasEnded(calm))
    }

    @Test("a socket that takes nothing is given up, one that takes a little is not")
    func stuck() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        for takesSome in [false, true] {
            let socket = bench.openWebSocket(stuckAfter: .milliseconds(20))
            bench.say(socket, #"{"type":"subscribe","channel":"cameras"}"#)
            bench.step { parts in parts.sinks[socket].allowance = 10 }
            bench.publish("cams", count: 3, padding: 2000)
            let deadline = MonotonicTime.now + .milliseconds(200)
            while MonotonicTime.now < deadline {
                sweep(bench, socket)
                if takesSome { bench.makeRoom(socket, 1) }
            }
            #expect(bench.hasEnded(socket) == !takesSome)
        }
    }

    @Test("a client that asks and never reads loses its socket")
    func neverReads() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket(allowance: 40)
        var asked = 0
        while !bench.hasEnded(socket), asked < WebSocketLimits.burst {
            bench.say(socket, #"{"type":"subscribe","channel":"nothing"}"#)
            asked += 1
        }
        #expect(bench.hasEnded(socket))
        #expect(asked > WebSocketLimits.subscriptions)
        #expect(bench.received(socket).count == 40)
    }
}
