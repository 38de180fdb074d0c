// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import Glibc
import Observability
package import PosixIO

/// Where subscribers get their streams.
package struct LoadTarget: Sendable, Equatable {
    package var address: SocketAddress
    /// For the `Host` header.
    package var authority: String
    /// Path and query.
    package var path: String
    /// Its part of the connections, by those of all.
    package var weight: Int

    package init(address: SocketAddress, authority: String, path: String, weight: Int = 1) {
        self.address = address
        self.authority = authority
        self.path = path
        self.weight = weight
    }
}

/// Many subscribers on the calling thread.
///
/// A subscriber is 64 bytes and a socket: what has come of an event that is not complete is kept only
/// while that is so. One whose stream ends comes back after the `retry:` that it was told, with the
/// last ID it had.
@safe
package final class LoadWorker {
    package struct Settings: Sendable {
        package var targets: [LoadTarget]
        package var connections: Int
        /// Which of all subscribers this worker's first is.
        package var first: Int
        /// Attempts to connect in a second.
        package var connectRate: Double
        package var run: String

        package init(
            targets: [LoadTarget], connections: Int, first: Int, connectRate: Double, run: String
        ) {
            self.targets = targets
            self.connections = connections
            self.first = first
            self.connectRate = connectRate
            self.run = run
        }
    }

    private enum Phase: UInt8 { case idle, connecting, asking, streaming }

    private struct Subscriber {
        var socket: CInt = -1
        var phase = Phase.idle
        var target: UInt16 = 0
        var received: UInt32 = 0
        var retryMilliseconds: UInt32 = 2000
        var milliseconds: UInt64 = 0
        var sequence: UInt64 = 0
        /// When it comes back while idle; when it began to connect while not.
        var time: UInt64 = 0
    }

    private let settings: Settings
    private let scanner: LoadScanner
    private let requests: [[UInt8]]
    private var subscribers: [Subscriber]
    private var carries: [Int: [UInt8]] = [:]
    /// Those that come back, by when, soonest first.
    private var returning: [(time: UInt64, index: Int)] = []
    private var tick: LoadTick
    private var started = 0
    private var streaming = 0
    private var beganAt = MonotonicTime.now
    private var tickBegan = MonotonicTime.now
    private var cpuAtTick = LoadWorker.cpuTime
    private let poller: OwnedDescriptor
    private let ready: UnsafeMutablePointer<epoll_event>
    private let buffer: UnsafeMutableRawBufferPointer
    /// What was wrong with the first answer that was no stream.
    package private(set) var refusal: String?

    private static let eventsPerWait = 1024
    private static let bufferBytes = 256 << 10
    /// No event of a load, and no response head, comes near this.
    private static let carryBytesMax = 4 << 20
    /// What is shown of an answer that was no stream.
    private static let refusalBytesMax = 200
    /// How long a refused subscriber waits where nothing else is said.
    private static let refusedMilliseconds: UInt64 = 1000

    package init(_ settings: Settings) throws(Errno) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw .current }
        poller = OwnedDescriptor(adopting: number)
        self.settings = settings
        scanner = LoadScanner(prefix: LoadEvent.prefix(run: settings.run))
        requests = settings.targets.map {
            Array(
                ("GET \($0.path) HTTP/1.1\r\nHost: \($0.authority)\r\n"
                    + "Accept: text/event-stream\r\n").utf8)
        }
        tick = LoadTick(targets: settings.targets.count)
        subscribers = []
        subscribers.reserveCapacity(settings.connections)
        let total = max(1, settings.targets.reduce(0) { $0 + $1.weight })
        for index in 0..<settings.connections {
            var subscriber = Subscriber()
            // Every target has its part of any run of neighbours.
            var place = (settings.first + index) % total
            var target = 0
            while place >= settings.targets[target].weight {
                place -= settings.targets[target].weight
                target += 1
            }
            subscriber.target = UInt16(target)
            subscribers.append(subscriber)
        }
        unsafe ready = .allocate(capacity: Self.eventsPerWait)
        unsafe buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
    }

    deinit {
        for subscriber in subscribers where subscriber.socket >= 0 { close(subscriber.socket) }
        unsafe ready.deallocate()
        unsafe buffer.deallocate()
    }

    package var streamingCount: Int { streaming }

    /// How many subscribers have had how many of the run's events.
    package var receivedCounts: [UInt32: Int] {
        subscribers.reduce(into: [:]) { $0[$1.received, default: 0] += 1 }
    }

    /// What has happened since this was last asked.
    package func takeTick() -> LoadTick {
        let now = MonotonicTime.now
        let cpu = Self.cpuTime
        let span = max(1, (now - tickBegan).wholeNanoseconds)
        var taken = tick
        taken[.streaming] = UInt64(streaming)
        taken[.busy] = UInt64(max(0, (cpu - cpuAtTick) * 1000 / span))
        tick = LoadTick(targets: settings.targets.count)
        (tickBegan, cpuAtTick) = (now, cpu)
        return taken
    }

    private static var cpuTime: Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    // MARK: - One turn

    /// Connects those who are due, and reads what has come; waits for that no longer than so many
    /// milliseconds.
    package func turn(milliseconds: CInt) {
        let now = MonotonicTime.now
        connectDue(now)
        let count = unsafe epoll_wait(poller.number, ready, CInt(Self.eventsPerWait), milliseconds)
        guard count > 0 else { return }
        for place in 0..<Int(count) {
            let index = unsafe Int(truncatingIfNeeded: ready[place].data.u64)
            switch subscribers[index].phase {
            case .idle: break
            case .connecting: ask(index)
            case .asking, .streaming: read(index)
            }
        }
    }

    private func connectDue(_ now: MonotonicTime) {
        let due = min(
            settings.connections,
            Int((now - beganAt).inSeconds * settings.connectRate) + 1)
        while started < due {
            connect(started)
            started += 1
        }
        while let first = returning.first, first.time <= now.nanoseconds {
            returning.removeFirst()
            if subscribers[first.index].phase == .idle { connect(first.index) }
        }
    }

    private func connect(_ index: Int) {
        let target = settings.targets[Int(subscribers[index].target)]
        do throws(Errno) {
            let socket = try StreamSocket.connect(
                to: target.address, from: source(of: index, to: target.address))
            let added = clinux_epoll_control(
                poller.number, EPOLL_CTL_ADD, socket.number, EPOLLOUT.rawValue, UInt64(index))
            guard added == 0 else { throw .current }
            subscribers[index].socket = socket.release()
            subscribers[index].phase = .connecting
            subscribers[index].time = MonotonicTime.now.nanoseconds
        } catch {
            refuse(index, "connecting to \(target.address): \(error)")
        }
    }

    /// An address of one's own for every 25,000 of those who connect to this machine: one address
    /// has no more ports for one target.
    private func source(of index: Int, to target: SocketAddress) -> SocketAddress? {
        guard case .ipv4(let address, _) = target, address >> 24 == 127 else { return nil }
        return .ipv4(0x7f00_0002 + UInt32((settings.first + index) / 25_000), port: 0)
    }

    private func ask(_ index: Int) {
        let subscriber = subscribers[index]
        if let error = StreamSocket.pendingError(of: subscriber.socket) {
            return refuse(
                index,
                "connecting to \(settings.targets[Int(subscriber.target)].address): \(error)")
        }
        var request = requests[Int(subscriber.target)]
        if subscriber.milliseconds > 0 {
            request += Array(
                "Last-Event-ID: \(subscriber.milliseconds)-\(subscriber.sequence)\r\n".utf8)
        }
        request += [13, 10]
        let sent = unsafe request.withUnsafeBytes {
            unsafe StreamSocket.write(subscriber.socket, $0)
        }
        // A new connection takes a request whole.
        guard sent == .transferred(request.count) else {
            return refuse(index, "a request was not taken")
        }
        subscribers[index].phase = .asking
        _ = clinux_epoll_control(
            poller.number, EPOLL_CTL_MOD, subscriber.socket,
            EPOLLIN.rawValue | EPOLLRDHUP.rawValue, UInt64(index))
    }

    private func read(_ index: Int) {
        switch unsafe StreamSocket.read(subscribers[index].socket, into: buffer) {
        case .wouldBlock: return
        case .endOfFile, .failed: return end(index)
        case .transferred(let count):
            tick[.bytes] += UInt64(count)
            let fresh = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
            if subscribers[index].phase == .asking {
                let held = unsafe (carries.removeValue(forKey: index) ?? []) + Array(fresh)
                readHead(index, held)
            } else if let carry = carries.removeValue(forKey: index) {
                let held = unsafe carry + Array(fresh)
                scan(index, held.span)
            } else {
                unsafe scan(index, Span(_unsafeBytes: fresh))
            }
            if let carry = carries[index], carry.count > Self.carryBytesMax { end(index) }
        }
    }

    private func readHead(_ index: Int, _ held: [UInt8]) {
        let end = Array("\r\n\r\n".utf8)
        guard let place = held.indices.first(where: { held[$0...].starts(with: end) }) else {
            carries[index] = held
            return
        }
        let head = String(decoding: held[..<place], as: UTF8.self)
        guard head.hasPrefix("HTTP/1.1 200"), !head.lowercased().contains("chunked") else {
            return refuse(index, head.prefix { $0 != "\r" && $0 != "\r\n" }.description)
        }
        subscribers[index].phase = .streaming
        streaming += 1
        tick[.opened] += 1
        tick.connect.record(MonotonicTime.now.nanoseconds - subscribers[index].time)
        let rest = Array(held[(place + 4)...])
        scan(index, rest.span)
    }

    private func scan(_ index: Int, _ bytes: borrowing Span<UInt8>) {
        var subscriber = subscribers[index]
        let now = Self.wallMicroseconds
        let used = scanner.scan(bytes) { found in
            switch found {
            case .event(let milliseconds, let sequence, let due):
                guard take(milliseconds, sequence, &subscriber) else { return }
                subscriber.received &+= 1
                tick[.delivered] += 1
                tick.byTarget[Int(subscriber.target)] += 1
                tick.latency.record((now - min(now, due)) * 1000)
                let appended = milliseconds * 1000
                tick.toHistory.record((appended - min(appended, due)) * 1000)
                tick.toClient.record((now - min(now, appended)) * 1000)
            case .other(let milliseconds, let sequence):
                if take(milliseconds, sequence, &subscriber) { tick[.others] += 1 }
            case .gap: tick[.gaps] += 1
            case .rateLimited: tick[.rateLimited] += 1
            case .retry(let milliseconds):
                subscriber.retryMilliseconds = UInt32(clamping: milliseconds)
            }
        }
        subscribers[index] = subscriber
        if used < bytes.count {
            let rest = bytes.extracting(used..<bytes.count)
            carries[index] = unsafe rest.withUnsafeBufferPointer { unsafe Array($0) }
        }
    }

    /// Moves the subscriber's place on; false where it had the event before.
    private func take(
        _ milliseconds: UInt64, _ sequence: UInt64, _ subscriber: inout Subscriber
    ) -> Bool {
        guard
            milliseconds > subscriber.milliseconds
                || (milliseconds == subscriber.milliseconds && sequence > subscriber.sequence)
        else {
            tick[.repeats] += 1
            return false
        }
        (subscriber.milliseconds, subscriber.sequence) = (milliseconds, sequence)
        return true
    }

    private static var wallMicroseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    }

    // MARK: - Ends

    private func end(_ index: Int) {
        if subscribers[index].phase == .streaming {
            streaming -= 1
            tick[.ended] += 1
            comeBack(index, after: UInt64(subscribers[index].retryMilliseconds))
        } else {
            refuse(index, "closed without an answer")
        }
    }

    private func refuse(_ index: Int, _ reason: String) {
        refusal = refusal ?? PeerText.display(reason, limit: Self.refusalBytesMax)
        tick[.refused] += 1
        comeBack(index, after: Self.refusedMilliseconds)
    }

    private func comeBack(_ index: Int, after milliseconds: UInt64) {
        if subscribers[index].socket >= 0 { close(subscribers[index].socket) }
        subscribers[index].socket = -1
        subscribers[index].phase = .idle
        carries[index] = nil
        let time = MonotonicTime.now.nanoseconds + milliseconds * 1_000_000
        // Nearly always the last: those who come back later than others are few.
        let place = returning.lastIndex { $0.time <= time }.map { $0 + 1 } ?? 0
        returning.insert((time, index), at: place)
    }
}
