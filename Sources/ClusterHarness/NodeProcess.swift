// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerTestKit
import Glibc
import PosixIO

/// What a node says of itself at `/healthz`. What it does not say is `nil`.
package struct NodeHealth: Sendable, Equatable {
    package let status: String
    package let partitions: Int?
    package let connections: Int?
}

/// One node of a cluster under test: `rivulet serve` on a loopback port of its own.
///
/// Threads: any; calls that start or end the process belong to one test at a time. The process
/// ends with the value.
package final class NodeProcess: Sendable {
    package let id: String
    /// Stays the same over restarts.
    package let port: UInt16
    private let program: String
    private let arguments: [String]
    private let directory: TemporaryDirectory
    private let current = Lock<ChildProcess?>(nil)

    /// Prepares a node; ``start()`` starts it.
    ///
    /// - Parameter settings: Further keys and values, such as `server.header_timeout` and `1s`.
    package init(
        id: String, redisURL: String, kafka: [String], settings: [String: String] = [:]
    ) throws(ClusterHarnessError) {
        self.id = id
        program = try BuiltProgram.path()
        directory = try .forTest("rivulet-\(id)")
        guard let port = FreePort.choose() else {
            throw ClusterHarnessError(.noResource, "no free port")
        }
        self.port = port
        let document = """
            node:
              id: \(id)
            server:
              listen: ["127.0.0.1:\(port)"]
              # No balancer has to notice.
              drain_notice: 100ms
            redis:
              url: \(redisURL)
            kafka:
              bootstrap_servers: [\(kafka.map { "\"\($0)\"" }.joined(separator: ", "))]
              # The embedded broker does not wake a fetch when a record arrives.
              fetch_wait_max: 5ms
              session_timeout: 6s
              heartbeat_interval: 1s
            telemetry:
              enabled: false

            """
        do throws(Errno) {
            let file = try directory.write(document, to: "node.yaml")
            arguments =
                ["serve", "--config", file]
                + settings.sorted { $0.key < $1.key }.map { "--\($0.key)=\($0.value)" }
        } catch {
            throw ClusterHarnessError(.noResource, "no configuration file: \(error)")
        }
    }

    deinit { kill() }

    /// Starts the node; it must not run.
    package func start() {
        let child = ChildProcess([program] + arguments, output: "\(directory.path)/output.log")
        let previous = current.withLock { current in
            defer { current = child }
            return current
        }
        precondition(previous?.hasEnded ?? true, "\(id) runs already")
    }

    /// Waits until the node is ready to serve.
    package func waitUntilReady(within limit: Duration = .seconds(30)) throws(ClusterHarnessError) {
        let isReady = Waiting.until(within: limit) { hasEnded || isReadyNow }
        guard isReady, !hasEnded else {
            throw ClusterHarnessError(
                hasEnded ? .processEnded : .timedOut,
                "\(id) is not ready (\(fate)); its log ends:\n\(logEnd)")
        }
    }

    package var isReadyNow: Bool {
        let answer = try? LoopbackHTTP.get("/readyz", port: port, within: .seconds(1))
        return answer?.status == 200
    }

    /// What the node says at `/readyz`; empty where it does not answer.
    package var readiness: (status: Int, text: String) {
        let answer = try? LoopbackHTTP.get("/readyz", port: port, within: .seconds(2))
        return (answer?.status ?? 0, answer?.text ?? "")
    }

    /// `nil` where the node does not answer.
    package func health() -> NodeHealth? {
        let answer = try? LoopbackHTTP.get("/healthz", port: port, within: .seconds(1))
        guard let text = answer?.text else { return nil }
        return NodeHealth(
            status: JSONScan.text("status", in: text) ?? "",
            partitions: JSONScan.number("partitions", in: text),
            connections: JSONScan.number("connections", in: text))
    }

    /// The sum of a metric over its labels, or over those that contain `label`; 0 where the node
    /// has none or does not answer.
    package func metric(_ name: String, containing label: String = "") -> Double {
        let answer = try? LoopbackHTTP.get("/metrics", port: port, within: .seconds(2))
        var sum = 0.0
        for line in (answer?.text ?? "").split(separator: "\n") where line.hasPrefix(name) {
            let rest = line.dropFirst(name.count)
            guard rest.first == "{" || rest.first == " ", label.isEmpty || rest.contains(label),
                let value = rest.split(separator: " ").last.flatMap({ Double($0) })
            else { continue }
            sum += value
        }
        return sum
    }

    // MARK: - What happens to nodes

    /// Sends SIGTERM: drain, then end.
    package func terminate() { process?.send(SIGTERM) }

    /// Sends SIGINT, as Ctrl-C does.
    package func interrupt() { process?.send(SIGINT) }

    /// Ends it with SIGKILL and waits until it is gone.
    package func kill() { process?.kill() }

    package func pause() { process?.pause() }

    package func resume() { process?.resume() }

    /// How it ended; `nil` where it runs after `limit`.
    package func waitForEnd(within limit: Duration) -> ChildProcess.End? {
        process?.waitForEnd(within: limit)
    }

    package var hasEnded: Bool { process?.hasEnded ?? true }

    package var logEnd: String { directory.end(of: "output.log", bytes: 4000) }

    /// Whether it runs or how it ended, in words.
    package var fate: String {
        guard let process else { return "never started" }
        return process.end.map { "ended with \($0)" } ?? "runs"
    }

    private var process: ChildProcess? { current.withLock { $0 } }
}
