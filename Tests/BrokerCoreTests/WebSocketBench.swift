// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import JSONFields
import Observability
import PosixIO
import Testing
import WebSocketWire

/// What a client has understood of the bytes that its socket brought.
struct WebSocketTranscript {
    struct Event: Equatable {
        let subscription: String
        let name: String
        let channel: String
        let sequence: UInt64
    }

    /// All JSON texts, in order.
    var texts: [String] = []
    var events: [Event] = []
    /// The texts that are no events, by their type.
    var types: [String] = []
    var pings = 0
    var pongs: [[UInt8]] = []
    var close: (code: UInt16?, reason: String)?
    /// Where each subscription began, by the answer that said so; a resumed one begins anew.
    /// Where one has to be found first, that is not said.
    var begins: [(subscription: String, after: EventID?)] = []
    /// True where the bytes end in the middle of a frame.
    var isTorn = false

    func sequences(_ subscription: String = "1") -> [UInt64] {
        events.filter { $0.subscription == subscription }.map(\.sequence)
    }

    init(_ bytes: [UInt8], inflates: Bool = false) throws {
        var reader = WebSocketReader(
            from: .server, messageBytesMax: 1 << 22, inflates: inflates)
        var messages: [WebSocketMessage] = []
        try reader.read(bytes.span, to: &messages)
        isTorn = reader.isInMessage
        let json = try JSONMemberReader(documentBytesMax: 1 << 20, membersMax: 100)
        var current = ""
        for message in messages {
            switch message {
            case .text(let text): try add(text, json, &current)
            case .ping: pings += 1
            case .pong(let payload): pongs.append(payload)
            case .close(let code, let reason): close = (code?.rawValue, reason)
            case .binary: Issue.record("a binary message")
            }
        }
    }

    private mutating func add(_ text: [UInt8], _ json: JSONMemberReader, _ current: inout String)
        throws
    {
        texts.append(String(decoding: text, as: UTF8.self))
        let (verdict, members, _) = json.read(text.span)
        #expect(verdict == .object)
        func value(_ key: String) -> String? {
            for member in members where member.group == nil && member.key == key {
                if case .text(let text) = member.value { return text }
            }
            return nil
        }
        guard let type = value("type") else {
            let id = try EventID.parse(try #require(value("id")))
            events.append(
                Event(
                    subscription: current, name: value("event") ?? "",
                    channel: value("channel") ?? "", sequence: id.sequence))
            return
        }
        types.append(type)
        switch type {
        case "subscribed":
            current = try #require(value("subscription"))
            begins.append((current, try value("after").map { try EventID.parse($0) }))
        case "events": current = try #require(value("subscription"))
        default: break
        }
    }
}

extension HubBench {
    /// A new WebSocket on this bench's hub; returns its index.
    func openWebSocket(
        allowance: Int = .max, heartbeat: Duration = .seconds(60),
        stuckAfter: Duration = .seconds(60), deflate: PerMessageDeflate? = nil
    ) -> Int {
        let loop = loop
        let directory = directory
        return value { parts in
            let sink = ScriptedSink()
            sink.allowance = allowance
            parts.sinks.append(sink)
            let session = WebSocketSession(
                sink,
                .init(
                    loop: loop, hub: parts.hub, directory: directory,
                    reader: try! ClientMessageReader(),
                    metrics: WebSocketMetrics(in: MetricsRegistry()), heartbeat: heartbeat,
                    stuckAfter: stuckAfter), deflate: deflate)
            // Indices of sinks and sessions are the same: benches with WebSockets have nothing else.
            parts.sessions.append(session)
            return parts.sessions.count - 1
        }
    }

    /// Sends frames to a session, as a client would.
    func send(_ session: Int, _ opcode: WebSocketOpcode, _ payload: [UInt8], isFinal: Bool = true) {
        var frame = ByteWriter()
        WebSocketFrame.append(
            opcode, payload.span, maskingKey: [1, 2, 3, 4], isFinal: isFinal, to: &frame)
        let bytes = frame.bytes
        step { parts in parts.sessions[session].receive(bytes.span) }
    }

    func say(_ session: Int, _ text: String) { send(session, .text, Array(text.utf8)) }

    /// The socket takes up to `allowance` bytes more and says so.
    func makeRoom(_ session: Int, _ allowance: Int = .max) {
        step { parts in
            parts.sinks[session].allowance = allowance
            parts.sessions[session].socketIsWritable()
        }
    }

    func received(_ session: Int) -> [UInt8] { value { parts in parts.sinks[session].received } }

    func hasEnded(_ session: Int) -> Bool { value { parts in parts.sinks[session].hasEnded } }

    func transcript(_ session: Int, inflates: Bool = false) throws -> WebSocketTranscript {
        try WebSocketTranscript(received(session), inflates: inflates)
    }

    /// The transcript once it holds `wanted` of a subscription, or whatever it is after ten seconds.
    func settled(
        _ session: Int, _ wanted: [UInt64], of subscription: String = "1", inflates: Bool = false
    ) throws -> WebSocketTranscript {
        let deadline = MonotonicTime.now + .seconds(10)
        while true {
            let found = try transcript(session, inflates: inflates)
            if found.sequences(subscription) == wanted || MonotonicTime.now > deadline {
                return found
            }
        }
    }
}

/// Whether `condition` comes to hold within ten seconds.
func eventually(_ condition: () -> Bool) -> Bool {
    let deadline = MonotonicTime.now + .seconds(10)
    while !condition() {
        guard MonotonicTime.now < deadline else { return false }
    }
    return true
}
