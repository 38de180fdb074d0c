// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// What the machine allows, as the kernel says.
struct MachineFacts: Sendable, Equatable {
    /// Descriptors that this process, and so a node started like it, may have; a node raises its
    /// soft limit to the hard one itself.
    var descriptorsHard = 0
    /// `net.core.somaxconn`: connections that wait to be accepted, at most.
    var acceptQueueMax: Int?
    /// `net.ipv4.ip_local_port_range`.
    var localPorts: ClosedRange<Int>?
    var processors = 1
    var memoryBytes: Int?
    /// `vm.overcommit_memory`: with 0, a fork of a large Redis may be refused.
    var overcommit: Int?
    /// The chosen word of `/sys/kernel/mm/transparent_hugepage/enabled`.
    var hugePages: String?

    /// Reads what can be read; what cannot stays `nil`.
    static func read() -> MachineFacts {
        var facts = MachineFacts()
        var limit = rlimit()
        if unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            facts.descriptorsHard = Int(clamping: limit.rlim_max)
        }
        facts.acceptQueueMax = text("/proc/sys/net/core/somaxconn").flatMap { Int($0) }
        facts.localPorts = text("/proc/sys/net/ipv4/ip_local_port_range").flatMap(portRange)
        facts.processors = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        facts.memoryBytes = text("/proc/meminfo").flatMap(totalMemory)
        facts.overcommit = text("/proc/sys/vm/overcommit_memory").flatMap { Int($0) }
        facts.hugePages = text("/sys/kernel/mm/transparent_hugepage/enabled").flatMap(chosenWord)
        return facts
    }

    /// `32768\t60999`
    static func portRange(_ text: String) -> ClosedRange<Int>? {
        let ports = text.split { $0 == "\t" || $0 == " " }.compactMap { Int($0) }
        guard ports.count == 2, ports[0] <= ports[1] else { return nil }
        return ports[0]...ports[1]
    }

    /// The first line of `/proc/meminfo`: `MemTotal:       24689764 kB`.
    static func totalMemory(_ text: String) -> Int? {
        let words = text.prefix { $0 != "\n" }.split(separator: " ")
        guard words.count >= 2, words[0] == "MemTotal:", let kilobytes = Int(words[1]) else {
            return nil
        }
        return kilobytes.multipliedReportingOverflow(by: 1024).partialValue
    }

    /// `always [madvise] never`
    static func chosenWord(_ text: String) -> String? {
        guard let open = text.firstIndex(of: "["), let close = text.firstIndex(of: "]"),
            open < close
        else { return nil }
        return String(text[text.index(after: open)..<close])
    }

    /// Kernel files are small; what is longer is not read on.
    private static let fileBytesMax = 4096

    private static func text(_ path: String) -> String? {
        guard let file = try? OwnedDescriptor.open(path, flags: O_RDONLY) else { return nil }
        var buffer = [UInt8](repeating: 0, count: fileBytesMax)
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe Glibc.read(file.number, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return nil }
        var text = String(decoding: buffer.prefix(count), as: UTF8.self)
        while text.last == "\n" { text.removeLast() }
        return text
    }
}
