// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// A pipe that is readable while something waits.
///
/// Threads: any signals, one clears.
struct WakePipe: ~Copyable {
    let reader: OwnedDescriptor
    let writer: OwnedDescriptor

    init() throws(KafkaError) {
        var numbers: [CInt] = [-1, -1]
        guard unsafe pipe(&numbers) == 0 else {
            throw KafkaError(.other, "pipe: \(Errno.current)", isRetriable: true)
        }
        for number in numbers {
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            _ = fcntl(number, F_SETFL, O_NONBLOCK)
        }
        reader = OwnedDescriptor(adopting: numbers[0])
        writer = OwnedDescriptor(adopting: numbers[1])
    }

    /// Makes the reader readable. A full pipe is readable already.
    func signal() {
        var mark: UInt8 = 1
        _ = unsafe write(writer.number, &mark, 1)
    }

    func clear() {
        var marks: UInt64 = 0
        while unsafe read(reader.number, &marks, 8) > 0 {}
    }
}
