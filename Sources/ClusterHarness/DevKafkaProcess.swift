// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerTestKit
import Glibc
import PosixIO

/// The embedded Kafka of `rivulet dev-kafka`, with all topics of the default configuration.
///
/// Ends with the value. What it stores is in its memory only.
package final class DevKafkaProcess: Sendable {
    package let bootstrapServers: [String]
    package let process: ChildProcess
    private let directory: TemporaryDirectory

    private static let startLimit: Duration = .seconds(20)

    /// Starts it and waits until it takes connections.
    package init(brokers: Int = 3, partitions: Int = 24) throws(ClusterHarnessError) {
        let program = try BuiltProgram.path()
        directory = try .forTest("rivulet-kafka")
        let file = "\(directory.path)/bootstrap"
        let process = ChildProcess(
            [
                program, "dev-kafka", "--brokers", "\(brokers)", "--channels",
                "--partitions", "\(partitions)", "--bootstrap-file", file,
                "--control-socket", "\(directory.path)/control.sock",
            ], output: "\(directory.path)/output.log")
        self.process = process
        let directory = directory
        var servers: [String] = []
        _ = Waiting.until(within: Self.startLimit) {
            let text = directory.end(of: "bootstrap", bytes: 4096)
            // Complete once the line has its end.
            if text.hasSuffix("\n") {
                servers = text.dropLast().split(separator: ",").map(String.init)
            }
            return !servers.isEmpty || process.hasEnded
        }
        bootstrapServers = servers
        guard !servers.isEmpty, !process.hasEnded else {
            let output = directory.end(of: "output.log", bytes: 2000)
            process.kill()
            throw ClusterHarnessError(.processEnded, "dev-kafka did not start: \(output)")
        }
    }

    deinit { process.kill() }

    /// Has it carry out a command of `rivulet dev-kafka --help`, such as `down all`.
    package func command(_ line: String) throws(ClusterHarnessError) {
        let reply: String
        do throws(Errno) {
            let socket = try StreamSocket.connect(to: .unix("\(directory.path)/control.sock"))
            reply = Self.exchange(line + "\n", over: socket)
        } catch {
            throw ClusterHarnessError(.noAnswer, "dev-kafka takes no commands: \(error)")
        }
        guard reply.hasPrefix("ok") else {
            throw ClusterHarnessError(.noAnswer, "dev-kafka answered \(line) with \"\(reply)\"")
        }
    }

    private static func exchange(_ line: String, over socket: borrowing OwnedDescriptor) -> String {
        let bytes = Array(line.utf8)
        guard
            unsafe bytes.withUnsafeBytes({ unsafe StreamSocket.write(socket.number, $0) })
                == .transferred(bytes.count)
        else { return "" }
        var entry = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
        var buffer = [UInt8](repeating: 0, count: 4096)
        guard unsafe poll(&entry, 1, 10_000) == 1 else { return "" }
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(socket.number, into: $0)
        }
        guard case .transferred(let count) = outcome else { return "" }
        return String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    package var logEnd: String { directory.end(of: "output.log", bytes: 4000) }
}

extension TemporaryDirectory {
    static func forTest(_ name: String) throws(ClusterHarnessError) -> TemporaryDirectory {
        do throws(Errno) {
            return try TemporaryDirectory(name)
        } catch {
            throw ClusterHarnessError(.noResource, "no temporary directory: \(error)")
        }
    }
}
