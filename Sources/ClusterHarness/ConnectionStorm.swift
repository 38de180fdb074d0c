// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import HTTP1Wire
package import PosixIO

/// Many clients that want a stream each, at a pace that does not wait for answers, driven by one
/// thread. Those who get one keep it and read nothing of it; those who are refused go away.
///
/// Threads: any.
package final class ConnectionStorm: Sendable {
    /// What has become of the attempts so far.
    package struct Tally: Sendable, Equatable {
        package var attempts = 0
        /// Streams that were opened, over all time.
        package var admitted = 0
        /// Answers of other statuses, by status.
        package var refused: [Int: Int] = [:]
        /// Attempts that ended without an answer.
        package var lost = 0
        /// Streams that are open, and the most there ever were at once.
        package var open = 0
        package var mostOpen = 0
        /// Those that are open, by the target's port.
        package var openAt: [UInt16: Int] = [:]
        /// The last answer that was no stream, as it came.
        package var lastRefusal = ""
        /// When the last stream was opened.
        package var lastAdmission: MonotonicTime?

        package var answered: Int { admitted + lost + refused.values.reduce(0, +) }
        package var areAllAnswered: Bool { answered == attempts }
    }

    private final class Client {
        let descriptor: OwnedDescriptor
        let port: UInt16
        var head = HTTP1ResponseParser(method: .get)
        var unread: [UInt8] = []
        var hasSent = false
        var isStreaming = false

        init(_ descriptor: consuming OwnedDescriptor, port: UInt16) {
            self.descriptor = descriptor
            self.port = port
        }
    }

    private struct Wish {
        let count: Int
        let targets: [UInt16]
        let over: Duration
        let began: MonotonicTime
        var made = 0

        /// How many should have been made by now.
        func due(at now: MonotonicTime) -> Int {
            guard over > .zero else { return count }
            return min(count, Int((now - began).inSeconds / over.inSeconds * Double(count)))
        }
    }

    private final class Shared: Sendable {
        let tally = Lock(Tally())
        let wishes = Lock<[Wish]>([])
        let closing = Lock(0)
        let isStopping = Lock(false)
    }

    private let shared: Shared
    private let thread: NamedThread

    private static let pollMilliseconds: CInt = 2

    package init(path: String) {
        let shared = Shared()
        self.shared = shared
        var request = ByteWriter()
        HTTP1RequestEncoder.append(
            method: .get, target: path, host: "127.0.0.1", headers: HTTPHeaders(), to: &request)
        let bytes = request.bytes
        thread = NamedThread("storm") { Self.run(shared, bytes) }
    }

    deinit {
        shared.isStopping.withLock { $0 = true }
        thread.join()
    }

    package var tally: Tally { shared.tally.withLock { $0 } }

    /// Has `count` clients come, evenly over a time, to the targets in turn.
    package func attempt(_ count: Int, at targets: [UInt16], over time: Duration = .zero) {
        shared.tally.withLock { $0.attempts += count }
        shared.wishes.withLock {
            $0.append(Wish(count: count, targets: targets, over: time, began: .now))
        }
    }

    /// Has so many of those with a stream go away.
    package func close(_ count: Int) { shared.closing.withLock { $0 += count } }

    // MARK: - The thread

    private static func run(_ shared: Shared, _ request: [UInt8]) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { unsafe buffer.deallocate() }
        var clients: [Client] = []
        var tally = Tally()
        while !shared.isStopping.withLock({ $0 }) {
            connect(shared, &clients, &tally)
            leave(shared, &clients, &tally)
            var entries = clients.map { client in
                pollfd(
                    fd: client.descriptor.number,
                    events: Int16(client.hasSent ? POLLIN : POLLOUT), revents: 0)
            }
            _ = unsafe poll(&entries, nfds_t(entries.count), pollMilliseconds)
            var isGone = [Bool](repeating: false, count: clients.count)
            for index in clients.indices where entries[index].revents != 0 {
                let client = clients[index]
                isGone[index] =
                    client.hasSent
                    ? unsafe !receive(client, buffer, &tally) : !send(client, request, &tally)
            }
            if isGone.contains(true) {
                clients = zip(clients, isGone).filter { !$0.1 }.map(\.0)
            }
            shared.tally.withLock { known in
                tally.attempts = known.attempts
                known = tally
            }
        }
    }

    private static func connect(_ shared: Shared, _ clients: inout [Client], _ tally: inout Tally) {
        let now = MonotonicTime.now
        let targets: [UInt16] = shared.wishes.withLock { wishes in
            var targets: [UInt16] = []
            for index in wishes.indices {
                let due = wishes[index].due(at: now)
                while wishes[index].made < due {
                    targets.append(
                        wishes[index].targets[wishes[index].made % wishes[index].targets.count])
                    wishes[index].made += 1
                }
            }
            wishes.removeAll { $0.made == $0.count }
            return targets
        }
        for port in targets {
            do throws(Errno) {
                clients.append(
                    Client(try StreamSocket.connect(to: .loopback(port: port)), port: port))
            } catch { tally.lost += 1 }
        }
    }

    private static func leave(_ shared: Shared, _ clients: inout [Client], _ tally: inout Tally) {
        let count = shared.closing.withLock { count in
            defer { count = 0 }
            return count
        }
        guard count > 0 else { return }
        var left = count
        clients.removeAll { client in
            guard left > 0, client.isStreaming else { return false }
            left -= 1
            tally.open -= 1
            tally.openAt[client.port, default: 0] -= 1
            return true
        }
    }

    private static func send(_ client: Client, _ request: [UInt8], _ tally: inout Tally) -> Bool {
        let number = client.descriptor.number
        let sent =
            StreamSocket.pendingError(of: number) == nil
            ? unsafe request.withUnsafeBytes { unsafe StreamSocket.write(number, $0) } : .endOfFile
        client.hasSent = true
        guard sent == .transferred(request.count) else {
            tally.lost += 1
            return false
        }
        return true
    }

    /// False where the client has gone.
    private static func receive(
        _ client: Client, _ buffer: UnsafeMutableRawBufferPointer, _ tally: inout Tally
    ) -> Bool {
        switch unsafe StreamSocket.read(client.descriptor.number, into: buffer) {
        case .wouldBlock: return true
        case .endOfFile, .failed:
            guard client.isStreaming else {
                tally.lost += 1
                return false
            }
            tally.open -= 1
            tally.openAt[client.port, default: 0] -= 1
            return false
        case .transferred(let count):
            guard !client.isStreaming else { return true }
            unsafe client.unread.append(contentsOf: buffer[..<count])
            let bytes = client.unread
            guard let outcome = try? client.head.parse(bytes.span) else {
                tally.lost += 1
                return false
            }
            guard case .head(let answer, _) = outcome else { return true }
            client.unread = []
            guard answer.status == 200 else {
                tally.refused[answer.status, default: 0] += 1
                tally.lastRefusal = String(decoding: bytes, as: UTF8.self)
                return false
            }
            client.isStreaming = true
            tally.admitted += 1
            tally.open += 1
            tally.openAt[client.port, default: 0] += 1
            tally.mostOpen = max(tally.mostOpen, tally.open)
            tally.lastAdmission = .now
            return true
        }
    }
}
