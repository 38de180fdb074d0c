// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// Writes files that a reader finds whole or not at all.
enum AtomicFile {
    /// Writes beside `path` and renames over it.
    static func write(_ bytes: [UInt8], to path: String) throws(ProgramError) {
        let temporary = "\(path).\(getpid()).part"
        do {
            let file = try OwnedDescriptor.open(
                temporary, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
            let isWritten = StandardStream.write(bytes, to: file.number) == .written
            try file.close()
            guard isWritten, unsafe rename(temporary, path) == 0 else { throw Errno.current }
        } catch let error {
            _ = unsafe unlink(temporary)
            throw ProgramError(.outputRefused, "cannot write \(path): \(error)")
        }
    }
}
