// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Glibc
import PosixIO

/// Connections in processes of their own: one process has no more descriptors than its hard limit.
final class StreamHolder: Sendable {
    private let process: ServerProcess

    /// Starts a process that holds `count` streams, and waits until all of them have begun.
    ///
    /// - Parameter source: The loopback address that it connects from, in host order; each has
    ///   ports of its own.
    init(_ count: Int, port: UInt16, path: String, source: UInt32) throws(BenchmarkError) {
        let directory = try ServerProcess.temporaryDirectory("hold")
        let command = HelperServer.hold.command(
            ["\(port)", path, "\(count)", "\(source)", "\(directory.path)/ready"])
        process = try ServerProcess(
            "\(count) streams", in: directory, command: command, within: .seconds(200)
        ) {
            directory.end(of: "ready", bytes: 64).hasSuffix("\n")
        }
    }

    func checkAlive() throws(BenchmarkError) { try process.checkAlive() }

    /// The process itself.
    static func run(_ arguments: [String]) throws(BenchmarkError) {
        guard let port = UInt16(arguments[0]), let count = Int(arguments[2]),
            let source = UInt32(arguments[3])
        else { throw BenchmarkError(.usage, "\(arguments) are no port, path, count and source") }
        try DescriptorLimit.raise(for: count)
        let load = try StreamLoad()
        try load.open(
            count, from: .init(port: port, path: arguments[1], source: source),
            within: .seconds(180))
        try HelperServer.writeLine("ready", to: arguments[4])
        while load.openCount == count { load.read(until: .now + .seconds(1)) }
        throw BenchmarkError(.failed, "\(count - load.openCount) of \(count) streams have ended")
    }
}

/// How many descriptors this process may have open.
enum DescriptorLimit {
    /// Descriptors of this process that are no streams.
    private static let reserved = 100

    /// Takes all that the hard limit allows.
    static func raise(for connections: Int) throws(BenchmarkError) {
        let limit = raised()
        guard connections + reserved <= limit else {
            throw BenchmarkError(
                .unavailable,
                "\(connections) connections need more descriptors than the hard limit, \(limit)")
        }
    }

    static func raised() -> Int {
        var limit = rlimit()
        let which = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        _ = unsafe getrlimit(which, &limit)
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(which, &limit)
        return Int(clamping: limit.rlim_max)
    }
}
