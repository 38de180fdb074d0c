// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// One dispatched event, as an `EventSource` would hand it to its listeners.
package struct EventStreamMessage: Sendable, Hashable {
    /// The event's type in UTF-8; `message` where the stream gave none.
    package let eventBytes: [UInt8]

    /// The data lines, joined by LF.
    package let data: [UInt8]

    /// The last ID that the stream gave, with this event or before it; empty where it gave none.
    package let lastEventIDBytes: [UInt8]

    package var event: String { String(decoding: eventBytes, as: UTF8.self) }
    package var dataText: String { String(decoding: data, as: UTF8.self) }
    package var lastEventID: String { String(decoding: lastEventIDBytes, as: UTF8.self) }

    /// ``lastEventID`` as a cursor.
    package func cursor() throws(EventIDError) -> EventID {
        try EventID.parse(lastEventIDBytes.span)
    }
}

/// Reads a `text/event-stream` as it arrives (WHATWG HTML, section 9.2.6 "Interpreting an event
/// stream").
///
/// Threads: the one that owns the connection. Chunks may end anywhere, also between CR and LF or
/// inside the byte order mark. An event that the stream's end cuts off is dropped, as the standard
/// demands; so there is nothing to call at the end.
package struct EventStreamParser: Sendable {
    /// Four times the largest body that a node takes in a publication, so whatever a node sends
    /// can be read.
    package static let defaultMaximumEventBytes = 4 * 1024 * 1024

    private static let carriageReturn = UInt8(ascii: "\r")
    private static let lineFeed = UInt8(ascii: "\n")
    private static let messageType = Array("message".utf8)

    /// The delay before reconnecting that the stream asked for, if it did.
    package private(set) var retry: Duration?

    /// What `Last-Event-ID` is on reconnect: the ID of the last event that was complete.
    package private(set) var lastEventID: [UInt8]

    private let maximumEventBytes: Int
    /// The beginning of a line whose end has not arrived.
    private var partialLine: [UInt8] = []
    private var endedInCarriageReturn = false
    private var isFirstLine = true
    private var data: [UInt8] = []
    private var eventType: [UInt8] = []
    private var idBuffer: [UInt8]

    /// - Parameters:
    ///   - maximumEventBytes: How much of one event may be held: its data and the line that
    ///     arrives. More is an error.
    ///   - lastEventID: The cursor of the connection that this one continues.
    package init(
        maximumEventBytes: Int = defaultMaximumEventBytes,
        lastEventID: [UInt8] = []
    ) {
        self.maximumEventBytes = maximumEventBytes
        self.lastEventID = lastEventID
        idBuffer = lastEventID
    }

    /// Takes in the next bytes of the stream and calls `deliver` with each event they complete, in
    /// order.
    package mutating func feed(
        _ chunk: borrowing Span<UInt8>,
        deliver: (EventStreamMessage) -> Void
    ) throws(EventStreamError) {
        var start = 0
        if endedInCarriageReturn, !chunk.isEmpty {
            endedInCarriageReturn = false
            if chunk[0] == Self.lineFeed { start = 1 }
        }
        // Each search goes on where it last found something, so a chunk is searched once for CR
        // and once for LF, however many lines it has.
        var nextLineFeed = -1
        var nextCarriageReturn = -1
        while start < chunk.count {
            if nextLineFeed < start {
                nextLineFeed = chunk.firstIndex(of: Self.lineFeed, from: start) ?? chunk.count
            }
            if nextCarriageReturn < start {
                nextCarriageReturn =
                    chunk.firstIndex(of: Self.carriageReturn, from: start) ?? chunk.count
            }
            let end = min(nextLineFeed, nextCarriageReturn)
            guard end < chunk.count else { break }
            try endLine(chunk.extracting(start..<end), deliver)
            start = end + 1
            guard end == nextCarriageReturn else { continue }
            if start == chunk.count {
                endedInCarriageReturn = true
            } else if chunk[start] == Self.lineFeed {
                start += 1
            }
        }
        try hold(chunk.extracting(start..<chunk.count))
    }

    /// The events that the next bytes of the stream complete.
    package mutating func messages(
        in chunk: borrowing Span<UInt8>
    ) throws(EventStreamError) -> [EventStreamMessage] {
        var messages: [EventStreamMessage] = []
        try feed(chunk) { messages.append($0) }
        return messages
    }

    private mutating func hold(_ piece: borrowing Span<UInt8>) throws(EventStreamError) {
        guard !piece.isEmpty else { return }
        try checkSize(adding: partialLine.count + piece.count)
        unsafe piece.withUnsafeBufferPointer { unsafe partialLine.append(contentsOf: $0) }
    }

    private func checkSize(adding count: Int) throws(EventStreamError) {
        guard data.count + count <= maximumEventBytes else {
            throw EventStreamError(
                .eventTooLarge,
                "an event of more than \(maximumEventBytes) bytes"
            )
        }
    }

    private mutating func endLine(
        _ rest: borrowing Span<UInt8>,
        _ deliver: (EventStreamMessage) -> Void
    ) throws(EventStreamError) {
        guard !partialLine.isEmpty else { return try interpret(rest, deliver) }
        try hold(rest)
        var line: [UInt8] = []
        swap(&line, &partialLine)
        try interpret(line.span, deliver)
        // The memory serves the next partial line.
        line.removeAll(keepingCapacity: true)
        swap(&line, &partialLine)
    }

    private mutating func interpret(
        _ line: borrowing Span<UInt8>,
        _ deliver: (EventStreamMessage) -> Void
    ) throws(EventStreamError) {
        var start = 0
        if isFirstLine {
            isFirstLine = false
            // The byte order mark, which UTF-8 does not need and the standard allows once.
            let hasMark =
                line.count >= 3 && line[0] == 0xef && line[1] == 0xbb && line[2] == 0xbf
            if hasMark { start = 3 }
        }
        try checkSize(adding: line.count)
        guard start < line.count else { return dispatch(deliver) }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":"), from: start) else {
            return setField(line.extracting(start..<line.count), to: line.extracting(0..<0))
        }
        // A line that begins with a colon is a comment.
        guard colon > start else { return }
        let hasBlank = colon + 1 < line.count && line[colon + 1] == UInt8(ascii: " ")
        setField(
            line.extracting(start..<colon),
            to: line.extracting((hasBlank ? colon + 2 : colon + 1)..<line.count)
        )
    }

    private mutating func setField(
        _ name: borrowing Span<UInt8>,
        to value: borrowing Span<UInt8>
    ) {
        if Self.matches(name, "data") {
            unsafe value.withUnsafeBufferPointer { unsafe data.append(contentsOf: $0) }
            data.append(Self.lineFeed)
        } else if Self.matches(name, "id") {
            guard value.firstIndex(of: 0) == nil else { return }
            Self.replace(&idBuffer, with: value)
        } else if Self.matches(name, "event") {
            Self.replace(&eventType, with: value)
        } else if Self.matches(name, "retry") {
            guard let milliseconds = value.decimal(in: 0..<value.count),
                let signed = Int64(exactly: milliseconds)
            else { return }
            retry = .milliseconds(signed)
        }
    }

    private mutating func dispatch(_ deliver: (EventStreamMessage) -> Void) {
        lastEventID = idBuffer
        if !data.isEmpty {
            data.removeLast()
            deliver(
                EventStreamMessage(
                    eventBytes: eventType.isEmpty ? Self.messageType : eventType,
                    data: data,
                    lastEventIDBytes: idBuffer
                )
            )
        }
        data.removeAll(keepingCapacity: true)
        eventType.removeAll(keepingCapacity: true)
    }

    private static func matches(_ name: borrowing Span<UInt8>, _ text: StaticString) -> Bool {
        guard name.count == text.utf8CodeUnitCount else { return false }
        for index in name.indices where unsafe text.utf8Start[index] != name[index] {
            return false
        }
        return true
    }

    private static func replace(_ target: inout [UInt8], with value: borrowing Span<UInt8>) {
        target.removeAll(keepingCapacity: true)
        unsafe value.withUnsafeBufferPointer { unsafe target.append(contentsOf: $0) }
    }
}
