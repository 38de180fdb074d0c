// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import Glibc
import PosixIO
import TLSEngine
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("TLS")
    struct TLSTests {
        let authority: TestAuthority
        let settings: TLSServerSettings
        let trust: TLSClientContext

        init() throws {
            authority = try TestAuthority()
            let identity = try authority.issue("server")
            settings = TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile)
            var client = TLSClientSettings()
            client.authorityFile = authority.certificateFile
            trust = try TLSClientContext(client)
        }

        private func client(
            _ server: ServerUnderTest, receiveBufferBytes: CInt? = nil
        ) throws -> LoopbackClient {
            let client = try server.client(receiveBufferBytes: receiveBufferBytes)
            try client.beginTLS(trust)
            return client
        }

        private func openStream(
            _ server: ServerUnderTest, receiveBufferBytes: CInt? = nil
        ) throws -> LoopbackClient {
            let open = server.metric("rivulet_http_streams_opened_total")
            let client = try client(server, receiveBufferBytes: receiveBufferBytes)
            client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(client.readAnswer()?.status == 200)
            #expect(
                eventually { server.metric("rivulet_http_streams_opened_total") == open + 1 })
            return client
        }

        /// Runs `openssl s_client` against the server and returns what it printed.
        private func opensslClient(_ server: ServerUnderTest, _ arguments: [String]) throws
            -> String
        {
            let command =
                [
                    "openssl", "s_client", "-connect", "\(server.address)", "-CAfile",
                    authority.certificateFile,
                ] + arguments
            return try #require(ChildProcess.run(command, in: authority.directory)).output
        }

        private func failures(_ server: ServerUnderTest, _ reason: String) -> Double {
            server.metric("rivulet_tls_handshake_failures_total{reason=\"\(reason)\"}")
        }

        @Test("requests over TLS are answered, one after the other and pipelined")
        func requests() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            let client = try client(server)
            for size in [0, 1, 16_384, 16_385, 300_000] {
                client.send("GET /size/\(size) HTTP/1.1\r\nHost: a\r\n\r\n")
                let isSame = client.readAnswer()?.body == pattern(size)
                #expect(isSame, "\(size) bytes")
            }
            let body = pattern(100_000).map { $0 & 0x7f }
            client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.count)\r\n\r\n")
            client.send(body)
            client.send("GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            #expect(client.readAnswer()?.body.count == body.count + 8)
            #expect(client.readAnswer()?.text == "GET /b|")
            #expect(client.readToEnd() == [])
            #expect(client.sawEnd)
            #expect(
                server.metric("rivulet_tls_handshakes_total{version=\"1.3\",resumed=\"no\"}") == 1)
            #expect(server.metric("rivulet_tls_handshakes_pending") == 0)
            #expect(server.metric("rivulet_tls_certificate_expiry_seconds") > 86_400)
        }

        @Test("curl, which checks the certificate and how the answer ends, is content")
        func curl() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            let url = "https://localhost:\(server.address.port!)/size/100000"
            for option in [["--http1.1"], ["--tlsv1.3"], ["--tls-max", "1.2"], ["-0"]] {
                let file = authority.directory.path + "/body"
                let command =
                    ["curl", "-sS", "--cacert", authority.certificateFile, "-o", file] + option
                let run = try #require(ChildProcess.run(command + [url], in: authority.directory))
                #expect(run.end == .exited(0), "\(option): \(run.output)")
            }
            // The end of the connection is the end of this one: curl asks for a close_notify.
            let finite = try #require(
                ChildProcess.run(
                    [
                        "curl", "-sS", "--cacert", authority.certificateFile,
                        "https://localhost:\(server.address.port!)/finite",
                    ], in: authority.directory))
            #expect(finite.end == .exited(0) && finite.output == "all of it", "\(finite.output)")
            let stranger = try #require(
                ChildProcess.run(["curl", "-sS", url], in: authority.directory))
            #expect(stranger.end == .exited(60))
            // curl closes right behind its alert, and a connection that is reset in between may
            // take the alert with it.
            let reasons = ["peerAlert", "peerClosed", "socketFailed"]
            #expect(eventually { reasons.reduce(0) { $0 + failures(server, $1) } == 1 })
        }

        @Test("the protocol is chosen by name, and a stranger's only choice is refused")
        func protocolNames() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            let known = try opensslClient(server, ["-alpn", "spdy/1,http/1.1"])
            #expect(known.contains("ALPN protocol: http/1.1"))
            let unknown = try opensslClient(server, ["-alpn", "spdy/1"])
            #expect(unknown.contains("no application protocol"))
            #expect(eventually { failures(server, "noApplicationProtocol") == 1 })
            let silent = try opensslClient(server, [])
            #expect(silent.contains("No ALPN negotiated"))
        }

        @Test("versions below 1.2 are refused, and 1.2 where 1.3 is the least")
        func versions() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            // Security level 0 lets this client speak what it would not offer by itself.
            let old = try opensslClient(server, ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
            #expect(old.contains("alert protocol version"))
            #expect(eventually { failures(server, "protocolVersion") == 1 })
            #expect(try opensslClient(server, ["-tls1_2"]).contains("Verify return code: 0"))
            var strict = settings
            strict.minimumVersion = .v13
            let strictServer = try ServerUnderTest(tls: TLSServer(strict))
            defer { strictServer.stop() }
            #expect(try opensslClient(strictServer, ["-tls1_2"]).contains("alert protocol version"))
            #expect(try opensslClient(strictServer, ["-tls1_3"]).contains("Verify return code: 0"))
        }

        @Test("a session is resumed with its ticket", arguments: ["-tls1_2", "-tls1_3"])
        func resumption(version: String) throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            let file = authority.directory.path + "/session\(version).pem"
            let script = """
                printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | \
                openssl s_client -connect \(server.address) -CAfile \(authority.certificateFile) \
                -ign_eof \(version) -sess_out \(file)
                """
            let first = try #require(
                ChildProcess.run(["sh", "-c", script], in: authority.directory))
            #expect(first.output.contains("New, TLSv"))
            let second = try opensslClient(server, [version, "-sess_in", file])
            #expect(second.contains("Reused, TLSv"))
            let number = version == "-tls1_2" ? "1.2" : "1.3"
            #expect(
                server.metric(
                    "rivulet_tls_handshakes_total{version=\"\(number)\",resumed=\"yes\"}") == 1)
        }

        @Test(
            "a client certificate is required, asked for or ignored",
            arguments: [ClientCertificates.required, .optional, .off])
        func clientCertificates(rule: ClientCertificates) throws {
            var asking = settings
            asking.clientCertificates = rule
            asking.clientAuthorityFile = authority.certificateFile
            let server = try ServerUnderTest(tls: TLSServer(asking))
            defer { server.stop() }
            let known = try authority.issue("client")
            let otherAuthority = try TestAuthority()
            let stranger = try otherAuthority.issue("stranger")
            func curl(_ identity: TestAuthority.Identity?) throws -> Bool {
                let shown = identity.map { ["--cert", $0.certificateFile, "--key", $0.keyFile] }
                let command =
                    ["curl", "-sS", "--cacert", authority.certificateFile] + (shown ?? [])
                    + ["https://localhost:\(server.address.port!)/"]
                let run = try #require(ChildProcess.run(command, in: authority.directory))
                return run.end == .exited(0)
            }
            #expect(try curl(known))
            #expect(try curl(nil) == (rule != .required))
            // The client hears of it first.
            #expect(
                eventually { failures(server, "certificateMissing") == (rule == .required ? 1 : 0) }
            )
            #expect(try curl(stranger) == (rule == .off))
            #expect(
                eventually { failures(server, "certificateRejected") == (rule == .off ? 0 : 1) })
        }

        @Test("a slow reader of a stream gets every byte, and then the end")
        func slowReader() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings)) {
                $0.sendBufferBytes = 16_384
            }
            defer { server.stop() }
            let client = try openStream(server, receiveBufferBytes: 4096)
            let total = 4_000_000
            let sent = Lock(0)
            let sendOn: @Sendable (ByteStream) -> Void = { stream in
                while true {
                    let start = sent.withLock { $0 }
                    // Of many sizes: below a record, a record, several.
                    let count = min(total - start, 1 + start % 40_000)
                    guard count > 0 else { return stream.finish() }
                    switch stream.write(pattern(count, from: start)) {
                    case .all: sent.withLock { $0 += count }
                    case .some(let taken):
                        sent.withLock { $0 += taken }
                        return
                    case .ended: return
                    }
                }
            }
            try server.onLoop { shard in
                shard.handler.whenWritable = sendOn
                let stream = shard.handler.streams[0]
                sendOn(stream)
                #expect(sent.withLock { $0 } < total)
                #expect(stream.unsentBytes > 0)
                #expect(stream.write([0]) == .some(0))
            }
            let received = client.readToEnd()
            let isSame = received == pattern(total)
            #expect(isSame, "\(received.count) of \(total) bytes")
            #expect(client.sawEnd)
            #expect(server.record.withLock { $0.writableCalls } > 0)
            #expect(eventually { server.record.withLock { $0.ended } == [.finished] })
        }

        @Test("what a stream took before it was finished arrives, however full the socket was")
        func finishWhileFull() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings)) {
                $0.sendBufferBytes = 16_384
            }
            defer { server.stop() }
            let client = try openStream(server, receiveBufferBytes: 4096)
            let taken = try server.onLoop { shard in
                let stream = shard.handler.streams[0]
                var taken = 0
                while case .all = stream.write(pattern(5000, from: taken)) { taken += 5000 }
                stream.finish()
                return taken
            }
            let isSame = client.readToEnd() == pattern(taken)
            #expect(isSame && taken > 0)
            #expect(client.sawEnd)
        }

        @Test("a reload serves new connections and drops nobody")
        func reload() throws {
            let tls = try TLSServer(settings)
            let server = try ServerUnderTest(loops: 2, tls: tls)
            defer { server.stop() }
            let clients = try (0..<20).map { _ in try openStream(server) }
            _ = try authority.issue("server")
            try tls.reload()
            let after = try openStream(server)
            for index in 0..<2 {
                try server.onLoop(index) { shard in
                    for stream in shard.handler.streams { #expect(stream.write([1, 2]) == .all) }
                }
            }
            for client in clients + [after] { #expect(client.read(2) == [1, 2]) }
            #expect(server.record.withLock { $0.ended } == [])
        }

        @Test("a client that is silent or stops in the handshake is closed in time")
        func slowHandshake() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings)) {
                $0.headerTimeout = .milliseconds(100)
            }
            defer { server.stop() }
            let silent = try server.client()
            let halfway = try server.client()
            halfway.send([0x16, 3, 1, 2, 0, 1])
            #expect(silent.readToEnd() == [] && halfway.readToEnd() == [])
            #expect(eventually { failures(server, "timeout") == 2 })
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            #expect(server.metric("rivulet_tls_handshakes_pending") == 0)
        }

        @Test("a plain request on a TLS port is told so, and garbage is turned away")
        func foreign() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            let plain = try server.client()
            plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try #require(plain.readAnswer())
            #expect(answer.status == 400 && answer.text.contains("https://"))
            #expect(plain.readToEnd() == [] && plain.sawEnd)
            for bytes in [[0], [0xff, 0xfe], [0x15, 3, 1, 0, 2, 1, 0], pattern(5000)] as [[UInt8]] {
                let client = try server.client()
                client.send(bytes)
                _ = client.readToEnd()
                #expect(client.sawEnd || client.sawReset)
            }
            let hello = try server.client()
            hello.send([0x16, 3, 1, 0, 4, 9, 9, 9, 9])
            // The alert "unexpected message" comes before the end.
            #expect(hello.readToEnd().first == 0x15)
            #expect(
                eventually {
                    failures(server, "plainHTTP") == 1 && failures(server, "notTLS") == 4
                })
            #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            #expect(try client(server).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        }

        @Test("a thousand handshakes, good and bad, leave nothing behind")
        func leaks() throws {
            let server = try ServerUnderTest(tls: TLSServer(settings))
            defer { server.stop() }
            func round(_ count: Int) throws {
                for index in 0..<count {
                    switch index % 4 {
                    case 0:
                        let client = try client(server)
                        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                        #expect(client.readAnswer()?.status == 200)
                    case 1: _ = try client(server)
                    case 2: try client(server).reset()
                    default: try server.client().send([0x16, 3, 1, 0, 200, 1])
                    }
                }
                #expect(eventually { server.metric("rivulet_http_connections_open") == 0 })
            }
            // The first ones pay for what OpenSSL keeps for good.
            try round(400)
            let before = Int(clinux_heap_bytes_in_use())
            try round(1000)
            let grown = Int(clinux_heap_bytes_in_use()) - before
            #expect(grown < 200_000, "\(grown) bytes more than before")
        }

        @Test("at the limit a connection over TLS is answered with 503")
        func limit() throws {
            let budget = ConnectionBudget(limit: 1)
            let server = try ServerUnderTest(budget: budget, tls: TLSServer(settings))
            defer { server.stop() }
            let admitted = try openStream(server)
            let rejected = try client(server)
            rejected.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(rejected.readAnswer()?.status == 503)
            admitted.close()
            #expect(eventually { budget.inUse == 0 })
        }
    }
}
