// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import Glibc
import HTTP2TestKit
import HTTP2Wire
import PosixIO
import TLSEngine
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("HTTP/2 streams")
    struct HTTP2StreamTests {
        private func ends(_ server: ServerUnderTest) -> [StreamEnd] {
            server.record.withLock { $0.ended }
        }

        /// Lets the handler send `bodies`, one to each of its streams.
        private func feed(_ server: ServerUnderTest, _ bodies: [[UInt8]]) throws {
            try server.onLoop { shard in
                let feeder = BodyFeeder(bodies)
                shard.handler.whenWritable = { feeder.feed($0) }
                for stream in shard.handler.streams { feeder.feed(stream) }
            }
        }

        @Test("what is written in one turn to many streams leaves in few sends")
        func fewSends() throws {
            let server = try ServerUnderTest { $0.http2?.concurrentStreams = 400 }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let streams = client.openStreams(300)
            let before = server.metric("rivulet_http2_sends_total")
            try server.onLoop { shard in
                for stream in shard.handler.streams {
                    #expect(stream.write(Array("event \(stream.context)".utf8)) == .all)
                    #expect(writePieces(stream, [[10], [], [10, 10]]) == .all)
                }
            }
            #expect(client.run { http in streams.allSatisfy { http.answers[$0]!.body.count > 9 } })
            for (index, stream) in streams.enumerated() {
                #expect(client.http.answers[stream]?.text == "event \(index)\n\n\n")
            }
            #expect(server.metric("rivulet_http2_sends_total") - before <= 2)
        }

        @Test(
            "300 streams get exact bytes through tiny windows that open at random",
            arguments: [1, 2, 3] as [UInt64])
        func tinyWindows(seed: UInt64) throws {
            let server = try ServerUnderTest {
                $0.http2?.concurrentStreams = 400
                $0.sendBufferBytes = 8192
            }
            defer { server.stop() }
            var numbers = SeededNumbers(state: seed)
            let window = Int.random(in: 1...300, using: &numbers)
            let http = HTTP2TestClient(window: window, opensWindows: false)
            let client = try HTTP2LoopbackClient(server, http)
            let streams = client.openStreams(300)
            let bodies = streams.indices.map { index in
                pattern(Int.random(in: 0...8000, using: &numbers), from: index * 7919)
            }
            try feed(server, bodies)
            var given = 0
            let done = client.run { http in
                let received = streams.reduce(0) { $0 + http.answers[$1]!.body.count }
                // The connection's window follows what was read, in steps of its own.
                if received > given, Bool.random(using: &numbers) {
                    http.openWindow(0, by: received - given)
                    given = received
                }
                var isDone = true
                for stream in streams where !http.answers[stream]!.isEnded {
                    isDone = false
                    // One in four at a time, so that they open in an order of their own.
                    guard Int.random(in: 0..<4, using: &numbers) == 0 else { continue }
                    http.openWindow(stream, by: Int.random(in: 1...900, using: &numbers))
                }
                if !isDone, numbers.next() % 64 == 0 {
                    http.setInitialWindow(Int.random(in: 1...600, using: &numbers))
                }
                // Something always goes out, and so something always comes back.
                if !isDone { http.ping() }
                return isDone
            }
            #expect(
                done, "error \(client.http.error ?? "none"), \(String(describing: http.goAway))")
            for (stream, body) in zip(streams, bodies) {
                #expect(client.http.answers[stream]?.body == body)
                #expect(client.http.answers[stream]?.closedWith == 0)
            }
            #expect(eventually { ends(server).count == 300 })
            #expect(ends(server).allSatisfy { $0 == .finished })
            #expect(server.metric("rivulet_http2_streams_open") == 0)
            #expect(server.metric("rivulet_http_streams_open") == 0)
        }

        @Test("a stream takes what its window allows, and hears when there is room again")
        func window() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let http = HTTP2TestClient(window: 10, opensWindows: false)
            let client = try HTTP2LoopbackClient(server, http)
            let streams = client.openStreams(2)
            try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                #expect(writePieces(stream, [pattern(4), pattern(20, from: 4)]) == .some(10))
                #expect(stream.write([0]) == .some(0))
                // The window of one stream is no other's.
                #expect(shard.handler.streams[1].write(pattern(10)) == .all)
                #expect(shard.handler.streams[1].write([]) == .all)
            }
            client.run { $0.answers[streams[1]]?.body.count == 10 }
            #expect(http.answers[streams[0]]?.body == pattern(10))
            #expect(server.record.withLock { $0.writableCalls } == 0)
            http.openWindow(streams[0], by: 14)
            client.socket.send(http.takeOutput())
            #expect(eventually { server.record.withLock { $0.writableCalls } == 1 })
            try server.onLoop { shard in
                #expect(shard.handler.streams[0].write(pattern(14, from: 10)) == .all)
            }
            client.run { $0.answers[streams[0]]?.body.count == 24 }
            #expect(http.answers[streams[0]]?.body == pattern(24))
        }

        @Test("streams share a connection that is too slow for all of them")
        func fairness() throws {
            let server = try ServerUnderTest { $0.sendBufferBytes = 16_384 }
            defer { server.stop() }
            let http = HTTP2TestClient(window: 100_000_000)
            let client = try HTTP2LoopbackClient(server, http)
            http.openWindow(0, by: 100_000_000)
            let streams = client.openStreams(10)
            try feed(server, Array(repeating: pattern(300_000), count: 10))
            client.run { http in
                streams.reduce(0) { $0 + http.answers[$1]!.body.count } >= 1_500_000
            }
            let counts = streams.map { http.answers[$0]!.body.count }
            #expect(counts.max()! - counts.min()! < 100_000, "\(counts)")
            #expect(client.run { http in streams.allSatisfy { http.answers[$0]!.isEnded } })
            for stream in streams { #expect(http.answers[stream]?.body == pattern(300_000)) }
        }

        @Test("a client that cancels a stream ends that one, once", arguments: [0, 8, 2])
        func clientCancels(code: UInt32) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let streams = client.openStreams(2)
            client.http.reset(streams[0], code: code)
            client.socket.send(client.http.takeOutput())
            #expect(eventually { ends(server).count == 1 })
            #expect(ends(server) == [code == 2 ? .failed(Errno(EPROTO)) : .peerClosed])
            try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                #expect(stream.write([1]) == .ended)
                stream.finish()
                stream.abort()
                #expect(stream.unsentBytes == 0)
                #expect(shard.handler.streams[1].write([7]) == .all)
            }
            client.run { $0.answers[streams[1]]?.body == [7] }
            #expect(client.http.answers[streams[1]]?.body == [7])
            #expect(ends(server).count == 1)
        }

        @Test("a client that goes ends all its streams", arguments: ["closed", "half", "reset"])
        func clientGoes(how: String) throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            _ = client.openStreams(5)
            switch how {
            case "closed": client.socket.close()
            case "half": client.socket.closeWriting()
            default: client.socket.reset()
            }
            #expect(eventually { ends(server).count == 5 })
            let expected = how == "reset" ? StreamEnd.failed(Errno(ECONNRESET)) : .peerClosed
            #expect(ends(server).allSatisfy { $0 == expected })
            try server.onLoop { #expect($0.listener.connectionCount == 0) }
            #expect(server.metric("rivulet_http2_connections_open") == 0)
            #expect(server.metric("rivulet_http2_streams_open") == 0)
        }

        @Test("finish and abort end one stream, and their observer hears of it after the turn")
        func serverEnds() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let streams = client.openStreams(3)
            try server.onLoop { shard in
                let handler = shard.handler
                #expect(handler.streams[0].write(pattern(50_000)) == .all)
                handler.streams[0].finish()
                handler.streams[1].abort()
                #expect(handler.endedStreams == 0)
                #expect(handler.streams[0].write([1]) == .ended)
            }
            client.run { http in streams[0..<2].allSatisfy { http.answers[$0]!.closedWith != nil } }
            #expect(client.http.answers[streams[0]]?.body == pattern(50_000))
            #expect(client.http.answers[streams[0]]?.isEnded == true)
            #expect(client.http.answers[streams[1]]?.closedWith == 8)
            #expect(client.http.answers[streams[2]]?.closedWith == nil)
            #expect(eventually { ends(server).count == 2 })
            #expect(ends(server) == [.finished, .aborted])
        }

        @Test("a drain lets open streams end, names the last of them, and closes after it")
        func drain() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            let streams = client.openStreams(3)
            try server.onLoop { $0.listener.stopAccepting() }
            client.run { $0.goAways.count == 2 }
            #expect(client.http.goAways.map(\.lastStream) == [.max, streams[2]])
            #expect(client.http.goAways.map(\.code) == [0, 0])
            try server.onLoop { shard in
                for stream in shard.handler.streams {
                    #expect(stream.write(Array("bye".utf8)) == .all)
                    stream.finish()
                }
                shard.listener.closeIdleConnections()
            }
            client.runToEnd()
            for stream in streams {
                #expect(client.http.answers[stream]?.text == "bye")
                #expect(client.http.answers[stream]?.isEnded == true)
            }
            #expect(client.socket.sawEnd && !client.socket.sawReset)
            client.socket.close()
            #expect(eventually { (try? server.onLoop { $0.listener.connectionCount }) == 0 })
            #expect(ends(server) == [.finished, .finished, .finished])
        }

        @Test("a stop ends everything with a last word")
        func stop() throws {
            let server = try ServerUnderTest()
            let client = try HTTP2LoopbackClient(server)
            let streams = client.openStreams(2)
            server.stop()
            client.runToEnd()
            #expect(client.http.goAway?.lastStream == streams[1])
            #expect(ends(server) == [.listenerStopped, .listenerStopped])
            #expect(server.metric("rivulet_http2_streams_open") == 0)
            #expect(server.metric("rivulet_http2_connections_open") == 0)
        }

        @Test("a stream keeps its connection open, and an idle one is closed with a word")
        func idle() throws {
            let server = try ServerUnderTest {
                $0.idleTimeout = .milliseconds(50)
                $0.headerTimeout = .milliseconds(50)
            }
            defer { server.stop() }
            let busy = try HTTP2LoopbackClient(server)
            let streams = busy.openStreams(1)
            let idle = try HTTP2LoopbackClient(server)
            #expect(idle.answer(to: "/echo").status == 200)
            idle.runToEnd()
            #expect(idle.http.goAway?.code == 0)
            #expect(idle.socket.sawEnd)
            // A client that says nothing after its preface is closed too.
            let silent = try server.client()
            silent.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            #expect(!silent.readToEnd().isEmpty)
            #expect(silent.sawEnd)
            #expect(server.metric("rivulet_http_idle_closes_total") == 2)
            try server.onLoop { #expect($0.handler.streams[0].write([9]) == .all) }
            busy.run { $0.answers[streams[0]]?.body == [9] }
            #expect(busy.http.answers[streams[0]]?.body == [9])
        }

        @Test("over TLS the protocol is agreed on, and streams are as exact")
        func overTLS() throws {
            let authority = try TestAuthority()
            let identity = try authority.issue("server")
            var settings = TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile)
            settings.applicationProtocols = HTTPServerSettings().applicationProtocols
            let server = try ServerUnderTest(tls: TLSServer(settings)) {
                $0.sendBufferBytes = 16_384
            }
            defer { server.stop() }
            let url = "https://localhost:\(server.address.port!)/size/200000"
            for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
                let curl = [
                    "curl", "-sS", option, "--cacert", authority.certificateFile, "-o",
                    "/dev/null", "-w", "%{http_version} %{size_download}", url,
                ]
                let run = try #require(ChildProcess.run(curl, in: authority.directory))
                #expect(run.output == "\(version) 200000")
            }
            var trust = TLSClientSettings()
            trust.authorityFile = authority.certificateFile
            let http = HTTP2TestClient(window: 100_000, opensWindows: true)
            let client = try HTTP2LoopbackClient(server, http)
            try client.socket.beginTLS(TLSClientContext(trust))
            let streams = client.openStreams(20)
            let bodies = streams.indices.map { pattern($0 * 9973, from: $0) }
            try feed(server, bodies)
            #expect(client.run { http in streams.allSatisfy { http.answers[$0]!.isEnded } })
            for (stream, body) in zip(streams, bodies) {
                #expect(http.answers[stream]?.body == body)
            }
            try server.onLoop {
                $0.listener.stopAccepting()
                $0.listener.closeIdleConnections()
            }
            client.runToEnd()
            #expect(http.goAway?.code == 0)
            #expect(client.socket.sawEnd)
        }

        @Test("what idle connections and streams cost")
        func memory() throws {
            let server = try ServerUnderTest { $0.http2?.concurrentStreams = 2000 }
            defer { server.stop() }
            let client = try HTTP2LoopbackClient(server)
            _ = client.openStreams(300)
            client.http.forgetAnswers()
            try server.onLoop { $0.handler.streams.reserveCapacity(4096) }
            // The client's own session is in the same heap and grows alike: it is measured alone.
            let alone = clientBytesPerStream()
            let before = clinux_heap_bytes_in_use()
            _ = client.openStreams(1000)
            client.http.forgetAnswers()
            let both = (Int(clinux_heap_bytes_in_use()) - Int(before)) / 1000
            #expect(both - alone < 1000, "\(both - alone) bytes a stream")
        }

        @Test("an idle connection costs no more than 32 KiB")
        func connectionMemory() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            var sockets: [LoopbackClient] = []
            sockets.reserveCapacity(1000)
            let opening =
                Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
            func open(_ count: Int) throws {
                for _ in 0..<count {
                    let socket = try server.client()
                    socket.send(opening)
                    // SETTINGS, and the acknowledgement of the client's own.
                    #expect(socket.read(33 + 9).count == 42)
                    sockets.append(socket)
                }
            }
            try open(50)
            let before = clinux_heap_bytes_in_use()
            try open(200)
            let perConnection = (Int(clinux_heap_bytes_in_use()) - Int(before)) / 200
            #expect(perConnection < 32 << 10, "\(perConnection) bytes")
        }

        private func clientBytesPerStream() -> Int {
            let http = HTTP2TestClient()
            func open(_ count: Int) {
                for _ in 0..<count { _ = http.request("GET", "/stream") }
                _ = http.takeOutput()
                http.forgetAnswers()
            }
            open(300)
            let before = clinux_heap_bytes_in_use()
            open(1000)
            return (Int(clinux_heap_bytes_in_use()) - Int(before)) / 1000
        }
    }
}

func writePieces(_ stream: ByteStream, _ pieces: [[UInt8]]) -> ByteStreamWrite {
    var all = pieces.flatMap { $0 }
    return unsafe all.withUnsafeMutableBytes { raw in
        var offset = 0
        let vectors = unsafe pieces.map { piece in
            defer { offset += piece.count }
            return unsafe iovec(iov_base: raw.baseAddress! + offset, iov_len: piece.count)
        }
        return unsafe vectors.withUnsafeBufferPointer { unsafe stream.write($0) }
    }
}
