// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a context could not be made, or why a session has failed.
package struct TLSError: Error, Sendable, CustomStringConvertible {
    /// What went wrong. The raw value is the metric label.
    package enum Code: String, Sendable, CaseIterable {
        // While a context is made: the operator's files.
        case certificateUnreadable
        case keyUnreadable
        /// The private key is not that of the certificate.
        case keyMismatch
        case authorityUnreadable
        /// OpenSSL has no memory, or refuses what this program asks for.
        case engineFailed

        // In a session: the peer and the network.
        /// The peer closed before the handshake was done.
        case peerClosed
        case socketFailed
        /// What came is no TLS.
        case notTLS
        /// What came is a plain HTTP request.
        case plainHTTP
        /// The peer speaks no version that is allowed here.
        case protocolVersion
        case noSharedCipher
        /// The peer asked for application protocols and none of them is spoken here.
        case noApplicationProtocol
        /// A certificate is required of the peer and it gave none.
        case certificateMissing
        /// The peer's certificate was not accepted here.
        case certificateRejected
        /// The peer gave up, with an alert; it may have refused our certificate.
        case peerAlert
        /// The peer broke the rules of TLS.
        case protocolViolated
    }

    package let code: Code
    package let detail: String
    /// True where the same attempt may succeed later without anybody changing a file or a setting.
    package let isRetriable: Bool
    /// The errno, where a system call failed.
    package let systemCode: Int32?

    package init(_ code: Code, _ detail: String, systemCode: Int32? = nil) {
        self.code = code
        self.detail = detail
        self.systemCode = systemCode
        switch code {
        case .peerClosed, .socketFailed: isRetriable = true
        default: isRetriable = false
        }
    }

    package var description: String { "tls.\(code.rawValue): \(detail)" }
}
