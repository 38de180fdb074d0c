// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import RedisClient

/// A server that plays a script to each connection in turn, the last one to all that follow.
final class ScriptedServer: Sendable {
    typealias Script = @Sendable (ServerSide) -> Void

    let port: UInt16
    private let isClosing = Lock(false)
    private let listener: OwnedDescriptor

    init(_ scripts: Script...) throws {
        listener = try StreamSocket.listen(on: .loopback(port: 0), backlog: 16, sharesPort: false)
        let number = listener.number
        port = try StreamSocket.localAddress(of: number).port!
        let isClosing = self.isClosing
        thread = NamedThread("scripted") {
            var next = 0
            while !isClosing.withLock({ $0 }) {
                var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
                guard unsafe poll(&entry, 1, 5) == 1,
                    let socket = try? StreamSocket.accept(from: number)
                else { continue }
                let side = ServerSide(socket.takeDescriptor(), isClosing: isClosing)
                scripts[min(next, scripts.count - 1)](side)
                side.close()
                next += 1
            }
        }
    }

    private let thread: NamedThread

    deinit {
        isClosing.withLock { $0 = true }
        thread.join()
    }

    var settings: RedisSettings {
        var settings = RedisSettings(address: .tcp(host: "127.0.0.1", port: port))
        settings.commandTimeout = .seconds(10)
        settings.connectTimeout = .seconds(10)
        settings.reconnectDelayMax = .milliseconds(60)
        return settings
    }
}

/// The server's end of one connection. A script that returns closes it.
final class ServerSide {
    private let number: CInt
    private let isClosing: Lock<Bool>
    private var unread: [UInt8] = []

    fileprivate init(_ socket: consuming OwnedDescriptor, isClosing: Lock<Bool>) {
        number = dup(socket.number)
        self.isClosing = isClosing
        try? StreamSocket.disableDelay(number)
    }

    fileprivate func close() { _ = Glibc.close(number) }

    /// Answers the one command a connection without settings introduces itself with.
    func answerHandshake() {
        _ = readCommand()
        send("+PONG\r\n")
    }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            switch unsafe rest.withUnsafeBytes({ unsafe StreamSocket.write(number, $0) }) {
            case .transferred(let count): rest = rest.dropFirst(count)
            case .wouldBlock: guard becomes(POLLOUT) else { return }
            case .endOfFile, .failed: return
            }
        }
    }

    /// The next command's arguments; empty where the client has gone.
    func readCommand() -> [String] {
        guard let count = readNumber(after: "*") else { return [] }
        var arguments: [String] = []
        for _ in 0..<count {
            guard let length = readNumber(after: "$"), let bytes = readBytes(length + 2) else {
                return []
            }
            arguments.append(String(decoding: bytes.dropLast(2), as: UTF8.self))
        }
        return arguments
    }

    /// Reads and drops what comes until the client hangs up.
    func waitForHangUp() {
        while fill() { unread.removeAll() }
    }

    private func readNumber(after mark: Character) -> Int? {
        while true {
            if let end = unread.firstIndex(of: 10) {
                let line = String(decoding: unread[..<(end - 1)], as: UTF8.self)
                unread.removeFirst(end + 1)
                return line.first == mark ? Int(line.dropFirst()) : nil
            }
            guard fill() else { return nil }
        }
    }

    private func readBytes(_ count: Int) -> [UInt8]? {
        while unread.count < count { guard fill() else { return nil } }
        defer { unread.removeFirst(count) }
        return Array(unread.prefix(count))
    }

    private func fill() -> Bool {
        guard becomes(POLLIN) else { return false }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(number, into: $0)
        }
        guard case .transferred(let count) = outcome else { return outcome == .wouldBlock }
        unread += buffer.prefix(count)
        return true
    }

    private func becomes(_ events: CInt) -> Bool {
        var entry = pollfd(fd: number, events: Int16(events), revents: 0)
        while unsafe poll(&entry, 1, 5) == 0 {
            if isClosing.withLock({ $0 }) { return false }
        }
        return true
    }
}
