// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Synchronization

/// Passes connections on from one loopback port to another: a fixed address for a server that
/// chooses its own, and one that comes late.
///
/// Threads: a thread of its own, until the value goes.
package final class LoopbackRelay: Sendable {
    private let isStopping = Stop()
    private let thread: NamedThread

    private final class Stop: Sendable {
        // Relaxed: a lone flag that nothing else is inferred from.
        let flag = Atomic<Bool>(false)
    }

    /// Two sockets, each passed on to the other.
    private struct Pair: ~Copyable {
        let near: OwnedDescriptor
        let far: OwnedDescriptor
    }

    /// Both ends of a passed connection, and what each has yet to take.
    private final class Link {
        let pair: Pair
        var toFar: [UInt8] = []
        var toNear: [UInt8] = []

        init(near: consuming OwnedDescriptor, far: consuming OwnedDescriptor) {
            pair = Pair(near: near, far: far)
        }

        /// Reads and writes what can be; false where a side has closed.
        func pass() -> Bool {
            Self.move(from: pair.near.number, to: pair.far.number, &toFar)
                && Self.move(from: pair.far.number, to: pair.near.number, &toNear)
        }

        private static func move(from: CInt, to: CInt, _ waiting: inout [UInt8]) -> Bool {
            if waiting.isEmpty {
                var buffer = [UInt8](repeating: 0, count: 65_536)
                let outcome = unsafe buffer.withUnsafeMutableBytes {
                    unsafe StreamSocket.read(from, into: $0)
                }
                switch outcome {
                case .transferred(let count): waiting = Array(buffer.prefix(count))
                case .wouldBlock: return true
                case .endOfFile, .failed: return false
                }
            }
            let outcome = unsafe waiting.withUnsafeBytes { unsafe StreamSocket.write(to, $0) }
            switch outcome {
            case .transferred(let count): waiting.removeFirst(count)
            // A connect that is under way takes nothing yet.
            case .wouldBlock: break
            case .failed(let error) where error.code == ENOTCONN: break
            case .endOfFile, .failed: return false
            }
            return true
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
        let stop = isStopping
        let owned = Listener(listener)
        thread = NamedThread("relay") {
            var links: [Link] = []
            while !stop.flag.load(ordering: .relaxed) {
                while let near = try? StreamSocket.accept(from: owned.descriptor.number) {
                    guard let far = try? StreamSocket.connect(to: .loopback(port: target))
                    else { break }
                    links.append(Link(near: near.takeDescriptor(), far: far))
                }
                links.removeAll { !$0.pass() }
                Self.await(owned.descriptor.number, links)
            }
        }
    }

    deinit {
        isStopping.flag.store(true, ordering: .relaxed)
        thread.join()
    }

    private final class Listener: Sendable {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    private static func await(_ listener: CInt, _ links: [Link]) {
        var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
        for link in links {
            // What waits for one side is sent before more is read from the other.
            let near = (link.toFar.isEmpty ? POLLIN : 0) | (link.toNear.isEmpty ? 0 : POLLOUT)
            let far = (link.toNear.isEmpty ? POLLIN : 0) | (link.toFar.isEmpty ? 0 : POLLOUT)
            entries.append(pollfd(fd: link.pair.near.number, events: Int16(near), revents: 0))
            entries.append(pollfd(fd: link.pair.far.number, events: Int16(far), revents: 0))
        }
        _ = unsafe poll(&entries, nfds_t(entries.count), 50)
    }
}
