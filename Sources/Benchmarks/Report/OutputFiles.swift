// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO

/// The files that a benchmark was asked for.
enum OutputFiles {
    /// What every report begins with: where and when the figures come from.
    static func begin(_ text: inout JSONText, benchmark: String) {
        text.field("benchmark", benchmark)
        text.field("date", WallClock.text(milliseconds: WallClock.milliseconds))
        text.field("command", CommandLine.arguments.joined(separator: " "))
        text.field("processors", Processor.count)
        text.field("kernel", KernelFile.text("/proc/sys/kernel/osrelease").trimmed)
        text.field("processor", processorName)
    }

    static func write(
        _ options: GivenOptions, json: JSONText, plot: Plot, text: String
    ) throws(BenchmarkError) {
        if let path = options.text("json") { try write(json.bytes + [10], to: path) }
        if let path = options.text("svg") { try write(Array(plot.svg.utf8), to: path) }
        if let path = options.text("markdown") { try write(Array("\(text)\n".utf8), to: path) }
    }

    /// One line for people about the machine.
    static var machine: String {
        let load = KernelFile.text("/proc/loadavg").split(separator: " ").prefix(3)
        return "\(WallClock.text(milliseconds: WallClock.milliseconds)), \(processorName), "
            + "\(Processor.count) processors, Linux "
            + KernelFile.text("/proc/sys/kernel/osrelease").trimmed
            + ", load \(load.joined(separator: " "))"
    }

    private static var processorName: String {
        for line in KernelFile.text("/proc/cpuinfo").split(separator: "\n")
        where line.hasPrefix("model name") {
            return String(line.drop { $0 != ":" }.dropFirst()).trimmed
        }
        return "unknown processor"
    }

    private static func write(_ bytes: [UInt8], to path: String) throws(BenchmarkError) {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, flags: O_WRONLY | O_CREAT | O_TRUNC)
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = unsafe rest.withUnsafeBytes {
                    unsafe Glibc.write(file.number, $0.baseAddress, $0.count)
                }
                guard count > 0 else { throw .current }
                rest = rest.dropFirst(count)
            }
        } catch {
            throw BenchmarkError(.unavailable, "cannot write \(path): \(error)")
        }
    }
}

extension String {
    /// Without white space at either end.
    fileprivate var trimmed: String {
        let start = self.drop { $0.isWhitespace }
        let end = start.lastIndex { !$0.isWhitespace }
        return end.map { String(start[...$0]) } ?? ""
    }
}
