// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import PosixIO

/// One connection's place in the order of events: a cursor, never a queue.
///
/// View: shard. Threads: its loop's. Owned by the ``Hub``. Besides the cursor it holds at most one
/// batch (the one it is in the middle of) or one page of replay, and the rest of one small message
/// of the hub's own.
final class Subscriber {
    enum Phase {
        /// Has everything; the next batch is pushed to it.
        case caughtUp
        /// Is being served at this moment.
        case pulling
        /// Its socket is full; it goes on when that is writable.
        case blocked
        /// Its cursor is ahead of the window (another node was faster); it waits for batches.
        case ahead
        /// Waits for a page of older events.
        case awaitingPage
        /// Waits for the time at which its next event is to be played, or may pass.
        case paced
    }

    /// Where the next bytes come from.
    enum Source {
        /// Not decided: the cursor alone says where it is.
        case unseated
        case window(ordinal: UInt64)
        case page([EventBatch], index: Int, through: EventID)
    }

    let sink: any EventSink
    let subscriptionClass: SubscriptionClass
    var key = Slab<Subscriber>.Key(index: 0, generation: 0)
    /// The place in the members of the class.
    var memberIndex = 0
    var phase = Phase.caughtUp {
        didSet { if phase != oldValue { subscriptionClass.phaseChanged(of: self) } }
    }
    var source = Source.unseated
    /// Everything up to here has been sent whole. Meaningless while caught up.
    var cursor: EventID
    /// How many bytes of the current batch's slices after `cursor` have been sent.
    var sentBytes = 0
    /// The current batch while `sentBytes` is not zero, so that it can be finished though the
    /// window has let it go.
    var held: EventBatch?
    /// Bytes of the hub's own (`retry:`, a heartbeat) that go before anything else.
    var preamble: [UInt8] = []
    /// True once it has had everything there was.
    var hasBeenLive = false
    /// When bytes were last taken, in milliseconds of the hub's clock. A pass over open sockets does
    /// not note it here: ask ``SubscriptionClass/lastWriteMilliseconds(to:)``.
    var lastWriteMilliseconds: UInt64 = 0
    /// Where the stream has an end or a pace of its own. Such a subscriber is never caught up.
    var passage: Passage?
    /// Where its events are counted against rates. Such a subscriber is never caught up either.
    var meter: Meter?

    init(sink: any EventSink, class subscriptionClass: SubscriptionClass, cursor: EventID) {
        self.sink = sink
        self.subscriptionClass = subscriptionClass
        self.cursor = cursor
    }
}
