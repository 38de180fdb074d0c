// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import EventStreamWire
import WebSocketWire

/// One subscription of a WebSocket, as the hub sees it: a connection of its own.
///
/// View: shard. Threads: its loop's.
final class WebSocketSubscription: EventSink {
    let name: String
    let subscription: Subscription
    private let output: WebSocketOutput
    /// Set once the hub knows the subscription.
    var key: Hub.Key?
    /// It waits for its turn at the socket.
    fileprivate(set) var isWaiting = false

    init(name: String, _ subscription: Subscription, output: WebSocketOutput) {
        self.name = name
        self.subscription = subscription
        self.output = output
    }

    func write(_ pieces: UnsafeBufferPointer<iovec>) -> SinkWrite {
        unsafe output.write(pieces, for: self)
    }

    /// The hub sends all its clients away.
    func finish() { output.hubHasFinished() }

    /// The stream is over; the socket stays for the others.
    func complete() { output.hubHasCompleted(self) }

    /// The hub has met an end of the socket.
    func abort() { output.abort() }
}

/// Shares one socket out among its subscriptions and the session's own messages.
///
/// View: shard. Threads: its loop's. Frames of different origin never mix: while one is sent in
/// part, its origin alone goes on, and no further than to the frame's end where others wait. Then
/// come the session's messages, and then each subscription that waits has a turn of as much as the
/// socket takes. Nothing of an event is kept here; what is not taken stays with the hub.
///
/// Events do not say which subscription they belong to, so that all clients get the same bytes.
/// Where another one than the client was told of last has its turn, a message says so first.
final class WebSocketOutput {
    private let socket: any EventSink
    private let hub: Hub
    /// Called where the hub ends a subscription that is not asked for by the session.
    var whenHubFinishes: (() -> Void)?
    /// Called where a subscription has come to the end that it was asked to have.
    var whenHubCompletes: ((WebSocketSubscription) -> Void)?

    /// Frames of the session's own that were not taken yet; the first perhaps in part.
    private var own: [UInt8] = []
    /// How much at the beginning of `own` is the rest of an event whose subscription has gone.
    private var restBytes = 0
    /// The subscription in the middle of a frame, and how much of that is missing.
    private var begun: (subscription: WebSocketSubscription, bytesLeft: Int)?
    private var waiting: [WebSocketSubscription] = []
    /// Whose events the client takes the next ones for.
    private weak var announced: WebSocketSubscription?
    /// It was announced for events of which no byte is sent yet. It keeps its turn until then: if
    /// it lost it to another, a socket with little room would carry announcements only.
    private var announcedHasTurn = false
    /// The socket was full and has not said since that it is writable.
    private var isFull = false
    private(set) var hasEnded = false
    /// Bytes that the socket has taken; tells whether it still takes any.
    private(set) var bytesTaken: UInt64 = 0

    init(_ socket: any EventSink, hub: Hub) {
        self.socket = socket
        self.hub = hub
    }

    /// True where nothing waits for the socket that the session could wait for.
    var isFlushed: Bool { own.isEmpty && begun == nil }

    /// True while somebody waits for the socket.
    var isBlocked: Bool { isFull }

    // MARK: - The session's own frames

    /// Sends whole frames, now or between two others.
    ///
    /// - Returns: False where too much waits already.
    func say(_ frames: [UInt8]) -> Bool {
        guard !hasEnded else { return true }
        guard own.count - restBytes + frames.count <= WebSocketLimits.waitingBytes else {
            return false
        }
        own += frames
        _ = flush()
        return true
    }

    /// Tells the client whose events come next; they need no announcement of their own then.
    func announce(_ subscription: WebSocketSubscription, with frames: [UInt8]) -> Bool {
        announced = subscription
        announcedHasTurn = false
        return say(frames)
    }

    /// Sends what waits of the session's own; false where any is left.
    private func flush() -> Bool {
        guard !own.isEmpty else { return true }
        guard begun == nil, !isFull, !hasEnded else { return false }
        switch socket.write(own) {
        case .all:
            bytesTaken += UInt64(own.count)
            own = []
            restBytes = 0
            return true
        case .some(let count):
            bytesTaken += UInt64(count)
            own.removeFirst(count)
            restBytes = max(0, restBytes - count)
            isFull = true
            return false
        case .ended:
            end()
            return false
        }
    }

    // MARK: - Subscriptions

    /// Takes a subscription out. A frame that it has begun is sent to its end all the same.
    func remove(_ subscription: WebSocketSubscription) {
        waiting.removeAll { $0 === subscription }
        let rest = subscription.key.map { hub.unsubscribe($0) } ?? []
        subscription.key = nil
        guard let begun, begun.subscription === subscription else { return }
        precondition(rest.count >= begun.bytesLeft, "the rest of a frame is lost")
        // Nothing of the session's own can have been sent in part while this frame was.
        own = Array(rest.prefix(begun.bytesLeft)) + own
        restBytes = begun.bytesLeft
        self.begun = nil
        _ = flush()
    }

    func write(
        _ pieces: UnsafeBufferPointer<iovec>, for subscription: WebSocketSubscription
    ) -> SinkWrite {
        guard !hasEnded else { return .ended }
        if let begun, begun.subscription === subscription {
            guard !isFull else { return .some(0) }
            guard waiting.isEmpty, own.isEmpty else {
                return unsafe finishFrame(pieces, of: subscription, begun.bytesLeft)
            }
            return unsafe offer(pieces, of: subscription, boundary: begun.bytesLeft)
        }
        guard begun == nil, !isFull, flush() else { return wait(subscription) }
        if announced !== subscription {
            announced = subscription
            announcedHasTurn = true
            own += Self.announcement(of: subscription)
            guard flush() else { return wait(subscription) }
        }
        return unsafe offer(pieces, of: subscription, boundary: 0)
    }

    private func wait(_ subscription: WebSocketSubscription) -> SinkWrite {
        guard !hasEnded else { return .ended }
        if !subscription.isWaiting {
            subscription.isWaiting = true
            let isNext = announcedHasTurn && announced === subscription
            waiting.insert(subscription, at: isNext ? 0 : waiting.count)
        }
        return .some(0)
    }

    private static func announcement(of subscription: WebSocketSubscription) -> [UInt8] {
        var json = JSONText()
        json.object {
            $0.field("type", "events")
            $0.field("subscription", subscription.name)
        }
        return WebSocketFrame.text(json.bytes)
    }

    /// Offers everything. `boundary` is where the first frame begins: 0, or behind the rest of one.
    private func offer(
        _ pieces: UnsafeBufferPointer<iovec>, of subscription: WebSocketSubscription, boundary: Int
    ) -> SinkWrite {
        let outcome = unsafe socket.write(pieces)
        switch outcome {
        case .all:
            // An offer ends where a frame ends.
            begun = nil
            announcedHasTurn = false
            for index in pieces.indices { bytesTaken += UInt64(unsafe pieces[index].iov_len) }
        case .some(let count):
            bytesTaken += UInt64(count)
            isFull = true
            if count > 0 { announcedHasTurn = false }
            let left = unsafe Self.bytesLeft(of: pieces, taken: count, boundary: boundary)
            if left > 0 {
                begun = (subscription, left)
            } else {
                begun = nil
                _ = wait(subscription)
            }
        case .ended: end()
        }
        return outcome
    }

    /// Offers the rest of one frame, because others wait for its end.
    private func finishFrame(
        _ pieces: UnsafeBufferPointer<iovec>, of subscription: WebSocketSubscription,
        _ bytesLeft: Int
    ) -> SinkWrite {
        // A frame lies in one piece: pieces are runs of whole frames, but for the first.
        precondition(unsafe pieces.count > 0 && pieces[0].iov_len >= bytesLeft, "a frame is torn")
        var piece = unsafe iovec(iov_base: pieces[0].iov_base, iov_len: bytesLeft)
        let outcome = unsafe withUnsafePointer(to: &piece) {
            unsafe socket.write(UnsafeBufferPointer(start: $0, count: 1))
        }
        switch outcome {
        case .all:
            bytesTaken += UInt64(bytesLeft)
            begun = nil
            _ = wait(subscription)
            return .some(bytesLeft)
        case .some(let count):
            bytesTaken += UInt64(count)
            isFull = true
            begun = (subscription, bytesLeft - count)
            return outcome
        case .ended:
            end()
            return outcome
        }
    }

    /// How much is missing of the frame that byte `taken` of `pieces` lies in; 0 between frames.
    private static func bytesLeft(
        of pieces: UnsafeBufferPointer<iovec>, taken: Int, boundary: Int
    ) -> Int {
        var boundary = boundary
        var start = 0
        for index in pieces.indices {
            let piece = unsafe pieces[index]
            let end = unsafe start + piece.iov_len
            let bytes = unsafe UnsafeBufferPointer(
                start: piece.iov_base?.assumingMemoryBound(to: UInt8.self), count: piece.iov_len)
            let span = unsafe Span(_unsafeElements: bytes)
            while boundary < min(end, taken) {
                boundary += WebSocketFrame.byteCount(at: boundary - start, of: span)
            }
            guard boundary < taken else { break }
            start = end
        }
        return max(0, boundary - taken)
    }

    // MARK: - The socket

    func socketIsWritable() {
        guard !hasEnded else { return }
        isFull = false
        if let key = begun?.subscription.key { hub.sinkIsWritable(key) }
        guard flush() else { return }
        // Who waits again meanwhile waits for the next time.
        for _ in 0..<waiting.count {
            guard !isFull, !hasEnded, !waiting.isEmpty else { return }
            let subscription = waiting.removeFirst()
            subscription.isWaiting = false
            if let key = subscription.key { hub.sinkIsWritable(key) }
        }
    }

    func finish() { socket.finish() }

    /// Ends the socket. Its owner is told by the socket itself.
    func abort() {
        guard !hasEnded else { return }
        end()
        socket.abort()
    }

    /// The socket has ended, or is about to.
    func end() {
        hasEnded = true
        own = []
        restBytes = 0
        begun = nil
        waiting = []
    }

    func hubHasFinished() { whenHubFinishes?() }

    func hubHasCompleted(_ subscription: WebSocketSubscription) { whenHubCompletes?(subscription) }
}
