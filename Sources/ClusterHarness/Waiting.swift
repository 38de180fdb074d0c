// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// Waiting for what other processes do, which nobody can be told about.
package enum Waiting {
    private static let interval: CInt = 20

    /// Asks until `condition` holds; false where it does not within `limit`.
    package static func until<Failure: Error>(
        within limit: Duration, _ condition: () throws(Failure) -> Bool
    ) throws(Failure) -> Bool {
        let deadline = MonotonicTime.now + limit
        while try !condition() {
            guard MonotonicTime.now < deadline else { return false }
            _ = poll(nil, 0, interval)
        }
        return true
    }
}
