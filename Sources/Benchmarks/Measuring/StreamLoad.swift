// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO

/// Many event-stream connections on the calling thread, doing as little as can be done with each
/// event, so that the server is what is measured.
@safe
final class StreamLoad {
    private final class Connection {
        let socket: OwnedDescriptor
        var hasHead = false
        /// The beginning of an event, or of the response head.
        var carry: [UInt8] = []

        init(_ socket: consuming OwnedDescriptor) { self.socket = socket }
    }

    private(set) var tally = StreamTally()
    /// Connections whose stream has begun and not ended.
    private(set) var openCount = 0
    /// `nil` where the server has ended it.
    private var connections: [Connection?] = []
    private var refusal: String?
    private let poller: OwnedDescriptor
    private let ready: UnsafeMutablePointer<epoll_event>
    private let buffer: UnsafeMutableRawBufferPointer

    private static let eventsPerWait = 512
    private static let bufferBytes = 1 << 20
    /// Connects under way at once: below any server's backlog.
    private static let unansweredMax = 64
    /// No event and no response head comes near this.
    private static let carryBytesMax = 4 << 20

    init() throws(BenchmarkError) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw BenchmarkError(.unavailable, "epoll: \(Errno.current)") }
        poller = OwnedDescriptor(adopting: number)
        unsafe ready = .allocate(capacity: Self.eventsPerWait)
        unsafe buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
    }

    deinit {
        closeAll()
        unsafe ready.deallocate()
        unsafe buffer.deallocate()
    }

    // MARK: - Connections

    /// Opens connections and waits until each has its stream's head.
    func open(_ count: Int, port: UInt16, path: String, within limit: Duration)
        throws(BenchmarkError)
    {
        let deadline = MonotonicTime.now + limit
        let request = Array(
            "GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nAccept: text/event-stream\r\n\r\n"
                .utf8)
        let wanted = connections.count + count
        let goal = openCount + count
        while openCount < goal {
            while connections.count < wanted,
                connections.count - openCount - tally.ended < Self.unansweredMax
            {
                try connect(port, request)
            }
            turn(milliseconds: 20)
            if let refusal { throw BenchmarkError(.failed, refusal) }
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "\(openCount) of \(goal) streams began in time")
            }
        }
    }

    private func connect(_ port: UInt16, _ request: [UInt8]) throws(BenchmarkError) {
        do throws(Errno) {
            let socket = try StreamSocket.connect(to: .loopback(port: port))
            try Self.awaitConnected(socket.number)
            let sent = unsafe request.withUnsafeBytes {
                unsafe StreamSocket.write(socket.number, $0)
            }
            guard sent == .transferred(request.count) else { throw Errno(ECONNREFUSED) }
            let added = clinux_epoll_control(
                poller.number, EPOLL_CTL_ADD, socket.number,
                EPOLLIN.rawValue | EPOLLRDHUP.rawValue, UInt64(connections.count))
            guard added == 0 else { throw .current }
            connections.append(Connection(socket))
        } catch {
            throw BenchmarkError(
                .failed, "connection \(connections.count + 1) to port \(port): \(error)")
        }
    }

    /// On loopback a connect is over at once, unless the backlog is full.
    private static func awaitConnected(_ socket: CInt) throws(Errno) {
        var entry = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        guard unsafe poll(&entry, 1, 5000) == 1 else { throw Errno(ETIMEDOUT) }
        if let error = StreamSocket.pendingError(of: socket) { throw error }
    }

    /// Closes with a reset, which leaves no port waiting.
    func closeAll() {
        for case let connection? in connections { Self.resetOnClose(connection.socket.number) }
        connections = []
        openCount = 0
    }

    private static func resetOnClose(_ socket: CInt) {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        let size = socklen_t(MemoryLayout<Glibc.linger>.size)
        _ = unsafe setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, size)
    }

    // MARK: - Reading

    /// Begins a new tally.
    func beginTally(from: MonotonicTime, until: MonotonicTime) {
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
            readOnce(Int(truncatingIfNeeded: tag))
        }
    }

    private func readOnce(_ index: Int) {
        guard let connection = connections[index] else { return }
        switch unsafe StreamSocket.read(connection.socket.number, into: buffer) {
        case .transferred(let count):
            tally.bytes += count
            let fresh = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
            unsafe take(fresh, connection)
            if connection.carry.count > Self.carryBytesMax { end(index) }
        case .wouldBlock: break
        case .endOfFile, .failed: end(index)
        }
    }

    private func end(_ index: Int) {
        if connections[index]?.hasHead == true {
            openCount -= 1
        } else {
            refusal = refusal ?? "a connection was closed before its stream began"
        }
        tally.ended += 1
        connections[index] = nil
    }

    private func take(_ fresh: UnsafeRawBufferPointer, _ connection: Connection) {
        if connection.hasHead, connection.carry.isEmpty {
            let used = unsafe scan(fresh)
            if used < fresh.count { connection.carry = unsafe Array(fresh[used...]) }
            return
        }
        unsafe connection.carry.append(contentsOf: fresh)
        if !connection.hasHead { takeHead(connection) }
        guard connection.hasHead else { return }
        let used = unsafe connection.carry.withUnsafeBytes { unsafe scan($0) }
        connection.carry.removeFirst(used)
    }

    private func takeHead(_ connection: Connection) {
        let received = connection.carry
        let separator = Array("\r\n\r\n".utf8)
        var end = 0
        while end + 4 <= received.count, Array(received[end..<(end + 4)]) != separator { end += 1 }
        guard end + 4 <= received.count else { return }
        let text = String(decoding: received[..<end], as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 200 "), !text.lowercased().contains("chunked") else {
            refusal = refusal ?? "no stream, but: \(String(decoding: received, as: UTF8.self))"
            return
        }
        connection.carry.removeFirst(end + 4)
        connection.hasHead = true
        openCount += 1
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
