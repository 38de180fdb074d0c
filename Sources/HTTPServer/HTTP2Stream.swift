// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import HTTP1Wire
import PosixIO

/// One request of an HTTP/2 connection, and the answer or the stream that it gets.
///
/// View: connection. Threads: its loop's. It holds no bytes: its connection's session does.
final class HTTP2Stream: ByteStream, RequestAnswering {
    enum Phase: UInt8 {
        /// The handler has the request, or will get it.
        case answering
        /// The answer is complete, whether or not it has been sent.
        case answered
        /// Belongs to an observer.
        case streaming
        /// The observer has ended it, or the peer, or the connection.
        case ended
    }

    /// What a stream waits for before it may write again.
    enum Wait: UInt8 {
        case none
        /// The peer has to open this stream's window.
        case window
        /// Its turn among the streams of its connection, once that has room.
        case turn
    }

    let connection: HTTP2Connection
    let number: Int32
    var phase = Phase.answering
    var wait = Wait.none
    var methodIndex: UInt8 = 0
    var isHead = false
    var observer: (any ByteStreamObserver)?
    /// Why the stream ended, until the observer is told.
    var streamEnd: StreamEnd?

    init(_ number: Int32, of connection: HTTP2Connection) {
        self.connection = connection
        self.number = number
        super.init(peer: connection.peer)
    }

    // MARK: - The exchange

    var clientHasGone: Bool { phase == .ended }

    func respond(status: Int, headers: [(String, String)], body: [UInt8]) {
        connection.respond(self, status: status, headers: headers, body: body)
    }

    func openStream(
        status: Int, headers: [(String, String)], observer: any ByteStreamObserver,
        writesAtOnce: Bool
    ) -> ByteStream? {
        connection.open(self, status: status, headers: headers, observer: observer)
    }

    func exchangeWasDropped() { connection.exchangeWasDropped(self) }

    // MARK: - The stream

    override func write(_ pieces: UnsafeBufferPointer<iovec>) -> ByteStreamWrite {
        unsafe connection.write(pieces, on: self)
    }

    override func finish() { connection.finish(self) }

    override func abort() { connection.abort(self) }

    /// Counted for the whole connection, because nothing tells its streams' bytes apart once they
    /// are in the socket.
    override var unsentBytes: Int { phase == .ended ? 0 : connection.unsentBytes }
}
