// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// A thread with a name that tools show, for work that blocks.
///
/// What can block (librdkafka's poll, name resolution, files) runs on one of these and never on
/// an event loop or on Swift's cooperative pool.
package final class NamedThread: Sendable {
    private let finished = Lock(false)
    private let wake: OwnedDescriptor

    /// Starts a thread. `name` is cut to the kernel's 15 bytes.
    package init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        let number = eventfd(0, Int32(EFD_CLOEXEC))
        precondition(number >= 0, "eventfd: \(Errno.current)")
        wake = OwnedDescriptor(adopting: number)
        let start = Start(name: String(name.prefix(15)), body: body, thread: self)
        var id = pthread_t()
        let status = unsafe pthread_create(
            &id, nil,
            { argument in
                let start = unsafe Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                unsafe clinux_set_thread_name(start.name)
                start.body()
                start.thread.finish()
                return nil
            }, Unmanaged.passRetained(start).toOpaque())
        precondition(status == 0, "pthread_create: \(Errno(status))")
        pthread_detach(id)
    }

    /// Waits until the body has returned. Any number of threads may wait.
    package func join() {
        while !finished.withLock({ $0 }) {
            var poll = pollfd(fd: wake.number, events: Int16(POLLIN), revents: 0)
            _ = unsafe Glibc.poll(&poll, 1, -1)
        }
    }

    /// Waits at most `limit`; true where the body has returned.
    package func join(within limit: Duration) -> Bool {
        let deadline = MonotonicTime.now + limit
        while !finished.withLock({ $0 }) {
            let left = deadline - MonotonicTime.now
            guard left > .zero else { return false }
            var poll = pollfd(fd: wake.number, events: Int16(POLLIN), revents: 0)
            _ = unsafe Glibc.poll(&poll, 1, Int32(clamping: left.wholeMilliseconds + 1))
        }
        return true
    }

    private func finish() {
        finished.withLock { $0 = true }
        var one: UInt64 = 1
        _ = unsafe write(wake.number, &one, 8)
    }

    private final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        let thread: NamedThread

        init(name: String, body: @escaping @Sendable () -> Void, thread: NamedThread) {
            self.name = name
            self.body = body
            self.thread = thread
        }
    }
}
