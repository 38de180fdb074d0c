// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// Wakes one thread that waits.
///
/// Threads: any number may signal, one waits. Signals that come while nobody waits become one.
package final class WakeSignal: Sendable {
    private let descriptor: OwnedDescriptor

    package init() {
        let number = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        precondition(number >= 0, "eventfd: \(Errno.current)")
        descriptor = OwnedDescriptor(adopting: number)
    }

    package func signal() {
        var one: UInt64 = 1
        // It fails only where the counter is full, and then there is a signal.
        _ = unsafe write(descriptor.number, &one, 8)
    }

    /// Waits for a signal, at most `limit`, for ever where that is `nil`; false where none came.
    package func wait(within limit: Duration? = nil) -> Bool {
        var poll = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
        let milliseconds = limit.map { Int32(clamping: max(0, $0.wholeMilliseconds)) } ?? -1
        guard unsafe Glibc.poll(&poll, 1, milliseconds) == 1 else { return false }
        var count: UInt64 = 0
        return unsafe read(descriptor.number, &count, 8) == 8
    }
}

extension NamedThread {
    /// Gives the calling thread, and those it makes from here on, less of a busy processor.
    ///
    /// - Parameter niceness: 1 to 19; Linux has one for each thread (setpriority(2)).
    package static func yieldToOthers(niceness: Int32) throws(Errno) {
        let target = __priority_which_t(PRIO_PROCESS.rawValue)
        guard setpriority(target, 0, niceness) == 0 else { throw .current }
    }
}
