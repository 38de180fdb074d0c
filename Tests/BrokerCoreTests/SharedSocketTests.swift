// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import Observability
import PosixIO
import Testing
import WebSocketWire

/// Several subscriptions on one socket that takes what it likes.
@Suite("WebSocket shared by subscriptions")
struct SharedSocketTests {
    @Test("a socket that takes byte by byte tears no frame, and nobody starves")
    func byteByByte() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.say(socket, #"{"type":"subscribe","subscription":"b","channel":"cameras"}"#)
        bench.step { parts in parts.sinks[socket].allowance = 0 }
        for _ in 0..<3 { bench.publish("cams", count: 2, padding: 20) }
        bench.send(socket, .ping, [9])
        var fewest = 0
        for _ in 0..<400 {
            bench.step { parts in
                for _ in 0..<16 {
                    parts.sinks[socket].allowance = 1
                    parts.sessions[socket].socketIsWritable()
                }
            }
            let found = try bench.transcript(socket)
            fewest = min(found.sequences("a").count, found.sequences("b").count)
            if fewest == 6, !found.isTorn { break }
            // While both wait, no one gets more than a turn ahead.
            let ahead = abs(found.sequences("a").count - found.sequences("b").count)
            #expect(ahead <= 1)
        }
        let found = try bench.transcript(socket)
        #expect(found.sequences("a") == [1, 2, 3, 4, 5, 6])
        #expect(found.sequences("b") == [1, 2, 3, 4, 5, 6])
        #expect(found.pongs == [[9]])
        let isTorn = found.isTorn
        #expect(!isTorn)
    }

    @Test("one that leaves in the middle of a frame lets the frame be finished")
    func leavesInFrame() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.say(socket, #"{"type":"subscribe","subscription":"b","channel":"cameras"}"#)
        bench.step { parts in parts.sinks[socket].allowance = 100 }
        bench.publish("cams", count: 2, padding: 300_000)
        #expect(try bench.transcript(socket).isTorn)
        bench.say(socket, #"{"type":"unsubscribe","subscription":"a"}"#)
        bench.say(socket, #"{"type":"unsubscribe","subscription":"b"}"#)
        bench.makeRoom(socket, 1000)
        #expect(try bench.transcript(socket).isTorn)
        bench.makeRoom(socket)
        let found = try bench.transcript(socket)
        #expect(!found.isTorn)
        #expect(found.events.map(\.sequence) == [1])
        #expect(found.types.suffix(2) == ["unsubscribed", "unsubscribed"])
        #expect(found.close == nil)
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.publish("cams", count: 1)
        #expect(try bench.transcript(socket).events.last?.sequence == 3)
    }

    @Test("one that reads too slowly is told of a gap between two frames, where its rule says so")
    func skippedForLag() throws {
        let rule = LagRule(policy: .skip, bytesMax: 3000)
        let bench = try HubBench(windowBytes: 1 << 20, lagRule: rule)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.say(socket, #"{"type":"subscribe","subscription":"b","channel":"cameras"}"#)
        bench.step { parts in parts.sinks[socket].allowance = 100 }
        for _ in 0..<10 { bench.publish("cams", count: 5) }
        let skipped = eventually { bench.value { $0.hub.metrics.lagSkips.value } == 2 }
        #expect(skipped)
        bench.makeRoom(socket)
        bench.publish("cams", count: 2)
        let found = try bench.transcript(socket)
        #expect(found.types.filter { $0 == "gap" }.count == 2)
        #expect(found.texts.contains { $0.contains(#""reason":"slow""#) })
        #expect(found.sequences("a").suffix(2) == [51, 52])
        #expect(found.sequences("b").suffix(2) == [51, 52])
        #expect(found.sequences("a").count + found.sequences("b").count == 5)
    }

    @Test("one that reads too slowly loses the whole socket, where its rule says so")
    func closedForLag() throws {
        let rule = LagRule(policy: .close, eventsMax: 20)
        let bench = try HubBench(windowBytes: 1 << 20, lagRule: rule)
        let socket = bench.openWebSocket()
        bench.say(socket, #"{"type":"subscribe","subscription":"a","channel":"cameras"}"#)
        bench.say(socket, #"{"type":"subscribe","subscription":"b","channel":"cameras"}"#)
        bench.step { parts in parts.sinks[socket].allowance = 100 }
        for _ in 0..<10 { bench.publish("cams", count: 5) }
        let ended = eventually { bench.value { $0.hub.subscriberCount } == 0 }
        #expect(ended)
        #expect(!bench.hasEnded(socket))
        bench.makeRoom(socket)
        let found = try bench.transcript(socket)
        #expect(found.close?.code == 1013)
        #expect(found.events.map(\.sequence) == [1])
        #expect(bench.hasEnded(socket))
    }

    /// One subscription's life on one socket, as the test knows it.
    private struct Life {
        let socket: Int
        let name: String
        let after: UInt64
        let filter: UInt64?
        var isOver = false

        func wanted(of published: UInt64) -> [UInt64] {
            ((after + 1)..<(published + 1)).filter { filter == nil || $0 % 3 == filter }
        }
    }

    /// Goal: whatever sockets take and clients ask, every subscription gets exactly its events.
    /// Method: random publishing, subscribing, leaving, pings and socket room, with windows so small
    /// that subscriptions fall out of them inside frames; then every socket is let run dry.
    @Test("exactly once in order under random sockets", arguments: 0..<40 as Range<UInt64>)
    func randomSockets(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        let bench = try HubBench(
            windowBytes: Int.random(in: 1500...60_000, using: &random),
            pageBatches: Int.random(in: 1...4, using: &random))
        var lives: [Life] = []
        var published: UInt64 = 0
        var pings: [Int: Int] = [:]
        let sockets = (0..<3).map { _ in bench.openWebSocket() }
        for turn in 0..<160 {
            let socket = sockets.randomElement(using: &random)!
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<4:
                let count = Int.random(in: 1...8, using: &random)
                bench.publish(
                    "cams", count: count, padding: Int.random(in: 0...400, using: &random))
                published += UInt64(count)
            case 4..<6:
                guard lives.filter({ $0.socket == socket && !$0.isOver }).count < 6 else { break }
                let filter: UInt64? =
                    Bool.random(using: &random) ? UInt64.random(in: 0..<3, using: &random) : nil
                let resumes = published > 0 && Bool.random(using: &random)
                let after = resumes ? UInt64.random(in: 1...published, using: &random) : published
                subscribe(
                    bench, socket, "s\(turn)", filter: filter,
                    after: resumes ? cursor(bench, after) : nil)
                lives.append(Life(socket: socket, name: "s\(turn)", after: after, filter: filter))
            case 6:
                guard
                    let index = lives.indices.filter({ !lives[$0].isOver })
                        .randomElement(using: &random)
                else { break }
                bench.say(
                    lives[index].socket,
                    "{\"type\":\"unsubscribe\",\"subscription\":\"\(lives[index].name)\"}")
                lives[index].isOver = true
            case 7:
                bench.send(socket, .ping, [UInt8(turn & 0xff)])
                pings[socket, default: 0] += 1
            default: bench.makeRoom(socket, Int.random(in: 0...2500, using: &random))
            }
        }
        for socket in sockets { bench.makeRoom(socket) }
        bench.publish("cams", count: 1)
        published += 1
        for socket in sockets {
            let own = lives.filter { $0.socket == socket }
            let alive = own.filter { !$0.isOver }
            let found = try settled(bench, socket) { found in
                alive.allSatisfy { found.sequences($0.name) == $0.wanted(of: published) }
            }
            for life in own {
                let wanted = life.wanted(of: published)
                let sequences = found.sequences(life.name)
                // Who has left got a beginning of it.
                let isRight =
                    life.isOver ? wanted.starts(with: sequences) : sequences == wanted
                #expect(isRight, "seed \(seed), \(life), ended at \(sequences.last ?? 0)")
                #expect(found.begins.contains { $0.subscription == life.name })
            }
            let isWhole = !found.isTorn && found.close == nil && !found.types.contains("error")
            #expect(isWhole, "seed \(seed)")
            #expect(found.pongs.count == pings[socket, default: 0])
        }
    }

    /// The transcript once it is as wished, or whatever it is after ten seconds: pages of history
    /// take turns of the loop that nobody can count.
    private func settled(
        _ bench: HubBench, _ socket: Int, _ isDone: (WebSocketTranscript) -> Bool
    ) throws -> WebSocketTranscript {
        let deadline = MonotonicTime.now + .seconds(10)
        while true {
            let found = try bench.transcript(socket)
            if isDone(found) || MonotonicTime.now > deadline { return found }
        }
    }

    private func subscribe(
        _ bench: HubBench, _ socket: Int, _ name: String, filter: UInt64?, after: EventID?
    ) {
        var json = JSONText()
        json.object {
            $0.field("type", "subscribe")
            $0.field("subscription", name)
            $0.field("channel", "cameras")
            if let filter { $0.object("filters") { $0.field("camera_ids", "cam\(filter)") } }
            if let after { $0.field("last_event_id", after.description) }
        }
        bench.say(socket, json.text)
    }

    /// The ID of event `sequence`.
    private func cursor(_ bench: HubBench, _ sequence: UInt64) -> EventID {
        let batch = bench.history.state.withLock { state in
            state.batches.first { $0.lastID.sequence >= sequence }!
        }
        return EventID(milliseconds: batch.firstID.milliseconds, sequence: sequence)
    }
}
