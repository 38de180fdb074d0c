// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

// What a connection is doing, in three bytes.
extension HTTP1Connection {
    enum Phase: UInt8 {
        /// Waits for a request or holds a part of one.
        case receiving
        /// The handler has the request.
        case answering
        /// The answer is complete and its rest waits in `output`.
        case flushing
        /// Belongs to an observer.
        case streaming
        /// Over the limit: the request, once it comes, is answered with 503.
        case rejecting
        /// Our side is closed; what still comes is discarded so that no reset overtakes the answer.
        case lingering
        case closed
    }

    struct Flags: OptionSet {
        let rawValue: UInt16
        /// The request being answered was HEAD.
        static let isHead = Flags(rawValue: 1 << 0)
        /// The client wants to keep the connection after this answer.
        static let keepsAlive = Flags(rawValue: 1 << 1)
        /// The connection closes once `output` is sent.
        static let closesAfterOutput = Flags(rawValue: 1 << 2)
        /// The peer may still be sending, so closing takes care that it sees the answer.
        static let lingers = Flags(rawValue: 1 << 3)
        /// The socket was full, and nobody has been told yet that it no longer is.
        static let awaitsWritable = Flags(rawValue: 1 << 4)
        /// The loop's interest includes writable.
        static let writableIsArmed = Flags(rawValue: 1 << 5)
        /// The loop's interest leaves readable out.
        static let readingIsPaused = Flags(rawValue: 1 << 6)
        /// ``readBuffered()`` is on the stack and goes on by itself.
        static let isReading = Flags(rawValue: 1 << 7)
        /// The admission gave a slot.
        static let isAdmitted = Flags(rawValue: 1 << 8)
        /// The client speaks HTTP/1.0, which has to be told that the connection stays open.
        static let isHTTP10 = Flags(rawValue: 1 << 9)
        /// A request has been handled on this connection.
        static let hasServed = Flags(rawValue: 1 << 10)
        /// Requests in hand wait until other connections have had their turn.
        static let awaitsTurn = Flags(rawValue: 1 << 11)
        /// The stream has left HTTP: what the peer sends is its observer's.
        static let isUpgraded = Flags(rawValue: 1 << 12)
    }
}
