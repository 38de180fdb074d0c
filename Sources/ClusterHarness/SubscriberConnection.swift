// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Glibc
import HTTP1Wire
import PosixIO

/// One subscriber: a stream to one of its targets, taken up again at the next target after each
/// end, with the ID it got last.
///
/// Threads: the set's.
final class SubscriberConnection {
    private enum State {
        case waiting(until: MonotonicTime)
        case connecting
        case awaitingHead
        case streaming
        case finished
    }

    private(set) var record: SubscriberRecord
    private var state: State
    private var socket: Holder?
    private let path: String
    private let targets: [UInt16]
    private var nextTarget: Int
    private var lastEventID: [UInt8]
    private var head = HTTP1ResponseParser(method: .get)
    private var unread: [UInt8] = []
    private var body = HTTP1ResponseHead.Body.untilClose
    private var chunks = ChunkedBodyDecoder(maximumBodyBytes: nil)
    private var events = EventStreamParser()
    private let honoursRetry: Bool
    private var streamEnded: MonotonicTime?
    private var lastArrival: MonotonicTime?

    private static let reconnectDelay: Duration = .milliseconds(100)
    private static let numberKey = Array("\"n\":".utf8)

    private final class Holder {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    init(
        name: String, path: String, targets: [UInt16], first: Int, lastEventID: EventID?,
        honoursRetry: Bool
    ) {
        self.honoursRetry = honoursRetry
        record = SubscriberRecord(name: name)
        self.path = path
        self.targets = targets
        nextTarget = first % targets.count
        self.lastEventID = lastEventID.map { Array("\($0)".utf8) } ?? []
        state = .waiting(until: .now)
    }

    var isStreaming: Bool { if case .streaming = state { true } else { false } }

    /// What to ask the kernel about; a negative number where there is no socket.
    var interest: pollfd {
        guard let socket else { return pollfd(fd: -1, events: 0, revents: 0) }
        let events = if case .connecting = state { POLLOUT } else { POLLIN }
        return pollfd(fd: socket.descriptor.number, events: Int16(events), revents: 0)
    }

    /// Does what is due, and what `isReady` allows.
    func turn(isReady: Bool, now: MonotonicTime, buffer: UnsafeMutableRawBufferPointer) {
        switch state {
        case .waiting(let until) where now >= until: connect()
        case .connecting where isReady: sendRequest()
        case .awaitingHead where isReady, .streaming where isReady: unsafe receive(buffer)
        default: break
        }
    }

    func finish() {
        socket = nil
        state = .finished
    }

    // MARK: - Parts

    private func connect() {
        let port = targets[nextTarget]
        nextTarget = (nextTarget + 1) % targets.count
        do throws(Errno) {
            socket = Holder(try StreamSocket.connect(to: .loopback(port: port)))
            state = .connecting
        } catch {
            reconnectLater()
        }
    }

    private func sendRequest() {
        guard let socket, StreamSocket.pendingError(of: socket.descriptor.number) == nil else {
            return reconnectLater()
        }
        var headers = HTTPHeaders()
        headers.append("Accept", "text/event-stream")
        if !lastEventID.isEmpty {
            headers.append("Last-Event-ID", String(decoding: lastEventID, as: UTF8.self))
        }
        var request = ByteWriter()
        HTTP1RequestEncoder.append(
            method: .get, target: path, host: "127.0.0.1", headers: headers, to: &request)
        let sent = unsafe request.bytes.withUnsafeBytes {
            unsafe StreamSocket.write(socket.descriptor.number, $0)
        }
        // A fresh connection takes a request of this size whole.
        guard sent == .transferred(request.count) else { return reconnectLater() }
        head = HTTP1ResponseParser(method: .get)
        chunks = ChunkedBodyDecoder(maximumBodyBytes: nil)
        events = EventStreamParser(lastEventID: lastEventID)
        unread.removeAll(keepingCapacity: true)
        state = .awaitingHead
    }

    private func receive(_ buffer: UnsafeMutableRawBufferPointer) {
        guard let socket else { return }
        switch unsafe StreamSocket.read(socket.descriptor.number, into: buffer) {
        case .wouldBlock: return
        case .endOfFile, .failed: return reconnectLater()
        case .transferred(let count):
            let piece = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
            do throws(HTTP1Error) {
                if isStreaming {
                    let bytes = unsafe Array(piece)
                    try readBody(bytes.span)
                } else {
                    unsafe unread.append(contentsOf: piece)
                    try readHead()
                }
            } catch {
                record.complain("broken HTTP: \(error)")
                reconnectLater()
            }
        }
    }

    private func readHead() throws(HTTP1Error) {
        let bytes = unread
        guard case .head(let answer, let consumed) = try head.parse(bytes.span) else { return }
        guard answer.status == 200 else {
            // A node that starts or drains sends its clients elsewhere; the rest is an error.
            if answer.status != 503 { record.complain("status \(answer.status)") }
            return reconnectLater()
        }
        body = answer.body
        state = .streaming
        record.streams += 1
        if let ended = streamEnded {
            record.note(outage: .now - ended, after: honoursRetry ? record.retry : nil)
            streamEnded = nil
        }
        let rest = Array(unread[consumed...])
        unread.removeAll(keepingCapacity: true)
        try readBody(rest.span)
    }

    private func readBody(_ bytes: borrowing Span<UInt8>) throws(HTTP1Error) {
        guard body == .chunked else { return readEvents(bytes) }
        _ = try chunks.decode(bytes) { readEvents($0) }
        if chunks.isComplete { reconnectLater() }
    }

    private func readEvents(_ bytes: borrowing Span<UInt8>) {
        do throws(EventStreamError) {
            try events.feed(bytes) { take($0) }
        } catch {
            record.complain("broken stream: \(error)")
            reconnectLater()
        }
    }

    private func take(_ message: EventStreamMessage) {
        let now = MonotonicTime.now
        if let lastArrival { record.longestSilence = max(record.longestSilence, now - lastArrival) }
        lastArrival = now
        guard let number = JSONScan.number(Self.numberKey, in: message.data.span) else {
            return record.complain("\(message.event): \(message.dataText.prefix(200))")
        }
        do throws(EventIDError) {
            let id = try message.cursor()
            record.add(Receipt(id: id, number: UInt32(truncatingIfNeeded: number)))
        } catch {
            record.complain("event \(number) without a usable ID: \(error)")
        }
    }

    private func reconnectLater() {
        var delay = Self.reconnectDelay
        if isStreaming {
            lastEventID = events.lastEventID
            record.retry = events.retry ?? record.retry
            streamEnded = .now
            // Where a target refuses, the next one is asked soon, as a balancer does.
            if honoursRetry { delay = record.retry ?? delay }
        }
        socket = nil
        guard case .finished = state else {
            state = .waiting(until: .now + delay)
            return
        }
    }
}
