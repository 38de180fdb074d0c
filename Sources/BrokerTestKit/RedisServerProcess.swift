// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// A redis-server of a test's own: on a free loopback port and a Unix socket, in a directory of
/// its own, keeping nothing on disk unless asked to.
///
/// Threads: any; calls that start or end the process belong to one test at a time. The process
/// dies with the value, and with this process however it ends. Needs `redis-server` and `setpriv`
/// (util-linux) in the path.
package final class RedisServerProcess: Sendable {
    package let host = "127.0.0.1"
    /// Stays the same over ``restart()``.
    package let port: UInt16
    package let socketPath: String
    private let directory: String
    private let arguments: [String]
    private let child = Lock<ChildProcess?>(nil)

    private static let startLimit: Duration = .seconds(20)
    /// Below the range that the kernel takes for outgoing connections, so that nothing takes the
    /// port while the server is down.
    private static let ports: Range<UInt16> = 20_000..<32_000

    /// Starts a server and waits until it answers.
    ///
    /// - Parameter arguments: Added to the command line, where they win: `["--appendonly", "yes"]`.
    package init(password: String? = nil, arguments: [String] = []) throws(RedisServerError) {
        var template = Array("/tmp/rivulet-redis-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else {
            throw RedisServerError("mkdtemp: \(Errno.current)")
        }
        directory = unsafe template.withUnsafeBufferPointer {
            unsafe String(cString: $0.baseAddress!)
        }
        socketPath = directory + "/redis.sock"
        port = try Self.freePort()
        self.arguments =
            [
                "--bind", host, "--port", "\(port)", "--unixsocket", socketPath,
                "--dir", directory, "--daemonize", "no", "--save", "", "--appendonly", "no",
            ] + (password.map { ["--requirepass", $0] } ?? []) + arguments
        try start()
    }

    deinit {
        kill()
        Self.removeTree(directory)
    }

    /// Starts the server again after ``kill()``, with the same port and arguments, and waits until
    /// it answers.
    package func start() throws(RedisServerError) {
        let child = ChildProcess(
            ["setpriv", "--pdeathsig", "KILL", "redis-server"] + arguments,
            output: directory + "/output.log")
        let previous = self.child.withLock { current in
            defer { current = child }
            return current
        }
        precondition(previous?.hasEnded ?? true, "the Redis server runs already")
        let limit = MonotonicTime.now + Self.startLimit
        while !answers(within: .milliseconds(500)) {
            guard !child.hasEnded else {
                throw RedisServerError("redis-server ended: \(lastOutput)")
            }
            guard MonotonicTime.now < limit else {
                kill()
                throw RedisServerError("redis-server does not answer: \(lastOutput)")
            }
            _ = poll(nil, 0, 5)
        }
    }

    /// Ends the server with SIGKILL and waits until it is gone. Does nothing where it is gone.
    package func kill() { child.withLock { $0 }?.kill() }

    package func restart() throws(RedisServerError) {
        kill()
        try start()
    }

    /// Stops the server with SIGSTOP: its sockets stay open and take bytes, and nobody answers.
    package func pause() { child.withLock { $0 }?.pause() }

    package func resume() { child.withLock { $0 }?.resume() }

    // MARK: - Parts

    private func answers(within limit: Duration) -> Bool {
        // By its path, which no other server can answer at.
        guard let probe = try? StreamSocket.connect(to: .unix(socketPath)) else { return false }
        return Self.answersPing(probe, until: .now + limit)
    }

    /// True where the server at `socket` serves: NOAUTH is an answer, LOADING is none yet.
    private static func answersPing(
        _ socket: borrowing OwnedDescriptor, until deadline: MonotonicTime
    ) -> Bool {
        let number = socket.number
        func isReady(_ events: CInt) -> Bool {
            let left = deadline - MonotonicTime.now
            var entry = pollfd(fd: number, events: Int16(events), revents: 0)
            return unsafe poll(&entry, 1, CInt(max(0, left.wholeMilliseconds))) == 1
        }
        guard isReady(POLLOUT), StreamSocket.pendingError(of: number) == nil else { return false }
        let request = Array("PING\r\n".utf8)
        let sent = unsafe request.withUnsafeBytes { unsafe StreamSocket.write(number, $0) }
        guard sent == .transferred(request.count), isReady(POLLIN) else { return false }
        var buffer = [UInt8](repeating: 0, count: 64)
        let got = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(number, into: $0)
        }
        guard case .transferred(let count) = got else { return false }
        let reply = String(decoding: buffer.prefix(count), as: UTF8.self)
        return reply.hasPrefix("+PONG") || reply.hasPrefix("-NOAUTH")
    }

    private var lastOutput: String {
        guard let file = try? OwnedDescriptor.open(directory + "/output.log", flags: O_RDONLY)
        else { return "no output" }
        return Self.end(of: file)
    }

    private static func end(of file: borrowing OwnedDescriptor) -> String {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe read(file.number, $0.baseAddress, $0.count)
        }
        return String(decoding: buffer.prefix(max(0, count)).suffix(2000), as: UTF8.self)
    }

    private static func freePort() throws(RedisServerError) -> UInt16 {
        for _ in 0..<200 {
            let port = UInt16.random(in: ports)
            let address = SocketAddress.loopback(port: port)
            do throws(Errno) {
                let listener = try StreamSocket.listen(on: address, backlog: 1, sharesPort: false)
                try listener.close()
                return port
            } catch { continue }
        }
        throw RedisServerError("no free port between \(ports.lowerBound) and \(ports.upperBound)")
    }

    private static func removeTree(_ path: String) {
        if let listing = unsafe opendir(path) {
            while let entry = unsafe readdir(listing) {
                let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                    unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { removeTree(path + "/" + name) }
            }
            unsafe closedir(listing)
            _ = unsafe rmdir(path)
        } else {
            _ = unsafe unlink(path)
        }
    }
}

/// Why a Redis server for a test could not be had.
package struct RedisServerError: Error, Sendable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

/// A program that runs beside this one.
///
/// Threads: any. A thread of its own spawns it and waits for its end: the kernel sends the signal
/// for a parent's death when the thread that spawned the child ends, not the process.
private final class ChildProcess: Sendable {
    private enum State: Sendable {
        case starting
        case running(pid_t)
        case ended
    }

    private let state = Lock(State.starting)
    private let keeper: NamedThread

    init(_ command: [String], output: String) {
        let state = self.state
        keeper = NamedThread("child-keeper") {
            guard let id = Self.spawn(command, output: output) else {
                state.withLock { $0 = .ended }
                return
            }
            state.withLock { $0 = .running(id) }
            Self.wait(for: id, WEXITED | WNOWAIT)
            // The number stays taken until it is reaped, so no signal can reach a stranger.
            state.withLock {
                Self.wait(for: id, WEXITED)
                $0 = .ended
            }
        }
    }

    var hasEnded: Bool {
        state.withLock { if case .ended = $0 { true } else { false } }
    }

    func kill() {
        // A child that is only just starting has no number yet.
        while !hasEnded, !signal(SIGKILL) { sched_yield() }
        keeper.join()
    }

    func pause() { signal(SIGSTOP, thenAwait: WSTOPPED) }

    func resume() { signal(SIGCONT, thenAwait: WCONTINUED) }

    @discardableResult
    private func signal(_ number: CInt, thenAwait change: CInt? = nil) -> Bool {
        let id: pid_t? = state.withLock {
            guard case .running(let id) = $0, Glibc.kill(id, number) == 0 else { return nil }
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

    private static func spawn(_ command: [String], output: String) -> pid_t? {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(
            &actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe arguments.indices { unsafe free(arguments[index]) }
        }
        var id = pid_t()
        let status = unsafe posix_spawnp(&id, command[0], &actions, nil, &arguments, environ)
        return status == 0 ? id : nil
    }
}
