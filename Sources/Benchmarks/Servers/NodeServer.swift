// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO

/// `rivulet serve` with one serving loop: the node that is measured.
final class NodeServer: Sendable {
    let port: UInt16
    let process: ServerProcess

    /// Starts a node and waits until it is ready for streams.
    ///
    /// - Parameters:
    ///   - id: Its name in the cluster.
    ///   - server: More lines of its `server` section.
    ///   - settings: Lines of its configuration file besides that and the addresses.
    ///   - countsAllocations: Runs it in this program, which counts them.
    init(
        redis: RedisServer, kafka: [String], group: String, prefix: String, id: String = "bench",
        server: [String] = [], settings: String = "", countsAllocations: Bool = false
    ) throws(BenchmarkError) {
        let directory = try ServerProcess.temporaryDirectory("node")
        let port = try ServerProcess.freePort()
        self.port = port
        let document = """
            node:
              id: \(id)
            server:
              listen: ["127.0.0.1:\(port)"]
              loops: 1
            \(server.map { "  \($0)\n" }.joined())redis:
              url: \(redis.url)
              key_prefix: \(prefix)
            kafka:
              bootstrap_servers: [\(kafka.map { "\"\($0)\"" }.joined(separator: ", "))]
              group_id: \(group)
              auto_offset_reset: earliest
              # The mock cluster does not wake a fetch when a record arrives.
              fetch_wait_max: 5ms
            # What is measured is what the benchmark sends.
            telemetry:
              enabled: false
            canary:
              enabled: false

            """
        let command: [String]
        do {
            let file = try directory.write(document + settings, to: "node.yaml")
            command =
                countsAllocations
                ? HelperServer.node.command([file, "\(directory.path)/allocations"])
                : [try BuiltProgram.path(), "serve", "--config", file]
        } catch {
            throw BenchmarkError(.unavailable, "\(error)")
        }
        process = try ServerProcess("the node", in: directory, command: command) {
            let answer = try? LoopbackHTTP.get("/readyz", port: port, within: .seconds(1))
            return answer?.status == 200
        }
    }

    /// What the node has done so far.
    struct Progress: Sendable {
        var ingested = 0
        var tailed = 0
    }

    /// `nil` where the node does not answer within a second.
    func progress() -> Progress? {
        guard let page = try? LoopbackHTTP.get("/healthz", port: port, within: .seconds(1)),
            let ingested = Self.number("events_ingested", in: page.text),
            let tailed = Self.number("events_tailed", in: page.text)
        else { return nil }
        return Progress(ingested: ingested, tailed: tailed)
    }

    /// How many system calls the node has made to write events; `nil` where it does not answer.
    func writes() -> Int? { metric("rivulet_writes_total").map { Int($0) } }

    /// The sum of a metric over its labels; `nil` where the node does not answer.
    func metric(_ name: String) -> Double? { metrics([name])?[0] }

    /// The same of several metrics, from one page.
    func metrics(_ names: [String]) -> [Double]? {
        guard let page = try? LoopbackHTTP.get("/metrics", port: port, within: .seconds(2)) else {
            return nil
        }
        var sums = names.map { _ in 0.0 }
        for line in page.text.split(separator: "\n") {
            for (index, name) in names.enumerated() {
                guard line.hasPrefix(name), let next = line.dropFirst(name.count).first,
                    next == "{" || next == " "
                else { continue }
                sums[index] += line.split(separator: " ").last.flatMap { Double($0) } ?? 0
            }
        }
        return sums
    }

    private static func number(_ name: String, in text: String) -> Int? {
        for field in text.split(whereSeparator: { $0 == "," || $0 == "{" || $0 == "}" })
        where field.hasPrefix("\"\(name)\":") {
            return Int(field.dropFirst(name.count + 3))
        }
        return nil
    }
}
