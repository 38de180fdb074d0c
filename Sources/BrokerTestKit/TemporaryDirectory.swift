// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
package import PosixIO

/// A new directory that goes with the value, and all that is in it.
package final class TemporaryDirectory: Sendable {
    package let path: String

    /// - Parameter name: Begins the directory's name, for whoever finds it.
    package init(_ name: String) throws(Errno) {
        // mkdtemp(3) asks for six of these and replaces them.
        let ending = String(repeating: "X", count: 6)
        var template = Array("/tmp/\(name)-\(ending)".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw .current }
        path = unsafe template.withUnsafeBufferPointer {
            unsafe String(cString: $0.baseAddress!)
        }
    }

    deinit { Self.remove(path) }

    /// Writes a file into the directory and returns its path.
    @discardableResult
    package func write(_ text: String, to name: String) throws(Errno) -> String {
        let file = try OwnedDescriptor.open(
            "\(path)/\(name)", flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Glibc.write(file.number, $0.baseAddress, $0.count)
            }
            guard count > 0 else { throw .current }
            rest = rest.dropFirst(count)
        }
        return "\(path)/\(name)"
    }

    /// The end of a file in the directory; empty where there is none.
    package func end(of name: String, bytes limit: Int) -> String {
        guard let file = try? OwnedDescriptor.open("\(path)/\(name)", flags: O_RDONLY)
        else { return "" }
        return Self.read(file, bytes: limit)
    }

    private static func read(_ file: borrowing OwnedDescriptor, bytes limit: Int) -> String {
        lseek(file.number, 0, SEEK_SET)
        let size = lseek(file.number, 0, SEEK_END)
        lseek(file.number, max(0, size - limit), SEEK_SET)
        var buffer = [UInt8](repeating: 0, count: limit)
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe Glibc.read(file.number, $0.baseAddress, $0.count)
        }
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }

    private static func remove(_ path: String) {
        if let listing = unsafe opendir(path) {
            while let entry = unsafe readdir(listing) {
                let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                    unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { remove(path + "/" + name) }
            }
            unsafe closedir(listing)
            _ = unsafe rmdir(path)
        } else {
            _ = unsafe unlink(path)
        }
    }
}
