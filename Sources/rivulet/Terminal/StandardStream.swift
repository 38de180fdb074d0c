// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// The program's output, written with write(2) and nothing kept back.
///
/// Threads: any; a line in one call stays whole up to the pipe's atomic size.
enum StandardStream {
    static let input: CInt = 0
    static let output: CInt = 1
    static let error: CInt = 2

    enum Outcome: Sendable, Equatable {
        case written
        /// The reader is gone: there is nobody to write for.
        case closed
    }

    /// Writes all of `bytes`. What keeps a write from succeeding for good counts as closed,
    /// because nobody is left to tell.
    @discardableResult
    static func write(_ bytes: [UInt8], to descriptor: CInt = output) -> Outcome {
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes[written...].withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count >= 0 {
                written += count
            } else if errno == EAGAIN {
                // A terminal that another program left nonblocking.
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&entry, 1, -1)
            } else if errno != EINTR {
                return .closed
            }
        }
        return .written
    }

    @discardableResult
    static func print(_ text: String) -> Outcome { write(Array((text + "\n").utf8)) }

    /// A message to the person who started the command.
    static func say(_ text: String) { write(Array((text + "\n").utf8), to: error) }

    /// Makes a write to a reader that is gone fail instead of ending the process.
    static func ignoreBrokenPipes() { _ = signal(SIGPIPE, SIG_IGN) }
}
