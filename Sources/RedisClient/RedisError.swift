// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a Redis command gave no answer, or why a connection could not be had.
package struct RedisError: Error, Sendable, CustomStringConvertible {
    /// What went wrong. The raw value is the metric label.
    package enum Code: String, Sendable, CaseIterable {
        // On this side.
        /// A URL or a setting says something that cannot be meant.
        case settingInvalid
        /// There is no connection; nothing was sent.
        case notConnected
        /// Too many commands or bytes wait for replies; nothing was sent.
        case pipelineFull
        /// The command alone is larger than the pipeline may ever hold.
        case commandTooLarge
        /// ``RedisConnection/stop()`` was called.
        case closed
        /// The command's own deadline passed.
        case timedOut
        /// The connection ended while the command waited for its reply.
        case connectionLost
        /// A host name has no address.
        case resolveFailed
        /// The server did not take the connection.
        case connectFailed
        /// The server took the connection and the TLS handshake failed.
        case tlsFailed
        /// The server sent what is not RESP2, or more than ``RedisSettings`` allows.
        case protocolViolated

        // Error replies, by their first word.
        case loading
        case masterDown
        case readOnly
        case noAuthentication
        case wrongPassword
        case noPermission
        case outOfMemory
        case busy
        case noScript
        case wrongType
        case serverReplied
    }

    package let code: Code
    package let detail: String
    /// True where the same command may succeed later, on this connection or its successor.
    package let isRetriable: Bool
    /// True where the server may have carried the command out, wholly or in part. False only
    /// where that is certain: the command had not been written whole, or the server refused it.
    package let mayHaveExecuted: Bool

    package init(_ code: Code, _ detail: String, mayHaveExecuted: Bool = false) {
        self.code = code
        self.detail = detail
        self.mayHaveExecuted = mayHaveExecuted
        switch code {
        case .notConnected, .pipelineFull, .timedOut, .connectionLost, .resolveFailed,
            .connectFailed, .tlsFailed, .protocolViolated, .loading, .masterDown, .readOnly,
            .outOfMemory,
            .busy, .noScript:
            isRetriable = true
        case .settingInvalid, .commandTooLarge, .closed, .noAuthentication, .wrongPassword,
            .noPermission,
            .wrongType, .serverReplied:
            isRetriable = false
        }
    }

    /// Classifies an error reply by its first word.
    ///
    /// - Parameter isFromScript: A script that fails half-way has done its first half: Redis takes
    ///   nothing back.
    init(serverReply text: String, isFromScript: Bool = false) {
        let code: Code =
            switch text.prefix(while: { $0 != " " }) {
            case "LOADING": .loading
            case "MASTERDOWN": .masterDown
            case "READONLY": .readOnly
            case "NOAUTH": .noAuthentication
            case "WRONGPASS": .wrongPassword
            case "NOPERM": .noPermission
            case "OOM": .outOfMemory
            case "BUSY": .busy
            case "NOSCRIPT": .noScript
            case "WRONGTYPE": .wrongType
            default: .serverReplied
            }
        let failsOnlyUpFront: Bool =
            switch code {
            case .outOfMemory, .wrongType, .noPermission, .serverReplied: false
            default: true
            }
        self.init(code, text, mayHaveExecuted: isFromScript && !failsOnlyUpFront)
    }

    package var description: String { "redis.\(code.rawValue): \(detail)" }
}
