// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CBenchFloor
import Glibc
import KafkaClient
import Observability
import PosixIO

/// The servers that this program starts as processes of their own, by calling itself.
///
/// Their arguments are made by this program alone, so they are in no help.
enum HelperServer: String {
    /// `kafka TOPIC PARTITIONS READY-FILE`: librdkafka's mock cluster.
    case kafka = "serve-kafka"
    /// `floor PORT EVENT-BYTES`: the server in C.
    case floor = "serve-floor"
    /// `node CONFIGURATION REPORT`: a node that counts what it allocates.
    case node = "serve-node"
    /// `hold PORT PATH COUNT SOURCE READY-FILE`: connections that are kept open and read.
    case hold = "hold-streams"

    func run(_ arguments: [String]) throws(BenchmarkError) {
        switch (self, arguments.count) {
        case (.kafka, 3): try Self.serveKafka(arguments)
        case (.floor, 2): try Self.serveFloor(arguments)
        case (.node, 2): try CountedNode.run(configuration: arguments[0], report: arguments[1])
        case (.hold, 5): try StreamHolder.run(arguments)
        default: throw BenchmarkError(.usage, "\(rawValue) is started by the benchmarks alone")
        }
    }

    private static func serveKafka(_ arguments: [String]) throws(BenchmarkError) {
        let cluster: KafkaMockCluster
        do throws(KafkaError) {
            cluster = try KafkaMockCluster(brokers: 1, log: Logger("kafka", lowest: .error))
            if !arguments[0].isEmpty {
                try cluster.createTopic(arguments[0], partitions: Int(arguments[1]) ?? 1)
            }
        } catch {
            throw BenchmarkError(.unavailable, "no mock Kafka: \(error)")
        }
        try writeLine(cluster.bootstrapServers.joined(separator: ","), to: arguments[2])
        withExtendedLifetime(cluster) {
            while true { pause() }
        }
    }

    /// One write, so that whoever waits for the line's end reads all of it.
    static func writeLine(_ line: String, to path: String) throws(BenchmarkError) {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, flags: O_WRONLY | O_CREAT | O_TRUNC)
            let bytes = Array((line + "\n").utf8)
            let number = file.number
            let count = unsafe bytes.withUnsafeBytes {
                unsafe write(number, $0.baseAddress, $0.count)
            }
            guard count == bytes.count else { throw .current }
        } catch {
            throw BenchmarkError(.unavailable, "cannot write \(path): \(error)")
        }
    }

    private static func serveFloor(_ arguments: [String]) throws(BenchmarkError) {
        guard let port = UInt16(arguments[0]), let bytes = Int32(arguments[1]) else {
            throw BenchmarkError(.usage, "\(arguments) are no port and size")
        }
        let code = benchfloor_serve(port, bytes)
        throw BenchmarkError(.unavailable, "the floor cannot serve port \(port): \(Errno(code))")
    }

    /// The command that starts this program as one of its servers.
    func command(_ arguments: [String]) -> [String] {
        var path = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &path, path.count - 1)
        let bytes = path.prefix(max(0, count)).map { UInt8(bitPattern: $0) }
        return [String(decoding: bytes, as: UTF8.self), rawValue] + arguments
    }
}

/// A process that a benchmark starts, with a directory for what it writes.
///
/// Ends with the value.
final class ServerProcess: Sendable {
    let id: pid_t
    let directory: TemporaryDirectory
    private let child: ChildProcess
    private let name: String

    private static let startLimit: Duration = .seconds(20)

    /// Starts the process and waits until `isReady` says that it serves.
    ///
    /// It runs on the processors that the calling thread may use.
    init(
        _ name: String, in directory: TemporaryDirectory, command: [String],
        within limit: Duration = startLimit, isReady: () -> Bool
    ) throws(BenchmarkError) {
        self.name = name
        self.directory = directory
        let child = ChildProcess(command, output: "\(directory.path)/output.log")
        self.child = child
        let deadline = MonotonicTime.now + limit
        while child.id == nil || !isReady() {
            guard !child.hasEnded, MonotonicTime.now < deadline else {
                let end = child.end.map { "ended with \($0)" } ?? "does not answer"
                child.kill()
                throw BenchmarkError(
                    .unavailable,
                    "\(name) \(end): \(directory.end(of: "output.log", bytes: 2000))")
            }
            _ = poll(nil, 0, 5)
        }
        id = child.id ?? 0
    }

    deinit { child.kill() }

    /// Throws where the process has ended.
    func checkAlive() throws(BenchmarkError) {
        guard let end = child.end else { return }
        throw BenchmarkError(
            .failed, "\(name) ended with \(end): \(directory.end(of: "output.log", bytes: 2000))")
    }

    static func temporaryDirectory(_ name: String) throws(BenchmarkError) -> TemporaryDirectory {
        do throws(Errno) {
            return try TemporaryDirectory("rivulet-bench-\(name)")
        } catch {
            throw BenchmarkError(.unavailable, "no temporary directory: \(error)")
        }
    }

    static func freePort() throws(BenchmarkError) -> UInt16 {
        guard let port = FreePort.choose() else {
            throw BenchmarkError(.unavailable, "no free port on 127.0.0.1")
        }
        return port
    }
}
