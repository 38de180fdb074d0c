// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import Glibc
import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Streams")
    struct StreamTests {
        private static let request = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"

        /// A client whose stream is open, its head read.
        private func openStream(
            _ server: ServerUnderTest, receiveBufferBytes: CInt? = nil
        ) throws -> LoopbackClient {
            let open = server.metric("rivulet_http_streams_opened_total")
            let client = try server.client(receiveBufferBytes: receiveBufferBytes)
            client.send(Self.request)
            let answer = try #require(client.readAnswer())
            #expect(answer.status == 200)
            #expect(answer.header("connection") == "close")
            #expect(answer.header("content-length") == nil)
            #expect(
                eventually { server.metric("rivulet_http_streams_opened_total") == open + 1 })
            return client
        }

        private func ends(_ server: ServerUnderTest) -> [StreamEnd] {
            server.record.withLock { $0.ended }
        }

        @Test("what is written arrives, in one piece or several")
        func writes() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try openStream(server)
            try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                #expect(stream.peer.host == "127.0.0.1")
                #expect(stream.write([1, 2, 3]) == .all)
                #expect(writePieces(stream, [[4, 5], [6], [], [7, 8, 9]]) == .all)
                // More pieces than the kernel takes in one call.
                let many = (0..<3000).map { [UInt8(truncatingIfNeeded: $0)] }
                #expect(writePieces(stream, many) == .all)
            }
            #expect(client.read(9) == [1, 2, 3, 4, 5, 6, 7, 8, 9])
            #expect(client.read(3000) == (0..<3000).map { UInt8(truncatingIfNeeded: $0) })
            #expect(eventually { (try? server.onLoop { $0.handler.streams[0].unsentBytes }) == 0 })
        }

        @Test("a client that does not read fills the socket; what it then reads is exact")
        func backpressure() throws {
            let server = try ServerUnderTest { $0.sendBufferBytes = 16_384 }
            defer { server.stop() }
            let client = try openStream(server, receiveBufferBytes: 4096)
            let total = 4_000_000
            let sent = Lock(0)
            try server.onLoop { shard in
                shard.handler.whenWritable = { stream in send(stream, upTo: total, sent) }
                let stream = shard.handler.streams[0]
                send(stream, upTo: total, sent)
                let before = sent.withLock { $0 }
                #expect(before > 0 && before < total)
                #expect(stream.unsentBytes > 0)
                // Until it is told otherwise a caller gets nowhere.
                #expect(stream.write([0]) == .some(0))
            }
            #expect(server.record.withLock { $0.writableCalls } == 0)
            #expect(client.read(total) == pattern(total))
            #expect(sent.withLock { $0 } == total)
            #expect(server.record.withLock { $0.writableCalls } > 0)
            #expect(ends(server) == [])
        }

        @Test("a head that finds the socket full is sent before anything else")
        func headFirst() throws {
            let server = try ServerUnderTest { $0.sendBufferBytes = 4096 }
            defer { server.stop() }
            let client = try server.client(receiveBufferBytes: 4096)
            // The answer before it fills the socket, so that the stream begins behind it.
            client.send("GET /size/300000 HTTP/1.1\r\nHost: a\r\n\r\n" + Self.request)
            #expect(client.readAnswer()?.body == pattern(300_000))
            #expect(client.readAnswer()?.header("content-type") == "text/event-stream")
            try server.onLoop { #expect($0.handler.streams[0].write([42]) == .all) }
            #expect(client.read(1) == [42])
        }

        @Test("a client that closes ends its stream once", arguments: ["closed", "half", "reset"])
        func clientCloses(how: String) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try openStream(server)
            switch how {
            case "closed": client.close()
            case "half": client.closeWriting()
            default: client.reset()
            }
            #expect(eventually { ends(server).count == 1 })
            #expect(ends(server) == [how == "reset" ? .failed(Errno(ECONNRESET)) : .peerClosed])
            try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                #expect(stream.write([1]) == .ended)
                stream.finish()
                stream.abort()
                #expect(stream.unsentBytes == 0)
            }
            try server.onLoop { #expect($0.listener.connectionCount == 0) }
            #expect(ends(server).count == 1)
            #expect(server.metric("rivulet_http_streams_open") == 0)
        }

        @Test("a write that fails says so at once, and the observer hears of it after the turn")
        func writeFails() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try openStream(server)
            let steps = TurnSteps()
            let writer = NamedThread("writer") {
                _ = try? server.onLoop { writeUntilEnded($0, steps) }
            }
            #expect(eventually { steps.turnHasBegun.withLock { $0 } })
            client.reset()
            steps.clientHasReset.withLock { $0 = true }
            writer.join()
            #expect(steps.endedInTurn.withLock { $0 } == 0)
            #expect(eventually { ends(server).count == 1 })
            #expect(ends(server).first?.name == "failed")
        }

        @Test("finish delivers everything that was accepted")
        func finishes() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try openStream(server)
            // Data of the client that nobody reads would turn an ordinary close into a reset.
            client.send("unasked")
            let accepted = try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                let outcome = stream.write(pattern(1_000_000))
                stream.finish()
                #expect(ends(server) == [])
                #expect(stream.write([1]) == .ended)
                return outcome
            }
            let count = if case .some(let count) = accepted { count } else { 1_000_000 }
            #expect(client.readToEnd() == pattern(count))
            #expect(client.sawEnd && !client.sawReset)
            #expect(eventually { ends(server) == [.finished] })
            client.close()
            #expect(eventually { (try? server.onLoop { $0.listener.connectionCount }) == 0 })
            #expect(ends(server) == [.finished])
        }

        @Test("a finished connection whose client does not close is closed in the end")
        func lingerEnds() throws {
            let server = try ServerUnderTest { $0.lingerTimeout = .milliseconds(50) }
            defer { server.stop() }
            let client = try openStream(server)
            try server.onLoop { $0.handler.streams[0].finish() }
            #expect(client.readToEnd() == [])
            #expect(eventually { (try? server.onLoop { $0.listener.connectionCount }) == 0 })
        }

        @Test("abort discards what the client has not received")
        func aborts() throws {
            let server = try ServerUnderTest { $0.sendBufferBytes = 65_536 }
            defer { server.stop() }
            let client = try openStream(server, receiveBufferBytes: 4096)
            try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                #expect(stream.write(pattern(2_000_000)) != .all)
                #expect(stream.unsentBytes > 0)
                stream.abort()
                #expect(ends(server) == [])
                #expect(shard.listener.connectionCount == 0)
            }
            #expect(eventually { ends(server) == [.aborted] })
            _ = client.readToEnd()
            #expect(client.sawReset)
        }

        @Test("a client may send a little on its stream, and no more than that")
        func inputOnStream() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try openStream(server)
            client.send(pattern(4096))
            try server.onLoop { #expect($0.handler.streams[0].write([7]) == .all) }
            #expect(client.read(1) == [7])
            #expect(ends(server) == [])
            client.send([0])
            #expect(eventually { ends(server) == [.peerSentData] })
        }

        @Test("a stream that is opened later takes its time and no timeout")
        func openedLater() throws {
            let server = try ServerUnderTest {
                $0.idleTimeout = .milliseconds(30)
                $0.headerTimeout = .milliseconds(30)
            }
            defer { server.stop() }
            let client = try server.client()
            client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { server.record.withLock { $0.requests.count } == 1 })
            try server.onLoop { shard in
                let exchange = shard.handler.waiting.removeFirst()
                let stream = exchange.openStream(headers: [], observer: shard.handler)
                shard.handler.streams.append(stream!)
            }
            #expect(client.readAnswer()?.status == 200)
            // An idle connection beside it shows that the timeouts have passed.
            let idle = try server.client()
            #expect(idle.readToEnd() == [])
            try server.onLoop { #expect($0.handler.streams[0].write([9]) == .all) }
            #expect(client.read(1) == [9])
            #expect(ends(server) == [])
        }

        @Test("an idle stream costs no more than 400 bytes of heap")
        func memory() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            var clients: [LoopbackClient] = []
            func open(_ count: Int) throws {
                for _ in 0..<count { clients.append(try openStream(server)) }
            }
            // The first ones pay for tables that the others find.
            try open(200)
            clients.reserveCapacity(4096)
            try server.onLoop { $0.handler.streams.reserveCapacity(4096) }
            let before = clinux_heap_bytes_in_use()
            try open(1000)
            let perStream = (Int(clinux_heap_bytes_in_use()) - Int(before)) / 1000
            // The test's own objects for each client are part of it, so it is less than this.
            #expect(perStream < 400, "\(perStream) bytes")
        }
    }
}

/// Goes on where the last call stopped, until the socket is full or all is sent.
private func send(_ stream: ByteStream, upTo total: Int, _ sent: Lock<Int>) {
    while true {
        let start = sent.withLock { $0 }
        let rest = pattern(min(50_000, total - start), from: start)
        guard !rest.isEmpty else { return }
        switch stream.write(rest) {
        case .all: sent.withLock { $0 += rest.count }
        case .some(let count):
            sent.withLock { $0 += count }
            return
        case .ended: return
        }
    }
}

private struct TurnSteps: Sendable {
    let turnHasBegun = Lock(false)
    let clientHasReset = Lock(false)
    let endedInTurn = Lock(-1)
}

/// Writes after a reset that happens within this turn, so that the loop has not noticed it.
private func writeUntilEnded(_ shard: ServerUnderTest.Shard, _ steps: TurnSteps) {
    steps.turnHasBegun.withLock { $0 = true }
    _ = eventually { steps.clientHasReset.withLock { $0 } }
    let stream = shard.handler.streams[0]
    _ = eventually { stream.write([1]) == .ended }
    let ended = shard.handler.endedStreams
    steps.endedInTurn.withLock { $0 = ended }
}
