// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Inputs that are kept as files.
package enum Corpus {
    package struct Unreadable: Error {
        package let path: String
        package let code: CInt
    }

    /// The files at `path`, a file or a directory, by name and in its order. Hidden files and
    /// directories inside are left out.
    package static func read(_ path: String) throws(Unreadable) -> [(name: String, bytes: [UInt8])]
    {
        guard let directory = unsafe opendir(path) else {
            guard errno == ENOTDIR else { throw Unreadable(path: path, code: errno) }
            return [(path, try bytes(of: path))]
        }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            let isFile = unsafe entry.pointee.d_type != UInt8(DT_DIR)
            if isFile, !name.hasPrefix(".") { names.append(name) }
        }
        var files: [(name: String, bytes: [UInt8])] = []
        for name in names.sorted() { files.append((name, try bytes(of: path + "/" + name))) }
        return files
    }

    private static func bytes(of path: String) throws(Unreadable) -> [UInt8] {
        guard let file = unsafe fopen(path, "r") else { throw Unreadable(path: path, code: errno) }
        defer { unsafe fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe fread(&buffer, 1, buffer.count, file)
            guard count > 0 else { return bytes }
            bytes += buffer[..<count]
        }
    }
}
