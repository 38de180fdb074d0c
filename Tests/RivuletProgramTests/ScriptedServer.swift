// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import Testing

/// A server that answers the first connection with the first answer, and so on.
///
/// Threads: one of its own; the test reads what was asked.
final class ScriptedServer: Sendable {
    struct Answer: Sendable {
        let text: String
        /// Leaves the connection open after the text, until the server ends.
        var staysOpen = false

        /// An event stream that lasts until the connection is closed.
        static func stream(_ events: String, staysOpen: Bool = false) -> Answer {
            Answer(
                text: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + events,
                staysOpen: staysOpen)
        }

        static func status(_ status: String, _ headers: String = "", body: String = "") -> Answer {
            Answer(
                text: "HTTP/1.1 \(status)\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n"
                    + body)
        }
    }

    let port: UInt16
    private let stop: OwnedDescriptor
    private let asked = Lock<[String]>([])

    init(_ answers: [Answer]) throws {
        let listener = try StreamSocket.listen(
            on: .loopback(port: 0), backlog: 16, sharesPort: false)
        let number = listener.number
        port = try #require(try StreamSocket.localAddress(of: number).port)
        let end = dup(number)
        try #require(end >= 0)
        _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        stop = OwnedDescriptor(adopting: end)
        let asked = self.asked
        let serving = OwnedDescriptor(adopting: dup(number))
        _ = fcntl(serving.number, F_SETFD, FD_CLOEXEC)
        let servingNumber = serving.number
        let holder = Holder(serving)
        _ = NamedThread("scripted") {
            Self.serve(servingNumber, answers, asked)
            holder.release()
        }
        _ = consume listener
    }

    /// Ends the listener's wait, and with it the thread and the connections that stay open.
    deinit { shutdown(stop.number, CInt(SHUT_RDWR)) }

    var requests: [String] { asked.withLock { $0 } }

    var address: String { "127.0.0.1:\(port)" }

    private static func serve(
        _ listener: CInt, _ answers: [Answer], _ asked: Lock<[String]>
    ) {
        var open: [CInt] = []
        defer { for socket in open { close(socket) } }
        for answer in answers {
            var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            _ = unsafe poll(&entry, 1, -1)
            let socket = clinux_accept(listener, nil, nil)
            guard socket >= 0 else { return }
            asked.withLock { $0.append("") }
            let request = readHead(socket)
            asked.withLock { $0[$0.count - 1] = request }
            StandardWriter.write(Array(answer.text.utf8), to: socket)
            if answer.staysOpen { open.append(socket) } else { close(socket) }
        }
        // What is open stays so until the test is over.
        var entry = pollfd(fd: listener, events: 0, revents: 0)
        _ = unsafe poll(&entry, 1, -1)
    }

    private static func readHead(_ socket: CInt) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while !bytes.suffix(4).elementsEqual("\r\n\r\n".utf8) {
            var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            _ = unsafe poll(&entry, 1, -1)
            let count = unsafe recv(socket, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Keeps the thread's descriptor until the thread is done with it.
    private final class Holder: Sendable {
        private let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
        func release() {}
    }
}
