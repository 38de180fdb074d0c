// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Synchronization

/// Passes connections on from one loopback port to another: a fixed address for a server that
/// chooses its own, one that comes late, and a network that can be made bad.
///
/// Threads: a thread of its own, until the value goes; ``condition`` may be set by any.
package final class LoopbackRelay: Sendable {
    /// How the network between both sides is.
    package enum Condition: Sendable, Equatable {
        case open
        /// What is sent arrives so much later, each way; nothing is lost.
        case slow(Duration)
        /// Connections are taken and stay, and nothing arrives.
        case silent
        /// Connections are closed, and new ones are as soon as they come.
        case cut
    }

    private let shared = Shared()
    private let thread: NamedThread

    private final class Shared: Sendable {
        // Relaxed: a lone flag that nothing else is inferred from.
        let isStopping = Atomic<Bool>(false)
        let condition = Lock(Condition.open)
    }

    package var condition: Condition {
        get { shared.condition.withLock { $0 } }
        set { shared.condition.withLock { $0 = newValue } }
    }

    /// Two sockets, each passed on to the other.
    private struct Pair: ~Copyable {
        let near: OwnedDescriptor
        let far: OwnedDescriptor
    }

    /// Both ends of a passed connection, and what each has yet to take.
    private final class Link {
        let pair: Pair
        var toFar = Waiting()
        var toNear = Waiting()

        init(near: consuming OwnedDescriptor, far: consuming OwnedDescriptor) {
            pair = Pair(near: near, far: far)
        }

        /// Reads and writes what can be; false where a side has closed.
        func pass(late delay: Duration, at now: MonotonicTime) -> Bool {
            Self.move(from: pair.near.number, to: pair.far.number, &toFar, delay, now)
                && Self.move(from: pair.far.number, to: pair.near.number, &toNear, delay, now)
        }

        private static func move(
            from: CInt, to: CInt, _ waiting: inout Waiting, _ delay: Duration, _ now: MonotonicTime
        ) -> Bool {
            if waiting.hasRoom {
                var buffer = [UInt8](repeating: 0, count: 65_536)
                let outcome = unsafe buffer.withUnsafeMutableBytes {
                    unsafe StreamSocket.read(from, into: $0)
                }
                switch outcome {
                case .transferred(let count):
                    waiting.append(Array(buffer.prefix(count)), due: now + delay)
                case .wouldBlock: break
                case .endOfFile, .failed: return false
                }
            }
            while let piece = waiting.next(at: now) {
                let outcome = unsafe piece.withUnsafeBytes { unsafe StreamSocket.write(to, $0) }
                switch outcome {
                case .transferred(let count): waiting.removeFirst(count)
                // A connect that is under way takes nothing yet.
                case .wouldBlock: return true
                case .failed(let error) where error.code == ENOTCONN: return true
                case .endOfFile, .failed: return false
                }
            }
            return true
        }
    }

    /// Bytes on their way, each piece with its time.
    private struct Waiting {
        private var pieces: [(bytes: ArraySlice<UInt8>, due: MonotonicTime)] = []

        /// As many pieces as a slow network may hold.
        var hasRoom: Bool { pieces.count < 64 }
        /// When the next piece may go.
        var due: MonotonicTime? { pieces.first?.due }

        mutating func append(_ bytes: [UInt8], due: MonotonicTime) {
            pieces.append((bytes[...], due))
        }

        func next(at now: MonotonicTime) -> ArraySlice<UInt8>? {
            pieces.first.flatMap { $0.due <= now ? $0.bytes : nil }
        }

        mutating func removeFirst(_ count: Int) {
            pieces[0].bytes = pieces[0].bytes.dropFirst(count)
            if pieces[0].bytes.isEmpty { pieces.removeFirst() }
        }
    }

    package init(from port: UInt16, to target: UInt16) throws(ClusterHarnessError) {
        let listener: OwnedDescriptor
        do throws(Errno) {
            listener = try StreamSocket.listen(
                on: .loopback(port: port), backlog: 64, sharesPort: false)
        } catch {
            throw ClusterHarnessError(.noResource, "port \(port): \(error)")
        }
        let shared = shared
        let owned = Listener(listener)
        thread = NamedThread("relay") {
            var links: [Link] = []
            while !shared.isStopping.load(ordering: .relaxed) {
                let condition = shared.condition.withLock { $0 }
                while let near = try? StreamSocket.accept(from: owned.descriptor.number) {
                    guard let far = try? StreamSocket.connect(to: .loopback(port: target))
                    else { break }
                    links.append(Link(near: near.takeDescriptor(), far: far))
                }
                let now = MonotonicTime.now
                switch condition {
                case .open: links.removeAll { !$0.pass(late: .zero, at: now) }
                case .slow(let delay): links.removeAll { !$0.pass(late: delay, at: now) }
                case .silent: break
                case .cut: links.removeAll()
                }
                Self.await(owned.descriptor.number, condition == .silent ? [] : links, at: now)
            }
        }
    }

    deinit {
        shared.isStopping.store(true, ordering: .relaxed)
        thread.join()
    }

    private final class Listener: Sendable {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    private static func await(_ listener: CInt, _ links: [Link], at now: MonotonicTime) {
        var limit: Int64 = 50
        var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
        for link in links {
            let isDue = [link.toNear, link.toFar].map { $0.due.map { $0 <= now } ?? false }
            let near = (link.toFar.hasRoom ? POLLIN : 0) | (isDue[0] ? POLLOUT : 0)
            let far = (link.toNear.hasRoom ? POLLIN : 0) | (isDue[1] ? POLLOUT : 0)
            for due in [link.toNear.due, link.toFar.due] {
                if let due, due > now { limit = min(limit, (due - now).wholeMilliseconds + 1) }
            }
            entries.append(pollfd(fd: link.pair.near.number, events: Int16(near), revents: 0))
            entries.append(pollfd(fd: link.pair.far.number, events: Int16(far), revents: 0))
        }
        _ = unsafe poll(&entries, nfds_t(entries.count), CInt(limit))
    }
}
