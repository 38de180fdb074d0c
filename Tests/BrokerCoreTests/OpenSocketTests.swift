// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import CLinux
import EventStreamWire
import Glibc
import Observability
import PosixIO
import Testing

/// A connection as HTTP/1.1 makes it: a real socket with little room, that passes may send to at
/// once.
final class SocketSink: EventSink {
    private var near: OwnedDescriptor?
    private let far: OwnedDescriptor
    private let number: CInt
    private(set) var isFull = false
    private(set) var writes = 0
    private(set) var received: [UInt8] = []
    var key: Hub.Key?

    init() throws {
        var numbers: [CInt] = [-1, -1]
        let type =
            CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
            | CInt(SOCK_NONBLOCK.rawValue)
        try #require(unsafe socketpair(AF_UNIX, type, 0, &numbers) == 0)
        number = numbers[0]
        near = OwnedDescriptor(adopting: numbers[0])
        far = OwnedDescriptor(adopting: numbers[1])
        // The least there is, so that a few events fill it.
        try StreamSocket.set(number, level: SOL_SOCKET, option: SO_SNDBUF, to: 1)
    }

    var hasEnded: Bool { near == nil }

    /// Without a socket of its own from here on, as after the client has gone.
    func close() { near = nil }

    func hangUp() { _ = shutdown(far.number, CInt(SHUT_RDWR)) }

    /// Reads as much as `room`, and whether the socket takes more from now on is known.
    func drain(_ room: Int) {
        var buffer = [UInt8](repeating: 0, count: room)
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(far.number, into: $0)
        }
        if case .transferred(let count) = outcome { received += buffer.prefix(count) }
        isFull = false
    }

    func write(_ pieces: UnsafeBufferPointer<iovec>) -> SinkWrite {
        guard !hasEnded else { return .ended }
        writes += 1
        guard !isFull else { return .some(0) }
        var offered = 0
        for index in pieces.indices { unsafe offered += pieces[index].iov_len }
        switch unsafe StreamSocket.write(number, pieces: pieces) {
        case .transferred(offered): return .all
        case .transferred(let count):
            isFull = true
            return .some(count)
        case .wouldBlock:
            isFull = true
            return .some(0)
        case .endOfFile, .failed:
            close()
            return .ended
        }
    }

    var openSocket: CInt? { hasEnded || isFull ? nil : number }
    func sentToSocket(_ bytes: Int, isFull: Bool) { if isFull { self.isFull = true } }
    func finish() { close() }
    func abort() { close() }

    var ids: [UInt64] {
        var parser = EventStreamParser()
        let bytes = received
        do {
            return try parser.messages(in: bytes.span).map { try $0.cursor().sequence }
        } catch {
            Issue.record("\(error)")
            return []
        }
    }
}

extension HubBench {
    func subscribeSocket(
        _ channel: String, _ filter: [(String, String)] = [], after: EventID? = nil
    ) -> Int {
        let directory = directory
        let subscription = try! directory.subscription(
            to: directory.channel(named: channel)!, parameters: filter)
        return value { parts in
            let sink = try! SocketSink()
            parts.sockets.append(sink)
            sink.key = parts.hub.subscribe(sink, to: subscription, after: after)
            return parts.sockets.count - 1
        }
    }

    /// Reads up to `room` bytes at the other end, which makes the socket writable.
    func drain(_ index: Int, room: Int) {
        step { parts in
            let sink = parts.sockets[index]
            let wasFull = sink.isFull
            sink.drain(room)
            if wasFull { parts.hub.sinkIsWritable(sink.key!) }
        }
    }

    /// Reads until there is nothing left to read.
    func drainAll(_ index: Int) -> [UInt64] {
        var size = -1
        while true {
            drain(index, room: 65_536)
            let now = value { $0.sockets[index].received.count }
            if now == size { break }
            size = now
        }
        return value { $0.sockets[index].ids }
    }
}

@Suite("Passes over open sockets")
struct OpenSocketTests {
    @Test("who is caught up is sent to without its sink, once for the events of a turn")
    func direct() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let socket = bench.subscribeSocket("cameras")
        let before = bench.value { $0.sockets[0].writes }
        bench.publish("cams", count: 3)
        bench.publish("detections", count: 2)
        #expect(bench.value { $0.sockets[0].writes } == before)
        #expect(bench.drainAll(socket) == [1, 2, 3, 4, 5])
    }

    @Test("a full socket lags, and goes on at the byte where it stopped")
    func full() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let slow = bench.subscribeSocket("cameras")
        let quick = bench.subscribeSocket("cameras")
        for _ in 0..<40 {
            bench.publish("cams", count: 2, padding: 300)
            bench.drain(quick, room: 65_536)
        }
        let isFull = bench.value { $0.sockets[slow].isFull }
        #expect(isFull)
        #expect(bench.value { $0.hub.metrics.lagging.value } == 1)
        #expect(bench.drainAll(quick) == Array(1...80))
        #expect(bench.drainAll(slow) == Array(1...80))
        #expect(bench.value { $0.hub.metrics.lagging.value } == 0)
        bench.publish("cams", count: 1)
        #expect(bench.drainAll(slow) == Array(1...81))
    }

    @Test("a socket whose peer has gone ends its subscription, and the others go on")
    func gone() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let sockets = (0..<4).map { _ in bench.subscribeSocket("cameras") }
        bench.publish("cams", count: 1)
        bench.step { $0.sockets[1].hangUp() }
        bench.step { $0.sockets[3].hangUp() }
        bench.publish("cams", count: 1)
        #expect(bench.value { $0.hub.subscriberCount } == 2)
        #expect(bench.value { $0.sockets[1].hasEnded && $0.sockets[3].hasEnded })
        bench.publish("cams", count: 1)
        #expect(bench.drainAll(sockets[0]) == [1, 2, 3])
        #expect(bench.drainAll(sockets[2]) == [1, 2, 3])
    }

    @Test("the number of a socket that was closed is not sent to again")
    func closed() throws {
        let bench = try HubBench(windowBytes: 1 << 20)
        let first = bench.subscribeSocket("cameras")
        let second = bench.subscribeSocket("cameras")
        bench.step { parts in
            parts.sockets[first].close()
            parts.hub.sinkEnded(parts.sockets[first].key!)
        }
        // Takes the number that has become free.
        let third = bench.subscribeSocket("detections")
        bench.publish("cams", count: 2)
        #expect(bench.drainAll(second) == [1, 2])
        #expect(bench.drainAll(third).isEmpty)
    }

    /// Goal: each connection gets exactly its events, whatever its socket takes and whenever, beside
    /// others that are served through their sinks.
    /// Method: random publishing, subscribing, reading and leaving; then every socket is read dry.
    @Test("exactly once in order over random sockets", arguments: 0..<40 as Range<UInt64>)
    func random(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        let bench = try HubBench(
            windowBytes: Int.random(in: 1500...60_000, using: &random),
            pageBatches: Int.random(in: 1...4, using: &random))
        var sockets: [(index: Int, after: UInt64, filter: UInt64?)] = []
        var sinks: [(index: Int, after: UInt64)] = []
        var published: UInt64 = 0
        for _ in 0..<150 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<5:
                let count = Int.random(in: 1...6, using: &random)
                bench.publish(
                    "cams", count: count, padding: Int.random(in: 0...500, using: &random))
                published += UInt64(count)
            case 5..<7:
                let filter: UInt64? =
                    Bool.random(using: &random) ? UInt64.random(in: 0..<3, using: &random) : nil
                let parameters = filter.map { [("camera_ids", "cam\($0)")] } ?? []
                let index = bench.subscribeSocket("cameras", parameters)
                sockets.append((index, published, filter))
            case 7: sinks.append((bench.subscribe("cameras"), published))
            case 8 where sockets.count > 2:
                let (index, _, _) = sockets.remove(
                    at: Int.random(in: 0..<sockets.count, using: &random))
                let isTold = Bool.random(using: &random)
                bench.step { parts in
                    guard isTold else { return parts.sockets[index].hangUp() }
                    parts.sockets[index].close()
                    parts.hub.sinkEnded(parts.sockets[index].key!)
                }
            default:
                guard let (index, _, _) = sockets.randomElement(using: &random) else { continue }
                bench.drain(index, room: Int.random(in: 1...3000, using: &random))
            }
        }
        for (index, after, filter) in sockets {
            let wanted = ((after + 1)..<(published + 1)).filter {
                filter == nil || $0 % 3 == filter
            }
            // Pages of history take turns that nobody can count.
            let deadline = MonotonicTime.now + .seconds(10)
            var found = bench.drainAll(index)
            while found != Array(wanted), MonotonicTime.now < deadline {
                found = bench.drainAll(index)
            }
            let isRight = found == Array(wanted)
            #expect(isRight, "seed \(seed), socket \(index), ended at \(found.last ?? 0)")
        }
        for (index, after) in sinks {
            #expect(bench.ids(index) == Array((after + 1)..<(published + 1)))
        }
    }
}
