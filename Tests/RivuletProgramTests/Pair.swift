// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import Testing

/// Two connected ends; what is written to one is read from the other.
struct Pair: ~Copyable {
    let reader: OwnedDescriptor
    let writer: OwnedDescriptor

    init() throws {
        var numbers: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        try #require(unsafe socketpair(AF_UNIX, type, 0, &numbers) == 0)
        reader = OwnedDescriptor(adopting: numbers[0])
        writer = OwnedDescriptor(adopting: numbers[1])
    }
}
