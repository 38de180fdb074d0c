// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// The process' environment.
enum Environment {
    /// Linux allows a quarter of the stack limit for arguments and environment, 2 MiB by default.
    private static let bytesMax = 4 << 20

    static func value(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }

    /// Every variable, as the process was started with.
    ///
    /// From the kernel and not from `environ`, a global that Swift cannot know to be still.
    static var all: [String: String] {
        guard let file = try? OwnedDescriptor.open("/proc/self/environ", flags: O_RDONLY) else {
            return [:]
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while bytes.count < bytesMax {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe read(file.number, $0.baseAddress, $0.count)
            }
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        _ = consume file
        return variables(in: bytes)
    }

    /// Takes `NAME=value` entries apart, which end in zeros.
    static func variables(in bytes: [UInt8]) -> [String: String] {
        var variables: [String: String] = [:]
        for entry in bytes.split(separator: 0) {
            guard let equals = entry.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let name = String(decoding: entry[..<equals], as: UTF8.self)
            variables[name] = String(decoding: entry[(equals + 1)...], as: UTF8.self)
        }
        return variables
    }
}
