// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import PosixIO

/// A program that runs beside this one.
///
/// Threads: any. A thread of its own spawns it and waits for its end: the kernel sends the signal
/// for a parent's death when the thread that spawned the child ends, not the process. So the
/// program ends with this process, however that ends. Needs `setpriv` (util-linux) in the path.
package final class ChildProcess: Sendable {
    /// How a program ended.
    package enum End: Sendable, Hashable, CustomStringConvertible {
        case exited(CInt)
        case signalled(CInt)
        /// There is no such program, or no memory for it.
        case neverStarted(Errno)

        package var description: String {
            switch self {
            case .exited(let code): "exit code \(code)"
            case .signalled(let number): "signal \(number)"
            case .neverStarted(let error): "not started: \(error)"
            }
        }
    }

    private enum State: Sendable {
        case starting
        case running(pid_t)
        case ended(End)
    }

    private let state = Lock(State.starting)
    private let keeper: NamedThread

    /// Starts `command`, looked up in the path, with both outputs appended to the file `output`.
    package init(_ command: [String], output: String) {
        let state = self.state
        keeper = NamedThread("child-keeper") {
            let id: pid_t
            switch Self.spawn(["setpriv", "--pdeathsig", "KILL"] + command, output: output) {
            case .success(let started): id = started
            case .failure(let error):
                state.withLock { $0 = .ended(.neverStarted(error)) }
                return
            }
            state.withLock { $0 = .running(id) }
            Self.wait(for: id, WEXITED | WNOWAIT)
            // The number stays taken until it is reaped, so no signal can reach a stranger.
            state.withLock { $0 = .ended(Self.reap(id)) }
        }
    }

    /// `nil` while it starts and where it has ended.
    package var id: CInt? {
        state.withLock { if case .running(let id) = $0 { id } else { nil } }
    }

    /// How it ended; `nil` while it runs.
    package var end: End? {
        state.withLock { if case .ended(let end) = $0 { end } else { nil } }
    }

    package var hasEnded: Bool { end != nil }

    /// Waits for its end; `nil` where it still runs after `limit`.
    package func waitForEnd(within limit: Duration) -> End? {
        keeper.join(within: limit) ? end : nil
    }

    /// Ends it with SIGKILL and waits until it is gone. Does nothing where it is gone.
    package func kill() {
        // A child that is only just starting has no number yet.
        while !hasEnded, !send(SIGKILL) { sched_yield() }
        keeper.join()
    }

    /// Stops it with SIGSTOP: its sockets stay open and take bytes, and nobody answers.
    package func pause() { send(SIGSTOP, thenAwait: WSTOPPED) }

    package func resume() { send(SIGCONT, thenAwait: WCONTINUED) }

    /// Sends a signal; false where it has ended, or has yet to start.
    @discardableResult
    package func send(_ signal: CInt) -> Bool { send(signal, thenAwait: nil) }

    @discardableResult
    private func send(_ signal: CInt, thenAwait change: CInt?) -> Bool {
        let id: pid_t? = state.withLock {
            guard case .running(let id) = $0, Glibc.kill(id, signal) == 0 else { return nil }
            return id
        }
        guard let id else { return false }
        if let change { Self.wait(for: id, change) }
        return true
    }

    private static func wait(for id: pid_t, _ what: CInt) {
        var info = unsafe siginfo_t()
        while unsafe waitid(P_PID, id_t(id), &info, what) != 0, errno == EINTR {}
    }

    private static func reap(_ id: pid_t) -> End {
        var status: CInt = 0
        while unsafe waitpid(id, &status, 0) < 0, errno == EINTR {}
        return clinux_wait_status_exited(status) != 0
            ? .exited(clinux_wait_status_exit_code(status))
            : .signalled(clinux_wait_status_signal(status))
    }

    private static func spawn(_ command: [String], output: String) -> Result<pid_t, Errno> {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(
            &actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // Shells start what runs in the background with SIGINT ignored, and that is inherited.
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe sigaddset(&signals, SIGINT)
        unsafe sigaddset(&signals, SIGQUIT)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        unsafe posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe arguments.indices { unsafe free(arguments[index]) }
        }
        var id = pid_t()
        let status = unsafe posix_spawnp(
            &id, command[0], &actions, &attributes, &arguments, environ)
        return status == 0 ? .success(id) : .failure(Errno(status))
    }
}
