// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor
import CLinux
import Glibc
import Observability
import PosixIO
import TLSEngine

/// Many event streams on the calling thread, doing as little as can be done with each event, so
/// that the server is what is measured.
@safe
final class StreamLoad {
    /// Where streams come from.
    struct Target: Sendable {
        let port: UInt16
        let path: String
        var form = ClientForm.plain
        /// The loopback address to connect from, in host order.
        var source: UInt32 = 0x7f00_0001
        /// More lines of the request's head, each with its line end.
        var headers = ""
    }

    private(set) var tally = StreamTally()
    /// Streams that have begun and not ended.
    private(set) var openCount = 0
    /// `nil` where the server has ended it.
    private var connections: [StreamConnection?] = []
    private var streamsAsked = 0
    private var refusal: String?
    private let poller: OwnedDescriptor
    private let ready: UnsafeMutablePointer<epoll_event>
    private let buffer: UnsafeMutableRawBufferPointer
    /// Where coded streams are decoded.
    private let plain: UnsafeMutableRawBufferPointer
    private let records = TLSRecordBuffer()
    private let trust: TLSClientContext

    private static let eventsPerWait = 512
    private static let bufferBytes = 1 << 20
    /// Streams asked for and not begun: below any server's backlog.
    private static let unansweredMax = 64
    /// No event and no response head comes near this.
    private static let carryBytesMax = 4 << 20

    init() throws(BenchmarkError) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw BenchmarkError(.unavailable, "epoll: \(Errno.current)") }
        poller = OwnedDescriptor(adopting: number)
        // The certificate is one that this program has made; nobody sits in between.
        var settings = TLSClientSettings()
        settings.verifiesServer = false
        do throws(TLSError) { trust = try TLSClientContext(settings) } catch {
            throw BenchmarkError(.unavailable, "TLS: \(error)")
        }
        unsafe ready = .allocate(capacity: Self.eventsPerWait)
        unsafe buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
        unsafe plain = .allocate(byteCount: Self.bufferBytes, alignment: 64)
    }

    deinit {
        closeAll()
        unsafe ready.deallocate()
        unsafe buffer.deallocate()
        unsafe plain.deallocate()
    }

    /// Connections that are open, whatever they carry.
    var connectionCount: Int { connections.reduce(0) { $0 + ($1 == nil ? 0 : 1) } }

    // MARK: - Connections

    /// Opens `count` streams and waits until each has begun.
    func open(_ count: Int, from target: Target, within limit: Duration) throws(BenchmarkError) {
        let deadline = MonotonicTime.now + limit
        let goal = openCount + count
        var left = count
        while openCount < goal {
            while left > 0, streamsAsked - openCount - tally.ended < Self.unansweredMax {
                let streams = min(left, target.form.streamsPerConnection)
                try connect(target, streams: streams)
                left -= streams
            }
            turn(milliseconds: 20)
            if let refusal { throw BenchmarkError(.failed, refusal) }
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "\(openCount) of \(goal) streams began in time")
            }
        }
    }

    private func connect(_ target: Target, streams: Int) throws(BenchmarkError) {
        do throws(BenchmarkError) {
            let number = benchfloor_connect(target.port, target.source, 0)
            guard number >= 0 else { throw BenchmarkError(.failed, "\(Errno(-number))") }
            let connection = StreamConnection(
                OwnedDescriptor(adopting: number), form: target.form, streams: streams)
            if target.form == .tls { try connection.encrypt(trust, records) }
            clinux_set_nonblocking(number)
            guard connection.send(connection.request(for: target)) else {
                throw BenchmarkError(.failed, "the request was not taken")
            }
            let added = clinux_epoll_control(
                poller.number, EPOLL_CTL_ADD, number, EPOLLIN.rawValue | EPOLLRDHUP.rawValue,
                UInt64(connections.count))
            guard added == 0 else { throw BenchmarkError(.failed, "epoll: \(Errno.current)") }
            connections.append(connection)
            streamsAsked += streams
        } catch {
            throw BenchmarkError(
                .failed, "connection \(connections.count + 1) to port \(target.port): \(error)")
        }
    }

    /// Closes with a reset, which leaves no port waiting.
    func closeAll() {
        for case let connection? in connections { connection.resetOnClose() }
        connections = []
        openCount = 0
        streamsAsked = 0
    }

    // MARK: - Reading

    /// Begins a new tally.
    func beginTally(from: MonotonicTime, until: MonotonicTime) {
        streamsAsked -= tally.ended
        tally = StreamTally(from: from, until: until)
    }

    /// Reads until the tally has this many events, or the time is over. True for the former.
    @discardableResult
    func read(until deadline: MonotonicTime, wanted: Int = .max) -> Bool {
        while tally.events < wanted {
            let left = (deadline - .now).wholeMilliseconds
            guard left > 0 else { return false }
            turn(milliseconds: CInt(clamping: min(left, 20)))
        }
        return true
    }

    /// Reads until nothing has come for `silence`, or `limit` is over.
    func drain(silence: Duration, limit: Duration) {
        let deadline = MonotonicTime.now + limit
        var last = tally.bytes
        repeat {
            last = tally.bytes
            read(until: min(deadline, .now + silence))
        } while tally.bytes != last && MonotonicTime.now < deadline
    }

    private func turn(milliseconds: CInt) {
        let count = unsafe epoll_wait(
            poller.number, ready, CInt(Self.eventsPerWait), milliseconds)
        guard count > 0 else { return }
        for place in 0..<Int(count) {
            let tag = unsafe ready[place].data.u64
            let index = Int(truncatingIfNeeded: tag)
            if let connection = connections[index] { read(connection, index) }
        }
    }

    private func read(_ connection: StreamConnection, _ index: Int) {
        repeat {
            switch unsafe connection.read(into: buffer) {
            case .transferred(let count):
                tally.bytes += count
                unsafe take(UnsafeRawBufferPointer(rebasing: buffer[..<count]), connection)
                if connection.isBroken || connection.carry.count > Self.carryBytesMax {
                    return end(index)
                }
            case .wouldBlock: return
            case .endOfFile, .failed: return end(index)
            }
            // A session may hold decrypted bytes that the poller knows nothing of.
        } while connection.isEncrypted
    }

    private func end(_ index: Int) {
        guard let connection = connections[index] else { return }
        if connection.streamsBegun < connection.streams {
            refusal = refusal ?? "a connection was closed before its stream began"
        }
        openCount -= connection.streamsBegun - connection.streamsEnded
        tally.ended += connection.streams - connection.streamsEnded
        connections[index] = nil
    }

    // MARK: - What has come

    private func take(_ fresh: UnsafeRawBufferPointer, _ connection: StreamConnection) {
        if connection.form == .http2 { return unsafe takeFrames(fresh, connection) }
        if connection.streamsBegun == 1 { return unsafe takeBody(fresh, connection) }
        unsafe connection.carry.append(contentsOf: fresh)
        guard let rest = takeHead(connection) else { return }
        unsafe rest.withUnsafeBytes { unsafe takeBody($0, connection) }
    }

    /// What follows the response's head, once that has come.
    private func takeHead(_ connection: StreamConnection) -> [UInt8]? {
        let received = connection.carry
        let separator = Array("\r\n\r\n".utf8)
        var end = 0
        while end + 4 <= received.count, Array(received[end..<(end + 4)]) != separator { end += 1 }
        guard end + 4 <= received.count else { return nil }
        let text = String(decoding: received[..<end], as: UTF8.self)
        let wanted = connection.form.acceptEncoding.map { "content-encoding: \($0)" } ?? ""
        guard text.hasPrefix("HTTP/1.1 200 "), !text.lowercased().contains("chunked"),
            wanted.isEmpty || text.lowercased().contains(wanted)
        else {
            refusal = refusal ?? "no stream, but: \(String(decoding: received, as: UTF8.self))"
            return nil
        }
        connection.carry = []
        connection.streamsBegun = 1
        openCount += 1
        return Array(received[(end + 4)...])
    }

    private func takeBody(_ bytes: UnsafeRawBufferPointer, _ connection: StreamConnection) {
        guard let decoder = connection.decompressor else {
            return unsafe takeEvents(bytes, &connection.carry)
        }
        let isGood = unsafe decoder.decode(bytes, in: plain) {
            unsafe takeEvents($0, &connection.carry)
        }
        if !isGood {
            refusal = refusal ?? "a stream is not what its Content-Encoding says"
            connection.isBroken = true
        }
    }

    private func takeFrames(_ fresh: UnsafeRawBufferPointer, _ connection: StreamConnection) {
        if connection.carry.isEmpty {
            let used = unsafe takeWholeFrames(fresh, connection)
            if used < fresh.count { connection.carry = unsafe Array(fresh[used...]) }
            return
        }
        unsafe connection.carry.append(contentsOf: fresh)
        let held = connection.carry
        let used = unsafe held.withUnsafeBytes { unsafe takeWholeFrames($0, connection) }
        connection.carry = Array(held[used...])
    }

    private func takeWholeFrames(
        _ bytes: UnsafeRawBufferPointer, _ connection: StreamConnection
    ) -> Int {
        var used = 0
        while true {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[used...])
            guard let frame = unsafe HTTP2Frames.first(in: rest) else { return used }
            let payload = unsafe UnsafeRawBufferPointer(rebasing: rest[frame.payload])
            unsafe take(frame, payload, connection)
            used += frame.payload.upperBound
        }
    }

    private func take(
        _ frame: HTTP2Frames.Frame, _ payload: UnsafeRawBufferPointer,
        _ connection: StreamConnection
    ) {
        typealias Kind = HTTP2Frames.Kind
        switch frame.kind {
        case Kind.data:
            unsafe takeEvents(payload, &connection.streamCarry[frame.stream, default: []])
            if frame.endsStream { streamEnded(connection) }
        case Kind.headers:
            guard unsafe HTTP2Frames.isOK(payload) else {
                refusal = refusal ?? "no stream, but an answer without :status 200"
                connection.isBroken = true
                return
            }
            connection.streamsBegun += 1
            openCount += 1
        case Kind.reset: streamEnded(connection)
        case Kind.settings where !frame.isAcknowledgement:
            connection.isBroken = !connection.send(HTTP2Frames.settingsAcknowledgement)
        case Kind.ping where !frame.isAcknowledgement:
            connection.isBroken = unsafe !connection.send(HTTP2Frames.pingAnswer(payload))
        case Kind.goAway: connection.isBroken = true
        default: break
        }
    }

    private func streamEnded(_ connection: StreamConnection) {
        connection.streamsEnded += 1
        openCount -= 1
        tally.ended += 1
    }

    private func takeEvents(_ bytes: UnsafeRawBufferPointer, _ carry: inout [UInt8]) {
        if carry.isEmpty {
            let used = unsafe scan(bytes)
            if used < bytes.count { carry = unsafe Array(bytes[used...]) }
            return
        }
        unsafe carry.append(contentsOf: bytes)
        let used = unsafe carry.withUnsafeBytes { unsafe scan($0) }
        carry.removeFirst(used)
    }

    private func scan(_ bytes: UnsafeRawBufferPointer) -> Int {
        let now = MonotonicTime.now
        let from = tally.from.nanoseconds
        let until = tally.until.nanoseconds
        var events = 0
        let used = unsafe EventScanner.scan(bytes) { event in
            events += 1
            if event.isGap { tally.gaps += 1 }
            if event.due >= from, event.due < until, event.due > 0 {
                tally.latency.record(now.nanoseconds &- min(now.nanoseconds, event.due))
            }
        }
        if events > 0 {
            tally.events += events
            if tally.firstEvent == nil { tally.firstEvent = now }
            tally.lastEvent = now
        }
        return used
    }
}
