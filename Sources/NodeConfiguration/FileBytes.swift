// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Reads a small file whole.
enum FileBytes {
    /// Why a file cannot be had. Holds no part of its content and not its path.
    struct Refusal: Error {
        let reason: String
        let isTooLarge: Bool
    }

    /// The bytes of the file at `path`, at most `limit`. Blocks: only at start.
    static func read(_ path: String, limit: Int) throws(Refusal) -> [UInt8] {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw Refusal(reason: "the path is empty or holds a zero", isTooLarge: false)
        }
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failed() }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes {
                unsafe Glibc.read(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw failed() }
            guard count > 0 else { return bytes }
            bytes += chunk.prefix(count)
            // A device or a pipe has no size to ask for first.
            guard bytes.count <= limit else {
                throw Refusal(reason: "it is larger than \(limit) bytes", isTooLarge: true)
            }
        }
    }

    /// The text of a secret's file without the newline that editors end a file with.
    static func secret(_ path: String) throws(Refusal) -> String {
        var bytes = try read(path, limit: ConfigurationLimits.secretFileBytes)
        if bytes.last == UInt8(ascii: "\n") {
            bytes.removeLast()
            if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Refusal(reason: "it is not UTF-8", isTooLarge: false)
        }
        return text
    }

    private static func failed() -> Refusal {
        let text = unsafe strerror(errno).map { unsafe String(cString: $0) }
        return Refusal(reason: text ?? "errno \(errno)", isTooLarge: false)
    }
}
