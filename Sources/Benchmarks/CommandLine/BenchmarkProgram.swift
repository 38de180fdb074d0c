// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor
import Glibc
import PosixIO

/// The program: its benchmarks, and the servers that it starts itself as.
enum BenchmarkProgram {
    static let commands = [
        IngestBenchmark.command, FanoutBenchmark.command, FormsBenchmark.command,
        SlowBenchmark.command, AllocationsBenchmark.command, IdleBenchmark.command,
        ReplayBenchmark.command, MustShowBenchmark.command,
    ]

    /// Carries the arguments out, without the program's own name; returns the exit status.
    static func run(_ arguments: [String]) -> Int32 {
        guard let first = arguments.first else {
            print(overview)
            return 64
        }
        if first == "--help" || first == "-h" || first == "help" {
            print(overview)
            return 0
        }
        do throws(BenchmarkError) {
            if let server = HelperServer(rawValue: first) {
                try server.run(Array(arguments.dropFirst()))
                return 0
            }
            guard let command = commands.first(where: { $0.name == first }) else {
                let known = commands.map(\.name).joined(separator: ", ")
                throw BenchmarkError(.usage, "unknown benchmark \"\(first)\"; accepted: \(known)")
            }
            let given = try GivenOptions(Array(arguments.dropFirst()), of: command)
            if given.has("help") {
                print(command.help)
                return 0
            }
            try command.run(given)
            return 0
        } catch {
            var output = StandardError()
            print("Benchmarks: \(error.detail)", to: &output)
            return error.exitStatus
        }
    }

    private static var overview: String {
        var text = """
            Benchmarks: measures a node beside the least that C can do on this machine

            Usage:
              swift build -c release
              .build/release/Benchmarks NAME [options]

            Benchmarks:

            """
        for command in commands {
            text += "  " + Columns.padded(command.name, to: 12) + command.summary + "\n"
        }
        return text + """

            Benchmarks NAME --help has the options.

            The node is the `rivulet` that was built beside this program, or the one that BINARY
            names. Needs redis-server, setpriv and, for TLS, openssl in the path: Kafka is
            librdkafka's mock cluster in a process of its own. nchan takes part where it is
            installed. All of it ends with this program.

            The two sides of each benchmark take turns within minutes of each other, because a
            machine that others use is not the same machine an hour later. Read the ratios.
            """
    }
}

/// Where errors and progress go, so that standard output holds the figures alone.
struct StandardError: TextOutputStream {
    mutating func write(_ string: String) {
        let bytes = Array(string.utf8)
        unsafe bytes.withUnsafeBytes {
            _ = unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count)
        }
    }

    static func say(_ text: String) {
        var output = StandardError()
        print(text, to: &output)
    }
}
