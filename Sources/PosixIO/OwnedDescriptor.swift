// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// A file descriptor with exactly one owner.
///
/// The value closes the descriptor when it goes out of scope. Call ``close()`` instead where a
/// failed close has to be reported.
package struct OwnedDescriptor: ~Copyable, Sendable {
    package let number: CInt

    /// Takes over `number`, which must be open and owned by nobody else.
    package init(adopting number: CInt) {
        precondition(number >= 0, "descriptor \(number) is not open")
        self.number = number
    }

    package consuming func close() throws(Errno) {
        let number = self.number
        discard self  // The deinit must not close a second time.
        // Linux has closed the descriptor even where close(2) says EINTR: never again.
        guard Glibc.close(number) == 0 || errno == EINTR else { throw .current }
    }

    /// Gives the number to somebody who will close it.
    package consuming func release() -> CInt {
        let number = self.number
        discard self
        return number
    }

    deinit { _ = Glibc.close(number) }

    /// Opens a file. `flags` and `mode` are those of open(2).
    package static func open(_ path: String, flags: CInt, mode: CInt = 0o644) throws(Errno)
        -> OwnedDescriptor
    {
        let number = unsafe clinux_open(path, flags | O_CLOEXEC, mode)
        guard number >= 0 else { throw .current }
        return OwnedDescriptor(adopting: number)
    }
}
