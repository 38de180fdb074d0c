// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Observability
import PosixIO
import Reactor
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Listeners")
    struct ListenerTests {
        private static let request = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"

        @Test("two loops share a port, and each serves what it accepted")
        func twoLoops() throws {
            let server = try ServerUnderTest(loops: 2)
            defer { server.stop() }
            var clients: [LoopbackClient] = []
            // The kernel spreads by the client's port: one loop alone is as likely as 2^-63.
            for _ in 0..<64 {
                let client = try server.client()
                client.send(Self.request)
                #expect(client.readAnswer()?.status == 200)
                clients.append(client)
            }
            let perLoop = server.record.withLock { $0.requestsPerLoop }
            #expect(perLoop.count == 2)
            #expect(perLoop.values.reduce(0, +) == 64)
        }

        @Test("a port in use is named")
        func portInUse() throws {
            // Without SO_REUSEPORT on both sides the port is one socket's alone.
            let other = try StreamSocket.listen(
                on: .loopback(port: 0), backlog: 1, sharesPort: false)
            let address = try StreamSocket.localAddress(of: other.number)
            let loop = try EventLoop(name: "http")
            let listener = HTTPListener(
                loop: loop, address: address, settings: HTTPServerSettings(),
                handler: PathHandler(index: 0, record: Lock(.init())),
                metrics: HTTPServerMetrics(MetricsRegistry()), admission: nil,
                log: Logger("http", sink: { _ in }))
            let bound = LoopBound(listener, on: loop)
            let outcome = Lock<HTTPServerError?>(nil)
            loop.start()
            loop.post {
                do throws(HTTPServerError) { try bound.value.start() } catch {
                    outcome.withLock { $0 = error }
                }
            }
            #expect(eventually { outcome.withLock { $0 != nil } })
            loop.stop()
            #expect(loop.join(within: .seconds(10)))
            let error = outcome.withLock { $0 }
            #expect(error?.code == .addressInUse)
            #expect(error?.detail.contains(address.description) == true)
            try other.close()
        }

        @Test("a stopped listener refuses, and ends what is open with its reason")
        func stops() throws {
            let server = try ServerUnderTest()
            let streaming = try server.client()
            streaming.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(streaming.readAnswer()?.status == 200)
            let idle = try server.client()
            idle.send(Self.request)
            #expect(idle.readAnswer()?.status == 200)
            try server.onLoop { shard in
                shard.listener.stop()
                #expect(shard.listener.connectionCount == 0)
            }
            #expect(server.record.withLock { $0.ended } == [.listenerStopped])
            #expect(streaming.readToEnd() == [])
            #expect(idle.readToEnd() == [])
            #expect(throws: Errno(ECONNREFUSED)) { _ = try server.client() }
            #expect(server.metric("rivulet_http_connections_open") == 0)
            server.stop()
        }

        @Test("a listener that announces a drain goes on, one request a connection")
        func announces() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let early = try server.client()
            early.send(Self.request)
            #expect(early.readAnswer()?.header("connection") != "close")
            try server.onLoop { $0.listener.announceDrain() }
            let late = try server.client()
            for client in [early, late] {
                client.send(Self.request)
                #expect(client.readAnswer()?.header("connection") == "close")
                #expect(client.readToEnd() == [])
                client.close()
            }
        }

        @Test("a draining listener lets requests finish and closes what is idle")
        func drains() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let busy = try server.client()
            busy.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(eventually { server.record.withLock { $0.requests.count } == 1 })
            let idle = try server.client()
            idle.send(Self.request)
            #expect(idle.readAnswer()?.status == 200)
            // Accepted by the kernel, and by the listener before it closes.
            let late = try server.client()
            late.send(Self.request)
            try server.onLoop { shard in
                shard.listener.stopAccepting()
                shard.listener.closeIdleConnections()
            }
            #expect(throws: Errno(ECONNREFUSED)) { _ = try server.client() }
            #expect(idle.readToEnd() == [])
            try server.onLoop { $0.handler.waiting.removeFirst().respond(status: 200, body: [1]) }
            let answer = try #require(busy.readAnswer())
            #expect(answer.header("connection") == "close")
            #expect(busy.readToEnd() == [])
            for client in [busy, idle, late] { client.close() }
            #expect(eventually { (try? server.onLoop { $0.listener.connectionCount }) == 0 })
        }

        @Test("a thousand connections leave no descriptor behind")
        func noLeak() throws {
            let server = try ServerUnderTest()
            defer { server.stop() }
            let before = openDescriptors()
            for number in 0..<1000 {
                let client = try server.client()
                switch number % 5 {
                case 0: break
                case 1:
                    client.send(Self.request)
                    #expect(client.readAnswer()?.status == 200)
                case 2: client.send("GET / HT")
                case 3:
                    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
                    #expect(client.readAnswer()?.status == 200)
                default: client.send("\0garbage")
                }
                if number % 2 == 0 { client.reset() } else { client.close() }
            }
            // The last ones may still wait to be accepted when their clients have gone.
            #expect(
                eventually { server.metric("rivulet_http_connections_accepted_total") == 1000 })
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            #expect(eventually { openDescriptors() == before })
            try server.onLoop { #expect($0.listener.connectionCount == 0) }
        }

        @Test("without a descriptor left a connection is closed rather than left waiting")
        func descriptorsRunOut() throws {
            let server = try ServerUnderTest { $0.acceptPause = .milliseconds(10) }
            defer { server.stop() }
            let client = try server.client()
            client.send(Self.request)
            #expect(client.readAnswer()?.status == 200)
            let usual = descriptorLimit()
            let waiting = try LoopbackClient()
            // No number below the lowest free one is free.
            setDescriptorLimit(rlim_t(try LoopbackClient().number))
            defer { setDescriptorLimit(usual) }
            try waiting.connect(to: server.address)
            let series = #"rivulet_http_connections_rejected_total{reason="descriptors"}"#
            #expect(eventually { server.metric(series) >= 1 })
            #expect(waiting.readToEnd() == [])
            #expect(waiting.sawEnd || waiting.sawReset)
            // What is open is served on.
            client.send(Self.request)
            #expect(client.readAnswer()?.status == 200)
            setDescriptorLimit(usual)
            let next = try server.client()
            next.send(Self.request)
            #expect(next.readAnswer()?.status == 200)
        }

        private func descriptorLimit() -> rlim_t {
            var limit = rlimit()
            _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            return limit.rlim_cur
        }

        private func setDescriptorLimit(_ count: rlim_t) {
            var limit = rlimit()
            _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            limit.rlim_cur = count
            _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }

        private func openDescriptors() -> Int {
            guard let directory = unsafe opendir("/proc/self/fd") else { return -1 }
            defer { unsafe closedir(directory) }
            var count = 0
            while unsafe readdir(directory) != nil { count += 1 }
            return count
        }
    }
}
