// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import PosixIO
import Testing

extension Cluster {
    @Suite("ends", .serialized)
    struct Shutdown {
        /// Opens a stream by hand and keeps its bytes until the node closes it.
        private func watchStream(
            of node: NodeProcess
        ) -> (NamedThread, Lock<LoopbackHTTP.Exchange?>) {
            let result = Lock<LoopbackHTTP.Exchange?>(nil)
            let thread = NamedThread("watcher") {
                let request = "GET \(Cluster.detections) HTTP/1.1\r\nHost: x\r\n\r\n"
                let exchange = try? LoopbackHTTP.exchange(
                    Array(request.utf8), port: node.port, within: .seconds(30))
                result.withLock { $0 = exchange }
            }
            return (thread, result)
        }

        @Test("on SIGTERM with a delay for each client and exit code 0")
        func drain() throws {
            let cluster = try TestCluster(nodes: 1)
            let node = cluster.nodes[0]
            let (watcher, result) = watchStream(of: node)
            try #require(
                Waiting.until(within: .seconds(10)) { node.health()?.connections ?? 0 > 0 },
                "\(cluster.diagnosis)")

            node.terminate()
            #expect(node.waitForEnd(within: .seconds(15)) == .exited(0), "\(cluster.diagnosis)")
            try #require(watcher.join(within: .seconds(35)))
            let stream = try #require(result.withLock { $0 })
            #expect(stream.end == .closed, "all that was sent arrives")
            // One when the stream begins and one before it ends.
            #expect(stream.text.split(separator: "retry:").count > 2, "\(stream.text)")
        }

        @Test("at once on a second SIGINT")
        func secondInterrupt() throws {
            let cluster = try TestCluster(nodes: 1, settings: ["server.drain": "60s"])
            let node = cluster.nodes[0]
            let (watcher, _) = watchStream(of: node)
            try #require(
                Waiting.until(within: .seconds(10)) { node.health()?.connections ?? 0 > 0 },
                "\(cluster.diagnosis)")
            node.interrupt()
            node.interrupt()
            #expect(node.waitForEnd(within: .seconds(5)) != nil, "\(cluster.diagnosis)")
            #expect(watcher.join(within: .seconds(35)))
        }
    }
}
