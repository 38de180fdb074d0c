// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import CAllocationCount
import Glibc
import NodeConfiguration
import Observability

/// A node in a process of this program, so that its allocations are counted.
///
/// Only the linker can put something between all of a program and its allocator without a preloaded
/// library, and the `rivulet` that is shipped should not carry that. The node's code is the same.
enum CountedNode {
    /// Serves until the process is ended. At each SIGUSR1 it writes to `report` how often each of
    /// its threads has allocated: lines of a name and a number, and at last an empty one.
    static func run(configuration file: String, report: String) throws(BenchmarkError) {
        // Before any other thread exists, so that none of them takes the signal.
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGUSR1)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        let node: BrokerNode
        do {
            let configuration = try Configuration.load(
                file: file, environment: [:], arguments: [])
            node = try BrokerNode(
                configuration: configuration, log: Logger("node", lowest: .warning))
            try node.start()
        } catch {
            throw BenchmarkError(.unavailable, "no node: \(error)")
        }
        try withExtendedLifetime(node) { () throws(BenchmarkError) in
            while true {
                var number: CInt = 0
                guard unsafe sigwait(&signals, &number) == 0 else { continue }
                let lines = counts().map { "\($0.thread) \($0.calls)\n" }.joined()
                try HelperServer.writeLine(lines, to: report)
            }
        }
    }

    private static func counts() -> [(thread: String, calls: UInt64)] {
        var counts = [allocation_count](repeating: allocation_count(), count: 1100)
        let count = unsafe counts.withUnsafeMutableBufferPointer {
            unsafe allocation_counts($0.baseAddress, CInt($0.count))
        }
        var byName: [String: UInt64] = [:]
        for entry in counts.prefix(Int(count)) {
            let name = KernelFile.text("/proc/self/task/\(entry.thread)/comm")
            let known = name.split(separator: "\n").first.map { String($0) } ?? "ended"
            byName[known.replacing(" ", with: "-"), default: 0] += entry.calls
        }
        return byName.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }
}
