// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How the program ends, as the shell sees it. The numbers from 64 on are those of sysexits.h.
enum ExitStatus: Int32, Sendable, Equatable {
    case success = 0
    case failure = 1
    /// EX_USAGE
    case usage = 64
    /// EX_NOINPUT
    case noInput = 66
    /// EX_UNAVAILABLE
    case unavailable = 69
    /// EX_CANTCREAT
    case cannotCreate = 73
    /// EX_IOERR
    case inputOutput = 74
    /// EX_CONFIG
    case configuration = 78
    /// 128 + SIGINT
    case interrupted = 130
    /// 128 + SIGTERM
    case terminated = 143
}

/// Why a command ends without having done what it was asked.
struct ProgramError: Error, Sendable, Equatable, CustomStringConvertible {
    enum Code: String, Sendable, CaseIterable {
        /// An option, operand or value that is not accepted.
        case usage
        /// A file that cannot be read.
        case inputMissing
        /// A file that cannot be written.
        case outputRefused
        /// A broker or a server that does not answer.
        case unavailable
        /// The configuration file is not one.
        case configurationInvalid
        /// The peer answered, and the answer is no.
        case refused
        /// Reading or writing went wrong midway.
        case transferFailed
        /// A signal came before it was done.
        case interrupted
        /// SIGTERM came before it was done.
        case terminated
    }

    let code: Code
    /// What happened, with the thing, the value and what would be accepted. May have several lines.
    let detail: String

    init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    /// Whether the same command may succeed later without anybody changing anything.
    var isRetriable: Bool { code == .unavailable || code == .transferFailed }

    var exitStatus: ExitStatus {
        switch code {
        case .usage: .usage
        case .inputMissing: .noInput
        case .outputRefused: .cannotCreate
        case .unavailable: .unavailable
        case .configurationInvalid: .configuration
        case .refused: .failure
        case .transferFailed: .inputOutput
        case .interrupted: .interrupted
        case .terminated: .terminated
        }
    }

    var description: String { detail }
}
