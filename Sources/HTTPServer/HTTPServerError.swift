// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO

/// Why a listener could not start.
package struct HTTPServerError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case addressInUse
        case addressNotAvailable
        case permissionDenied
        case listenFailed
    }

    package let code: Code
    package let detail: String
    /// True where the same call may succeed later without anybody changing the configuration.
    package let isRetriable: Bool
    package let file: StaticString
    package let line: UInt

    package init(
        _ code: Code, _ detail: String, isRetriable: Bool, file: StaticString = #fileID,
        line: UInt = #line
    ) {
        self.code = code
        self.detail = detail
        self.isRetriable = isRetriable
        self.file = file
        self.line = line
    }

    init(_ error: Errno, listeningOn address: SocketAddress) {
        switch error.code {
        case EADDRINUSE:
            self.init(
                .addressInUse,
                "\(address) is in use by another socket; stop its owner or choose another port",
                isRetriable: true)
        case EADDRNOTAVAIL:
            self.init(
                .addressNotAvailable,
                "\(address) is no address of this machine; give one that is, or 0.0.0.0 or ::",
                isRetriable: false)
        case EACCES, EPERM:
            self.init(
                .permissionDenied,
                "\(address) may not be listened on: \(error); ports below 1024 need a privilege",
                isRetriable: false)
        default:
            self.init(.listenFailed, "cannot listen on \(address): \(error)", isRetriable: false)
        }
    }

    package var description: String { "http.\(code.rawValue): \(detail) [\(file):\(line)]" }
}
