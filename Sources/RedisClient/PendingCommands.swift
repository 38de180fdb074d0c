// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO

/// One command whose reply has not come.
struct PendingCommand {
    enum Purpose {
        case caller(RedisConnection.Completion)
        /// A step of the handshake.
        case handshake(HandshakeStep)
        /// SCRIPT LOAD after the handshake.
        case load(RedisScript)
        case ping
    }

    let purpose: Purpose
    let queuedAt: MonotonicTime
    let deadline: MonotonicTime
    /// The place in the stream just after the command's last byte.
    let endOffset: UInt64
    let byteCount: Int
    /// The call itself, where it went as EVALSHA and may have to go again as EVAL.
    let retryAsEval: RedisCommand?
    let isScriptCall: Bool
    /// The server may hold the answer back on purpose, so the time it takes says nothing.
    let mayBlock: Bool

    var isCallers: Bool { if case .caller = purpose { true } else { false } }
}

/// What a connection asks of the server before it is ready.
enum HandshakeStep {
    case authenticate
    case selectDatabase
    case setName
    case load(RedisScript)
    /// The last step: any answer but a refusal to serve shows a server that serves.
    case ping
}

/// The commands that wait for replies, in the order of their replies.
struct PendingCommands {
    private var queue = RingQueue<PendingCommand>()
    private(set) var byteCount = 0

    var count: Int { queue.count }
    var isEmpty: Bool { queue.isEmpty }

    mutating func append(_ command: PendingCommand) {
        queue.append(command)
        byteCount += command.byteCount
    }

    mutating func popFirst() -> PendingCommand? {
        guard let command = queue.popFirst() else { return nil }
        byteCount -= command.byteCount
        return command
    }

    /// The earliest deadline of all, which need not be that of the first.
    var earliestDeadline: MonotonicTime? {
        (0..<queue.count).lazy.map { queue[$0].deadline }.min()
    }
}
