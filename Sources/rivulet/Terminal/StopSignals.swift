// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import Synchronization

/// SIGINT and SIGTERM as something that a wait can watch.
///
/// Threads: made on the first thread before there is any other, because threads inherit which
/// signals are blocked; then any thread waits. A thread of its own reads the signals. A second
/// signal, or `grace` without an end after the first, ends the process at once, so nobody is left
/// with a program that does not stop.
final class StopSignals: Sendable {
    /// Why a wait came back.
    enum Wake: Sendable, Equatable {
        /// At least one descriptor is ready.
        case ready
        case deadlinePassed
        case stopped
    }

    private let signals: OwnedDescriptor
    /// Readable from the first signal on.
    private let mark: OwnedDescriptor
    // Release and acquire are not needed: the mark's read and write order what a waiter sees.
    private let number = Atomic<CInt>(0)

    /// - Parameter grace: How long a command may take to end after the first signal.
    init(grace: Duration) throws(ProgramError) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        unsafe sigaddset(&set, SIGINT)
        unsafe sigaddset(&set, SIGTERM)
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        let signalNumber = unsafe signalfd(-1, &set, CInt(SFD_CLOEXEC))
        let markNumber = eventfd(0, CInt(EFD_CLOEXEC))
        guard signalNumber >= 0, markNumber >= 0 else {
            throw ProgramError(.transferFailed, "cannot watch for signals: \(Errno.current)")
        }
        signals = OwnedDescriptor(adopting: signalNumber)
        mark = OwnedDescriptor(adopting: markNumber)
        _ = NamedThread("signals") { self.watch(grace: grace) }
    }

    /// The first signal that came, or `nil`.
    var received: CInt? {
        let number = number.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }

    var isStopped: Bool { received != nil }

    /// How a command ends that a signal cut short.
    var exitStatus: ExitStatus { received == SIGTERM ? .terminated : .interrupted }

    /// The error for a command that has to give up because of the signal.
    func cutShort(_ what: String) -> ProgramError {
        ProgramError(received == SIGTERM ? .terminated : .interrupted, what)
    }

    /// Waits until the deadline; true where a signal came first or before.
    func sleep(until deadline: MonotonicTime) -> Bool {
        var none: [pollfd] = []
        return wait(on: &none, until: deadline) == .stopped
    }

    func sleep(for duration: Duration) -> Bool { sleep(until: MonotonicTime.now + duration) }

    /// Waits until one of `descriptors` is ready; their `revents` say which.
    func wait(on descriptors: inout [pollfd], until deadline: MonotonicTime?) -> Wake {
        descriptors.append(pollfd(fd: mark.number, events: Int16(POLLIN), revents: 0))
        defer { descriptors.removeLast() }
        while true {
            var limit: CInt = -1
            if let deadline {
                let left = (deadline - .now).wholeNanoseconds
                // Rounded up, so that it does not wake just before the deadline again and again.
                limit = CInt(clamping: (max(0, left) + 999_999) / 1_000_000)
            }
            let count = unsafe poll(&descriptors, nfds_t(descriptors.count), limit)
            if count < 0 { continue }
            if isStopped { return .stopped }
            if count > 0 { return .ready }
            if let deadline, deadline <= .now { return .deadlinePassed }
        }
    }

    // MARK: - The thread

    private func watch(grace: Duration) {
        let first = next()
        number.store(first, ordering: .relaxed)
        var one: UInt64 = 1
        _ = unsafe write(mark.number, &one, 8)
        var entry = pollfd(fd: signals.number, events: Int16(POLLIN), revents: 0)
        var left = CInt(clamping: grace.wholeMilliseconds)
        let deadline = MonotonicTime.now + grace
        while unsafe poll(&entry, 1, left) < 0, errno == EINTR {
            left = CInt(clamping: max(0, (deadline - .now).wholeMilliseconds))
        }
        _exit(128 + first)
    }

    private func next() -> CInt {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        while unsafe read(signals.number, &info, size) != size {}
        return CInt(clamping: info.ssi_signo)
    }
}
