// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO

/// What a listener knows of a connection, whatever is spoken on it.
///
/// View: connection. Threads: its loop's. A connection that changes what it speaks is another
/// object in the same place: see ``HTTPListener/replace(_:with:)``.
protocol ListenerConnection: AnyObject {
    /// Names this connection to its listener, who sets it before ``start()``.
    var key: Slab<any ListenerConnection>.Key { get set }

    /// The admission gave it a slot.
    var isAdmitted: Bool { get }

    /// Joins the loop.
    func start()

    /// The listener takes the connection out of its queue of deadlines for `step`; see
    /// ``ConnectionDeadline/wasQueued(for:of:)``.
    func deadlineWasQueued(for step: UInt32)

    /// Other connections have had their turn; see ``HTTPListener/continueLater(_:)``.
    func continueReading()

    /// The listener accepts no more connections and will drain; the peer may be told of it.
    func drainBegins()

    /// The listener drains: close where no request is being received or answered.
    func closeIfIdle()

    /// Closes at once for the listener's stop, and tells observers from here.
    func stop()
}

extension ListenerConnection {
    /// HTTP/1.1 tells its peer with the next answer.
    func drainBegins() {}
}

/// What is spoken on a connection.
enum WireProtocol: String, Sendable {
    case http1 = "http/1.1"
    case http2 = "h2"
}

/// When a connection has waited long enough, in its listener's steps.
///
/// Moving it later costs nothing: the connection stays where it is queued; see ``DeadlineBuckets``.
struct ConnectionDeadline {
    /// 0 for never.
    private var step: UInt32 = 0
    /// The step for which the listener has the connection queued; 0 for none.
    private var queuedStep: UInt32 = 0

    mutating func set(
        after delay: Duration, of connection: any ListenerConnection, _ listener: HTTPListener
    ) {
        step = listener.step(after: delay)
        if queuedStep == 0 || queuedStep > step {
            queuedStep = listener.queue(connection, step: step)
        }
    }

    mutating func clear() { step = 0 }

    /// The listener has taken `connection` out of its queue for `step`; true where the deadline
    /// has passed. It is cleared then.
    mutating func wasQueued(
        for taken: UInt32, of connection: any ListenerConnection, _ listener: HTTPListener
    ) -> Bool {
        guard queuedStep == taken else { return false }  // Queued for an earlier step since.
        queuedStep = 0
        guard step != 0 else { return false }
        guard step <= taken else {
            queuedStep = listener.queue(connection, step: step)
            return false
        }
        step = 0
        return true
    }
}
