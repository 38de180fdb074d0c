// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
package import HTTP1Wire
import PosixIO

/// The answer to one request.
package struct HTTPAnswer: Sendable {
    package let status: Int
    package let headers: HTTPHeaders
    /// Without a stream's: that never ends.
    package let body: [UInt8]

    package var text: String { String(decoding: body, as: UTF8.self) }
}

/// Single requests to servers of this machine, each over a connection of its own. Blocks.
package enum LoopbackHTTP {
    /// What a peer sent back until it closed, or until the time was over.
    package struct Exchange: Sendable {
        package enum End: Sendable {
            case closed
            /// As a peer closes that has unread bytes, or that died.
            case reset
            case stillOpen
        }

        package let received: [UInt8]
        package let end: End

        package var text: String { String(decoding: received, as: UTF8.self) }
    }

    package static func get(
        _ target: String, port: UInt16, headers: HTTPHeaders = HTTPHeaders(),
        within limit: Duration = .seconds(5)
    ) throws(ClusterHarnessError) -> HTTPAnswer {
        var request = ByteWriter()
        HTTP1RequestEncoder.append(
            method: .get, target: target, host: "127.0.0.1:\(port)", headers: headers,
            keepAlive: false, to: &request)
        let socket = try connect(port: port, within: limit)
        try send(request.bytes, over: socket, until: .now + limit)
        return try answer(over: socket, until: .now + limit)
    }

    /// Sends `bytes` as they are and collects what comes back.
    package static func exchange(
        _ bytes: [UInt8], port: UInt16, within limit: Duration
    ) throws(ClusterHarnessError) -> Exchange {
        let deadline = MonotonicTime.now + limit
        let socket = try connect(port: port, within: limit)
        // A server that refuses may close before it has taken everything.
        try? send(bytes, over: socket, until: deadline)
        var received: [UInt8] = []
        while true {
            switch read(from: socket, until: deadline) {
            case .bytes(let piece): received += piece
            case .ended(let end): return Exchange(received: received, end: end)
            }
        }
    }

    // MARK: - Parts

    private static func connect(
        port: UInt16, within limit: Duration
    ) throws(ClusterHarnessError) -> OwnedDescriptor {
        do throws(Errno) {
            let socket = try StreamSocket.connect(to: .loopback(port: port))
            guard isReady(socket, POLLOUT, until: .now + limit) else { throw Errno(ETIMEDOUT) }
            if let error = StreamSocket.pendingError(of: socket.number) { throw error }
            return socket
        } catch {
            throw ClusterHarnessError(.noAnswer, "port \(port): \(error)")
        }
    }

    private static func isReady(
        _ socket: borrowing OwnedDescriptor, _ events: CInt, until deadline: MonotonicTime
    ) -> Bool {
        let left = (deadline - MonotonicTime.now).wholeMilliseconds
        var entry = pollfd(fd: socket.number, events: Int16(events), revents: 0)
        return unsafe poll(&entry, 1, CInt(clamping: max(0, left))) == 1
    }

    private static func send(
        _ bytes: [UInt8], over socket: borrowing OwnedDescriptor, until deadline: MonotonicTime
    ) throws(ClusterHarnessError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let outcome = unsafe rest.withUnsafeBytes {
                unsafe StreamSocket.write(socket.number, $0)
            }
            switch outcome {
            case .transferred(let count): rest = rest.dropFirst(count)
            case .wouldBlock where isReady(socket, POLLOUT, until: deadline): continue
            default: throw ClusterHarnessError(.noAnswer, "the request was not taken: \(outcome)")
            }
        }
    }

    private enum ReadOutcome {
        case bytes([UInt8])
        case ended(Exchange.End)
    }

    private static func read(
        from socket: borrowing OwnedDescriptor, until deadline: MonotonicTime
    ) -> ReadOutcome {
        guard isReady(socket, POLLIN, until: deadline) else { return .ended(.stillOpen) }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(socket.number, into: $0)
        }
        return switch outcome {
        case .transferred(let count): .bytes(Array(buffer.prefix(count)))
        case .endOfFile: .ended(.closed)
        case .failed: .ended(.reset)
        case .wouldBlock: .bytes([])
        }
    }

    private static func answer(
        over socket: borrowing OwnedDescriptor, until deadline: MonotonicTime
    ) throws(ClusterHarnessError) -> HTTPAnswer {
        var received: [UInt8] = []
        var parser = HTTP1ResponseParser(method: .get)
        while true {
            guard case .bytes(let piece) = read(from: socket, until: deadline) else {
                throw ClusterHarnessError(.noAnswer, "no complete answer: \(received.count) bytes")
            }
            received += piece
            do throws(HTTP1Error) {
                guard case .head(let head, let consumed) = try parser.parse(received.span)
                else { continue }
                let isStream =
                    head.headers.first("Content-Type")?.hasPrefix("text/event-stream") == true
                var body: [UInt8] = []
                if !isStream {
                    body = try self.body(
                        head, beginning: Array(received[consumed...]), socket, deadline)
                }
                return HTTPAnswer(status: head.status, headers: head.headers, body: body)
            } catch {
                throw ClusterHarnessError(.noAnswer, "no HTTP: \(error)")
            }
        }
    }

    private static func body(
        _ head: HTTP1ResponseHead, beginning: [UInt8], _ socket: borrowing OwnedDescriptor,
        _ deadline: MonotonicTime
    ) throws(HTTP1Error) -> [UInt8] {
        var raw = beginning
        var decoder = ChunkedBodyDecoder(maximumBodyBytes: nil)
        var decoded = ByteWriter()
        if head.body == .chunked { _ = try decoder.decode(raw.span, into: &decoded) }
        while true {
            switch head.body {
            case .none: return []
            case .length(let count) where raw.count >= count: return Array(raw.prefix(count))
            case .chunked where decoder.isComplete: return decoded.bytes
            default: break
            }
            guard case .bytes(let piece) = read(from: socket, until: deadline) else {
                return head.body == .chunked ? decoded.bytes : raw
            }
            raw += piece
            if head.body == .chunked { _ = try decoder.decode(piece.span, into: &decoded) }
        }
    }
}
