// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import HTTP1Wire
import NodeConfiguration
import PosixIO
import Testing

@testable import BrokerNode

@Suite("A node that is told to drain", .serialized)
struct DrainNodeTests {
    private func post(_ port: UInt16, _ headers: String = "") throws -> String {
        let request =
            "POST /admin/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\(headers)"
            + "Connection: close\r\n\r\n"
        return try LoopbackHTTP.exchange(
            Array(request.utf8), port: port, within: .seconds(10)
        ).text
    }

    @Test("says so everywhere, admits nobody, and asks its program to stop once")
    func draining() throws {
        let bench = try NodeBench()
        let port = try bench.start()
        defer { bench.stop() }
        #expect(Waiting.until(within: .seconds(20)) { isReady(port) })
        #expect(try post(port).hasPrefix("HTTP/1.1 501 "), "nobody would stop it")
        let stops = Lock(0)
        bench.whenAskedToStop { stops.withLock { $0 += 1 } }
        #expect(try get("/admin/drain", port).status == 405)
        #expect(isReady(port), "a GET drains nothing")
        #expect(try post(port, "Origin: http://evil.example\r\n").hasPrefix("HTTP/1.1 403 "))
        #expect(isReady(port))

        #expect(try post(port).hasPrefix("HTTP/1.1 202 "))
        #expect(try post(port).contains("\"began_now\":false"))
        #expect(stops.withLock { $0 } == 1)
        let ready = try get("/readyz", port)
        #expect(ready.status == 503)
        #expect(ready.text.contains("\"status\":\"draining\""))
        #expect(try get("/readyz?draining=404", port).status == 404)
        #expect(try get("/healthz", port).status == 200)
        for path in ["/api/v1/sse/system", "/sse/events"] {
            let refused = try get(path, port)
            #expect(refused.status == 503, "\(path)")
            #expect(refused.headers.first("Retry-After") != nil, "\(path)")
        }
        let isTold = Waiting.until(within: .seconds(10)) {
            (try? get("/cluster", port).text.contains("\"state\":\"draining\"")) ?? false
        }
        #expect(isTold, "by its lease")
    }

    @Test("shares out what one step takes, no shard more than it has")
    func shares() {
        #expect(NodeDrain.shares(of: 10, over: [50, 50]) == [5, 5])
        #expect(NodeDrain.shares(of: 3, over: [1, 0, 9]) == [1, 0, 2])
        #expect(NodeDrain.shares(of: 99, over: [2, 3]) == [2, 3])
        #expect(NodeDrain.shares(of: 5, over: [0, 0]) == [0, 0])
        for count in 0...30 {
            let shares = NodeDrain.shares(of: count, over: [7, 1, 0, 13, 9])
            #expect(shares.reduce(0, +) == count)
            #expect(zip(shares, [7, 1, 0, 13, 9]).allSatisfy { $0 <= $1 })
        }
    }
}

@Suite("Who may tell a node what to do")
struct AdminGateTests {
    private static let near = SocketAddress.loopback(port: 1)
    private static let far = SocketAddress.ipv4(0x0a00_0001, port: 1)

    private func status(
        _ gate: AdminGate, _ peer: SocketAddress, _ name: StaticString = "Accept",
        _ value: String = "x"
    ) -> Int? {
        var headers = HTTPHeaders()
        headers.append(name, value)
        return gate.refusal(headers, peer: peer)?.status
    }

    @Test("without a token: the same machine, and nobody through a proxy or a browser")
    func withoutToken() {
        let gate = AdminGate(token: nil)
        #expect(status(gate, Self.near) == nil)
        #expect(status(gate, Self.far) == 403)
        #expect(status(gate, .unix("/run/x")) == nil)
        for name in ["X-Forwarded-For", "Forwarded", "Via", "Origin", "origin"] as [StaticString] {
            #expect(status(gate, Self.near, name) == 403, "\(name)")
        }
    }

    @Test("with a token: whoever shows it, from anywhere, and nobody else")
    func withToken() {
        let gate = AdminGate(token: Secret("open sesame"))
        #expect(status(gate, Self.far, "Authorization", "Bearer open sesame") == nil)
        #expect(status(gate, Self.far, "Authorization", "bearer open sesame") == nil)
        #expect(status(gate, Self.near) == 401, "being near is not enough")
        for wrong in [
            "", "Bearer", "Bearer ", "Bearer open", "Bearer open sesame2",
            "Bearer open sesamf", "Basic open sesame", "open sesame",
            "Bearer open sesameopen sesame",
        ] {
            #expect(status(gate, Self.far, "Authorization", wrong) == 401, "\(wrong)")
        }
        var twice = HTTPHeaders()
        twice.append("Authorization", "Bearer open sesame")
        twice.append("Authorization", "Bearer other")
        #expect(gate.refusal(twice, peer: Self.near)?.status == 401)
    }

    @Test("knows the addresses of the same machine")
    func loopback() {
        let near = ["127.0.0.1", "127.200.3.4", "::1", "::ffff:127.0.0.1"]
        let far = ["128.0.0.1", "10.127.0.1", "::2", "::", "::ffff:10.0.0.1", "fe80::1", "1::1"]
        for text in near { #expect(SocketAddress(numericHost: text, port: 1)?.isLoopback == true) }
        for text in far { #expect(SocketAddress(numericHost: text, port: 1)?.isLoopback == false) }
    }
}
