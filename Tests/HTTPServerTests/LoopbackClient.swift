// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import TLSEngine

/// A blocking client that reads and writes bytes as a test says, with a deadline on each read.
final class LoopbackClient {
    private var socket: OwnedDescriptor?
    let number: CInt
    /// What was read and not yet returned.
    private var held: [UInt8] = []
    private(set) var sawEnd = false
    private(set) var sawReset = false
    /// What encrypts, where the test has begun TLS.
    private(set) var session: TLSSession?

    private static let readLimitMilliseconds: CInt = 10_000

    /// A socket that is not connected yet.
    init(receiveBufferBytes: CInt? = nil) throws {
        let number = Glibc.socket(
            AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw Errno.current }
        socket = OwnedDescriptor(adopting: number)
        self.number = number
        if let receiveBufferBytes {
            try StreamSocket.set(
                number, level: SOL_SOCKET, option: SO_RCVBUF, to: receiveBufferBytes)
        }
    }

    convenience init(_ address: SocketAddress, receiveBufferBytes: CInt? = nil) throws {
        try self.init(receiveBufferBytes: receiveBufferBytes)
        try connect(to: address)
    }

    func connect(to address: SocketAddress) throws {
        guard case .ipv4(let host, let port) = address else { throw Errno(EAFNOSUPPORT) }
        var v4 = sockaddr_in()
        v4.sin_family = sa_family_t(AF_INET)
        v4.sin_addr.s_addr = host.bigEndian
        v4.sin_port = port.bigEndian
        let status = unsafe withUnsafePointer(to: &v4) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw Errno.current }
        try StreamSocket.disableDelay(number)
    }

    /// Sends all of `text`; false where the server no longer takes it.
    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let outcome = unsafe bytes.withUnsafeBytes {
                unsafe write(UnsafeRawBufferPointer(rebasing: $0[sent...]))
            }
            guard case .transferred(let count) = outcome else { return false }
            sent += count
        }
        return true
    }

    /// Begins TLS as a client that expects `localhost`; throws why that failed.
    func beginTLS(_ context: TLSClientContext) throws {
        let session = try TLSSession(
            client: context, descriptor: number, host: "localhost", records: TLSRecordBuffer())
        // The socket blocks, so one call leads the handshake to its end.
        if case .failed(let error) = session.handshake() { throw error }
        self.session = session
    }

    private func write(_ bytes: UnsafeRawBufferPointer) -> TransferOutcome {
        guard let session else { return unsafe StreamSocket.write(number, bytes) }
        guard case .transferred(let count) = unsafe session.write(bytes) else { return .endOfFile }
        return .transferred(count)
    }

    private func read(into buffer: UnsafeMutableRawBufferPointer) -> TransferOutcome {
        guard let session else { return unsafe StreamSocket.read(number, into: buffer) }
        switch unsafe session.read(into: buffer) {
        case .transferred(let count): return .transferred(count)
        // A ticket came.
        case .wantRead, .wantWrite: return .transferred(0)
        case .closed: return .endOfFile
        case .failed: return .failed(Errno(EPROTO))
        }
    }

    func closeWriting() { _ = shutdown(number, CInt(SHUT_WR)) }

    func close() { socket = nil }

    /// Closes with a reset instead of an orderly end.
    func reset() {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        _ = unsafe setsockopt(
            number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        socket = nil
    }

    /// Reads once, waiting for it; false at the end, at a reset or when nothing came in time.
    private func readMore() -> Bool {
        guard !sawEnd, !sawReset else { return false }
        var waiting = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&waiting, 1, Self.readLimitMilliseconds) == 1 else { return false }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe read(into: $0)
        }
        switch outcome {
        case .transferred(let count):
            held.append(contentsOf: buffer[..<count])
            return true
        case .endOfFile: sawEnd = true
        case .failed: sawReset = true
        case .wouldBlock: break
        }
        return false
    }

    /// Reads exactly `count` bytes, or as many as come.
    func read(_ count: Int) -> [UInt8] {
        while held.count < count, readMore() {}
        defer { held.removeFirst(min(count, held.count)) }
        return Array(held.prefix(count))
    }

    /// Reads what has come, waiting for the first of it; empty at the end.
    func readSome() -> [UInt8] {
        while held.isEmpty, readMore() {}
        defer { held = [] }
        return held
    }

    /// Reads until the server closes.
    func readToEnd() -> [UInt8] {
        while readMore() {}
        defer { held = [] }
        return held
    }

    /// Reads one answer with a `Content-Length`; `nil` where none came.
    func readAnswer(bodyless: Bool = false) -> Answer? {
        let separator = Array("\r\n\r\n".utf8)
        while true {
            if let end = held.indices.first(where: { held[$0...].starts(with: separator) }) {
                let head = String(decoding: held[..<end], as: UTF8.self)
                held = Array(held[(end + 4)...])
                var answer = Answer(head: head)
                if !bodyless, let length = answer.header("content-length").flatMap({ Int($0) }) {
                    answer.body = read(length)
                }
                return answer
            }
            guard readMore() else { return nil }
        }
    }

    struct Answer {
        let status: Int
        let headers: [(name: String, value: String)]
        var body: [UInt8] = []

        init(head: String) {
            let lines = head.split(separator: "\r\n", omittingEmptySubsequences: false)
            status = Int(lines[0].split(separator: " ").dropFirst().first ?? "") ?? 0
            headers = lines.dropFirst().map { line in
                let parts = line.split(separator: ":", maxSplits: 1)
                let value = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
                return (String(parts[0]).lowercased(), value)
            }
        }

        func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
        var text: String { String(decoding: body, as: UTF8.self) }
    }
}
