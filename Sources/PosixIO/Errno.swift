// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What a system call said went wrong.
package struct Errno: Error, Sendable, Hashable, CustomStringConvertible {
    package let code: CInt

    package init(_ code: CInt) { self.code = code }

    /// The calling thread's `errno`. Read it before anything else can change it.
    package static var current: Errno { Errno(errno) }

    package var description: String {
        // strerror is safe across threads in glibc since 2.32, which Debian 12 has.
        guard let text = unsafe strerror(code) else { return "errno \(code)" }
        return unsafe String(cString: text)
    }

    /// True where the call should be made again when the descriptor is ready.
    package var wouldBlock: Bool { code == EAGAIN || code == EWOULDBLOCK }
}
