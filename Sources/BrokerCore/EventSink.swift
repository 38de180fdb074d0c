// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import CLinux
package import EventStreamWire

/// What became of bytes offered to a connection.
package enum SinkWrite: Sendable, Equatable {
    /// All were taken.
    case all
    /// So many were taken; the connection is full and will say when it is writable again.
    case some(Int)
    /// The connection has ended.
    case ended
}

/// The sending side of one connection, as the hub sees it.
///
/// View: shard. Threads: the loop's. HTTP streams conform to it; so do the sinks of tests.
package protocol EventSink: AnyObject {
    /// Offers bytes. Nothing is copied or queued: what is not taken stays with the caller.
    func write(_ pieces: UnsafeBufferPointer<iovec>) -> SinkWrite
    /// The socket that takes the bytes of this sink just as they are, and before which nothing waits
    /// to be sent. `nil` where bytes have to go through ``write(_:)``.
    ///
    /// It holds until the hub offers something through ``write(_:)``, or is told of the sink's end.
    var openSocket: CInt? { get }
    /// So many bytes have been sent to ``openSocket``, on behalf of any sinks of this kind.
    ///
    /// - Parameter isFull: This sink's socket took less than it was offered; the sink says when it
    ///   takes more.
    func sentToSocket(_ bytes: Int, isFull: Bool)
    /// Ends the connection in an orderly way after what was taken.
    func finish()
    /// Ends the stream, which has come to the end that its client asked for.
    func complete()
    /// Ends the connection at once.
    func abort()
}

extension EventSink {
    /// A stream that is a connection of its own ends with it.
    package func complete() { finish() }
    package var openSocket: CInt? { nil }
    package func sentToSocket(_ bytes: Int, isFull: Bool) {}
}

/// Older events for connections that the hot window cannot serve.
///
/// View: node. Threads: any.
package protocol ReplaySource: Sendable {
    /// Reads the events of `topics` after `cursor`, as many as make a page, and calls `completion`
    /// on a thread of the source's own.
    func readPage(
        of subscription: Subscription, after cursor: EventID,
        completion: @escaping @Sendable (ReplayOutcome) -> Void)
}

/// All that a hub asks of history: pages, and where to begin.
///
/// View: node. Threads: any.
package protocol HistorySource: ReplaySource {
    /// Finds the place after which `count` events up to and including `end` match, and calls
    /// `completion` on a thread of the source's own. How much it looks at is bounded.
    func findStart(
        of subscription: Subscription, last count: Int, through end: EventID,
        completion: @escaping @Sendable (LookbackOutcome) -> Void)
}

/// What a search backwards through history has come to.
package enum LookbackOutcome: Sendable {
    /// Where to begin, `nil` where nothing matches. `notice` tells of older events that were not
    /// looked at, or cannot be, where fewer were found than asked for.
    case start(EventID?, notice: GapNotice?)
    /// History cannot be asked at the moment; ask again later.
    case unavailable
}

/// One answer of a ``ReplaySource``.
package enum ReplayOutcome: Sendable {
    /// Batches in the order of their IDs. They hold everything there is up to `through`, notices of
    /// gaps included.
    case page(batches: [EventBatch], through: EventID)
    /// The cursor lies beyond `tip`, the newest ID there is, for which `reason` says why.
    case unknownCursor(tip: EventID, reason: GapNotice.Reason)
    /// The cursor lies in what Redis has lost: `notice` says so, and what comes after its `from`,
    /// comes after its `to`. The cursor may have to go back for that.
    case lost(notice: GapNotice)
    /// History cannot be asked at the moment; ask again later.
    case unavailable
}
