// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor
import EventStreamWire
import Glibc
import PosixIO

/// A client that asks for a stream and then reads nothing until it is told to.
final class StalledClient {
    private let socket: OwnedDescriptor
    private var received: [UInt8] = []

    /// Small, so that the server is the one who has to hold what is not read.
    private static let receiveBytes: Int32 = 4096

    init(port: UInt16, path: String, after lastEventID: String? = nil) throws(BenchmarkError) {
        let descriptor = benchfloor_connect(port, 0x7f00_0001, Self.receiveBytes)
        guard descriptor >= 0 else {
            throw BenchmarkError(.failed, "a client that stalls: \(Errno(-descriptor))")
        }
        socket = OwnedDescriptor(adopting: descriptor)
        let resume = lastEventID.map { "Last-Event-ID: \($0)\r\n" } ?? ""
        let request = Array(
            ("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nAccept: text/event-stream\r\n"
                + "\(resume)\r\n").utf8)
        let sent = unsafe request.withUnsafeBytes {
            unsafe StreamSocket.write(descriptor, $0)
        }
        guard sent == .transferred(request.count) else {
            throw BenchmarkError(.failed, "a client that stalls: \(sent)")
        }
    }

    /// Reads until `isEnough` says so of what has come, the server has closed, or `limit` is over.
    /// True where the server has closed.
    func read(within limit: Duration, until isEnough: ([EventStreamMessage]) -> Bool) -> Bool {
        let deadline = MonotonicTime.now + limit
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while !isEnough(messages) {
            let left = (deadline - .now).wholeMilliseconds
            var entry = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
            guard left > 0, unsafe poll(&entry, 1, CInt(clamping: left)) == 1 else { return false }
            let outcome = unsafe buffer.withUnsafeMutableBytes {
                unsafe StreamSocket.read(socket.number, into: $0)
            }
            guard case .transferred(let count) = outcome else { return true }
            received += buffer[..<count]
        }
        return false
    }

    /// All events that have come whole.
    var messages: [EventStreamMessage] {
        guard let start = received.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound else {
            return []
        }
        var parser = EventStreamParser()
        let body = Array(received[start...])
        return (try? parser.messages(in: body.span)) ?? []
    }
}
