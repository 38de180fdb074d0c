// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO

/// What this process takes of the machine, as the kernel counts it.
struct ProcessUsage {
    /// User and system time since the process began.
    let cpuTime: Duration
    /// Resident memory in bytes.
    let residentBytes: Int

    static func current() -> ProcessUsage {
        var usage = rusage()
        _ = unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
        let microseconds = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
        return ProcessUsage(
            cpuTime: .seconds(Int64(seconds)) + .microseconds(Int64(microseconds)),
            residentBytes: residentPages() * Int(sysconf(Int32(_SC_PAGESIZE))))
    }

    /// The second number of `/proc/self/statm`; 0 where it cannot be read.
    private static func residentPages() -> Int {
        guard let file = try? OwnedDescriptor.open("/proc/self/statm", flags: O_RDONLY) else {
            return 0
        }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe read(file.number, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return 0 }
        let words = String(decoding: buffer.prefix(count), as: UTF8.self).split(separator: " ")
        return words.count > 1 ? Int(words[1]) ?? 0 : 0
    }

    /// The soft limit of descriptors.
    static func descriptorLimit() -> Int {
        var limit = rlimit()
        let isKnown = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
        return isKnown ? Int(clamping: limit.rlim_cur) : 1024
    }

    /// Raises the soft limit of descriptors to the hard one and returns it.
    static func raiseDescriptorLimit() -> Int {
        var limit = rlimit()
        let which = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        if unsafe getrlimit(which, &limit) == 0, limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max
            _ = unsafe setrlimit(which, &limit)
        }
        return descriptorLimit()
    }
}
