// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// The calling thread's queue of OpenSSL errors.
///
/// A call that fails adds to it and nothing but ``clear()`` empties it, so every call whose
/// outcome is read from it begins with that: SSL_get_error(3) would report the failure of another
/// session otherwise.
enum ErrorQueue {
    @inline(__always)
    static func clear() { ERR_clear_error() }

    /// One error: who reported it, why, and in words.
    struct Entry {
        let library: CInt
        let reason: CInt
        let text: String
        /// A system call failed: ``reason`` is its errno.
        let isSystem: Bool

        func isSSL(_ reason: CInt) -> Bool { library == ERR_LIB_SSL && self.reason == reason }
    }

    /// Takes the oldest error, which is the cause of the others, and forgets the rest; `nil` where
    /// there is none.
    static func takeCause() -> Entry? {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0 else { return nil }
        let isSystem = ERR_GET_LIB(code) == ERR_LIB_SYS
        var text = "error \(code)"
        if isSystem {
            text = unsafe String(cString: strerror(ERR_GET_REASON(code)))
        } else if let reason = unsafe ERR_reason_error_string(code) {
            text = unsafe String(cString: reason)
        }
        return Entry(
            library: ERR_GET_LIB(code), reason: ERR_GET_REASON(code), text: text,
            isSystem: isSystem)
    }
}
