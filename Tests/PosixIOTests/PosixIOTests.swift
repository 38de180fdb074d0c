// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Testing

@Suite("System calls")
struct PosixIOTests {
    @Test("bytes written to a connected socket arrive, and a closed peer is an end of file")
    func socketRoundTrip() throws {
        let listener = try StreamSocket.listen(
            on: .loopback(port: 0), backlog: 8, sharesPort: false)
        let address = try StreamSocket.localAddress(of: listener.number)
        let client = try StreamSocket.connect(to: address)
        wait(listener.number, POLLIN)
        guard let accepted = try StreamSocket.accept(from: listener.number) else {
            Issue.record("no connection waits")
            return
        }
        #expect(accepted.peer.host == "127.0.0.1")

        wait(client.number, POLLOUT)
        #expect(StreamSocket.pendingError(of: client.number) == nil)
        let sent = unsafe Array("hello".utf8).withUnsafeBytes {
            unsafe StreamSocket.write(client.number, $0)
        }
        #expect(sent == .transferred(5))
        wait(accepted.number, POLLIN)
        var buffer = [UInt8](repeating: 0, count: 16)
        let got = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(accepted.number, into: $0)
        }
        #expect(got == .transferred(5))
        #expect(Array(buffer.prefix(5)) == Array("hello".utf8))
        try client.close()
        wait(accepted.number, POLLIN)
        let end = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(accepted.number, into: $0)
        }
        #expect(end == .endOfFile)
    }

    @Test("a refused connection names its error")
    func refused() throws {
        let listener = try StreamSocket.listen(
            on: .loopback(port: 0), backlog: 1, sharesPort: false)
        let port = try StreamSocket.localAddress(of: listener.number)
        try listener.close()
        do {
            let client = try StreamSocket.connect(to: port)
            wait(client.number, POLLOUT)
            #expect(StreamSocket.pendingError(of: client.number) == Errno(ECONNREFUSED))
        } catch { #expect(error == Errno(ECONNREFUSED)) }
    }

    @Test("addresses read and print as people write them")
    func addresses() throws {
        #expect(SocketAddress(numericHost: "127.0.0.1", port: 80)?.description == "127.0.0.1:80")
        #expect(SocketAddress(numericHost: "::1", port: 80)?.description == "[::1]:80")
        #expect(SocketAddress(numericHost: "localhost", port: 80) == nil)
        #expect(throws: ResolveError.self) {
            try SocketAddress.resolve(host: "no such host", port: 1)
        }
    }

    @Test("a path too long for a Unix socket is refused, not cut")
    func longUnixPath() {
        let path = SocketAddress.unix(String(repeating: "x", count: 200))
        #expect(throws: Errno(ENAMETOOLONG)) { _ = try StreamSocket.connect(to: path).number }
    }

    @Test("a lock keeps increments of several threads whole")
    func lock() {
        let number = Lock(0)
        let threads = (0..<4).map { index in
            NamedThread("count-\(index)") {
                for _ in 0..<10_000 { number.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(number.withLock { $0 } == 40_000)
    }

    @Test("the calendar prints RFC 3339 in UTC")
    func calendar() {
        #expect(WallClock.text(milliseconds: 1_763_683_200_123) == "2025-11-21T00:00:00.123Z")
    }

    private func wait(_ descriptor: CInt, _ events: CInt) {
        var poll = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        #expect(unsafe Glibc.poll(&poll, 1, 5000) == 1)
    }
}
