// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO

/// The machine's processors: who runs where, and how busy they are.
enum Processor {
    static var count: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    /// Keeps the calling thread, and what it starts from here on, on one processor.
    static func pin(to number: Int) throws(BenchmarkError) {
        let code = clinux_set_affinity(CInt(number))
        guard code == 0 else {
            throw BenchmarkError(.unavailable, "cannot run on processor \(number): \(Errno(code))")
        }
    }

    /// Seconds that each processor has been busy, and idle, since the machine started.
    static func times() -> [(busy: Double, idle: Double)] {
        let tick = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
        var times: [(busy: Double, idle: Double)] = []
        for line in KernelFile.text("/proc/stat").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard line.hasPrefix("cpu"), !line.hasPrefix("cpu "), words.count >= 8 else { continue }
            let ticks = words.dropFirst().prefix(8).map { Double($0) ?? 0 }
            // user, nice, system, idle, iowait, irq, softirq, steal
            let idle = ticks[3] + ticks[4]
            times.append((busy: (ticks.reduce(0, +) - idle) / tick, idle: idle / tick))
        }
        return times
    }
}

/// A process as the kernel counts it.
enum ProcessMeter {
    /// User and system seconds of all its threads; 0 where it has ended.
    static func seconds(of process: pid_t) -> Double {
        var clock = clockid_t()
        var time = timespec()
        guard unsafe clock_getcpuclockid(process, &clock) == 0,
            unsafe clock_gettime(clock, &time) == 0
        else { return 0 }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Resident memory in bytes; 0 where it has ended.
    static func residentBytes(of process: pid_t) -> Int {
        let words = KernelFile.text("/proc/\(process)/statm").split(separator: " ")
        guard words.count > 1, let pages = Int(words[1]) else { return 0 }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    static var ownSeconds: Double { seconds(of: getpid()) }
}

/// Small files that the kernel makes up.
enum KernelFile {
    static func text(_ path: String) -> String {
        guard let file = try? OwnedDescriptor.open(path, flags: O_RDONLY) else { return "" }
        return read(file)
    }

    private static func read(_ file: borrowing OwnedDescriptor) -> String {
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe Glibc.read(file.number, $0.baseAddress, $0.count)
            }
            guard count > 0 else { break }
            text += buffer.prefix(count)
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// How a stretch of time was spent: by the processors, and by some processes on them.
struct UsageMeter {
    private let began = MonotonicTime.now
    private let processors = Processor.times()
    private let processes: [(id: pid_t, seconds: Double)]

    init(processes: [pid_t]) {
        self.processes = processes.map { ($0, ProcessMeter.seconds(of: $0)) }
    }

    var elapsed: Double { max(1e-9, (MonotonicTime.now - began).inSeconds) }

    /// CPU seconds of each process since.
    var processSeconds: [Double] {
        processes.map { ProcessMeter.seconds(of: $0.id) - $0.seconds }
    }

    /// The share of the time that each processor was busy, 0 to 1.
    var busyShares: [Double] {
        zip(Processor.times(), processors).map { now, before in
            let busy = now.busy - before.busy
            return busy / max(1e-9, busy + now.idle - before.idle)
        }
    }
}
