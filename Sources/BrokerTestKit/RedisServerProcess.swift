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
    private let directory: TemporaryDirectory
    private let arguments: [String]
    private let child = Lock<ChildProcess?>(nil)

    private static let startLimit: Duration = .seconds(20)
    private static let log = "output.log"

    /// Starts a server and waits until it answers.
    ///
    /// - Parameter arguments: Added to the command line, where they win: `["--appendonly", "yes"]`.
    package init(password: String? = nil, arguments: [String] = []) throws(RedisServerError) {
        do throws(Errno) {
            directory = try TemporaryDirectory("rivulet-redis")
        } catch {
            throw RedisServerError("mkdtemp: \(error)")
        }
        socketPath = directory.path + "/redis.sock"
        guard let port = FreePort.choose() else { throw RedisServerError("no free port") }
        self.port = port
        self.arguments =
            [
                "--bind", host, "--port", "\(port)", "--unixsocket", socketPath,
                "--dir", directory.path, "--daemonize", "no", "--save", "", "--appendonly", "no",
            ] + (password.map { ["--requirepass", $0] } ?? []) + arguments
        try start()
    }

    // Before the directory goes.
    deinit { kill() }

    /// Starts the server again after ``kill()``, with the same port and arguments, and waits until
    /// it answers.
    package func start() throws(RedisServerError) {
        let child = ChildProcess(
            ["redis-server"] + arguments, output: "\(directory.path)/\(Self.log)")
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

    private var lastOutput: String { directory.end(of: Self.log, bytes: 2000) }
}

/// Why a Redis server for a test could not be had.
package struct RedisServerError: Error, Sendable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
