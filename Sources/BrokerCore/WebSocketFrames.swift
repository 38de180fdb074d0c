// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO
package import WebSocketWire

/// What the frames of a batch are frames of.
package enum FrameFormat: Sendable {
    /// `text/event-stream`.
    case eventStream
    /// WebSocket: one JSON text each, unmasked.
    case webSocket
    /// The same under permessage-deflate: each text compressed by itself.
    case deflated(DeflateWindow)
}

/// The events of a batch in one format: all bytes, and where each event's frame ends.
final class FrameSet: Sendable {
    let bytes: SharedBytes
    let ends: [UInt32]

    init(bytes: SharedBytes, ends: [UInt32]) {
        self.bytes = bytes
        self.ends = ends
    }

    var memoryBytes: Int { bytes.count + ends.count * 4 + 64 }
}

/// Makes the WebSocket form of a batch out of its event stream frames.
///
/// An event becomes one text frame,
/// `{"id":"…","event":"…","channel":"…","data":{…}}`, and a notice
/// `{"type":"gap","id":"…","data":{…}}`. The frames lie in the same order as the others, so a place
/// in one form is a place in the other.
enum WebSocketFrames {
    /// Held while a batch is written, so that loops that meet it at the same time write it once.
    /// It guards a number of written batches and not nothing: the thread sanitizer takes an access
    /// to a value without a size for one to the lock itself.
    static let writing = Lock(UInt64(0))

    /// - Parameters:
    ///   - frames: What ``EventStreamEncoder`` wrote, frame by frame.
    ///   - ends: Where each of them ends.
    ///   - channels: The channels that show the events, and which copy of the frames each shows;
    ///     none for a notice. Copies lie one after the other, `rows` frames each.
    ///   - textRows: The rows, ascending, whose data is no JSON object and is given as a string.
    static func make(
        from frames: SharedBytes, ends: [UInt32], channels: [(name: String, copy: Int)], rows: Int,
        textRows: [Int]
    ) -> FrameSet {
        var output = ByteWriter(reserving: frames.count + ends.count * 64)
        var madeEnds: [UInt32] = []
        madeEnds.reserveCapacity(max(1, channels.count) * rows)
        let runs: [(name: [UInt8]?, copy: Int)] =
            channels.isEmpty
            ? [(nil, 0)]
            : channels.map { channel in
                var name = ByteWriter()
                channel.name.appendJSON(to: &name)
                return (name.bytes, channel.copy)
            }
        var head = ByteWriter(reserving: 256)
        let source = frames.span
        for run in runs {
            for row in 0..<rows {
                let index = run.copy * rows + row
                let start = index == 0 ? 0 : Int(ends[index - 1])
                let frame = EncodedEvent(source.extracting(start..<Int(ends[index])))
                head.removeAll()
                appendHead(of: frame, channel: run.name, to: &head)
                let isText = !textRows.isEmpty && textRows.contains(row)
                append(head, frame, asText: isText, to: &output)
                madeEnds.append(UInt32(output.count))
            }
        }
        return FrameSet(bytes: SharedBytes(output.bytes), ends: madeEnds)
    }

    /// The frames of `plain`, each compressed where that makes it smaller.
    static func deflated(_ plain: FrameSet, within window: DeflateWindow) -> FrameSet {
        guard let deflater = MessageDeflater(window) else {
            // Only for want of memory, where nothing else would go on either.
            preconditionFailure("deflate has no memory")
        }
        var output = ByteWriter(reserving: plain.bytes.count)
        var madeEnds: [UInt32] = []
        madeEnds.reserveCapacity(plain.ends.count)
        let bytes = plain.bytes
        let source = bytes.span
        var start = 0
        for end in plain.ends {
            let payload = WebSocketFrame.payloadRange(at: start, of: source)
            deflater.append(.text, source.extracting(payload), to: &output)
            start = Int(end)
            madeEnds.append(UInt32(output.count))
        }
        return FrameSet(bytes: SharedBytes(output.bytes), ends: madeEnds)
    }

    /// One notice, out of the event stream's frame for it.
    static func notice(_ frame: [UInt8]) -> [UInt8] {
        let set = make(
            from: SharedBytes(frame), ends: [UInt32(frame.count)], channels: [], rows: 1,
            textRows: [])
        return set.bytes.copy(0..<set.bytes.count)
    }

    /// Everything before the data.
    private static func appendHead(
        of frame: borrowing EncodedEvent, channel: [UInt8]?, to head: inout ByteWriter
    ) {
        if let channel {
            head.append("{\"id\":\"" as StaticString)
            head.append(frame.id)
            head.append("\",\"event\":\"" as StaticString)
            if frame.name.isEmpty {
                head.append("message" as StaticString)
            } else {
                head.appendEscaped(frame.name)
            }
            head.append("\",\"channel\":" as StaticString)
            head.append(channel)
        } else {
            head.append("{\"type\":\"" as StaticString)
            head.appendEscaped(frame.name)
            // A notice that moves no cursor has none.
            if !frame.id.isEmpty {
                head.append("\",\"id\":\"" as StaticString)
                head.append(frame.id)
            }
            head.append(UInt8(ascii: "\""))
        }
        head.append(",\"data\":" as StaticString)
    }

    private static func append(
        _ head: ByteWriter, _ frame: borrowing EncodedEvent, asText isText: Bool,
        to output: inout ByteWriter
    ) {
        guard !isText else {
            var text = ByteWriter()
            // What is not UTF-8 becomes U+FFFD: one wrong byte would cost the client its socket.
            frame.data(joinedInto: &text)
            var json = ByteWriter(reserving: text.count + 2)
            String(decoding: text.bytes, as: UTF8.self).appendJSON(to: &json)
            WebSocketFrame.appendHeader(
                .text, payloadBytes: head.count + json.count + 1, to: &output)
            output.append(head.bytes)
            output.append(json.bytes)
            output.append(UInt8(ascii: "}"))
            return
        }
        WebSocketFrame.appendHeader(
            .text, payloadBytes: head.count + frame.dataBytes + 1, to: &output)
        output.append(head.bytes)
        frame.data(joinedInto: &output)
        output.append(UInt8(ascii: "}"))
    }
}

/// One event as ``EventStreamEncoder`` wrote it, taken apart again: an `id:` unless it is a notice
/// without one, an `event:` where there is a name, and one `data:` or more.
struct EncodedEvent: ~Escapable {
    private let frame: Span<UInt8>
    private let idRange: Range<Int>
    private let nameRange: Range<Int>
    /// From the first byte after the first `data: ` to the line break that ends the last one.
    private let dataRange: Range<Int>

    private static let lineFeed = UInt8(ascii: "\n")
    private static let idPrefix = "id: ".utf8.count
    private static let namePrefix = "event: ".utf8.count
    private static let dataPrefix = "data: ".utf8.count

    @_lifetime(copy frame)
    init(_ frame: Span<UInt8>) {
        self.frame = frame
        var next = 0
        var id = 0..<0
        if !frame.isEmpty, frame[0] == UInt8(ascii: "i") {
            let end = frame.firstIndex(of: Self.lineFeed) ?? frame.count
            id = min(Self.idPrefix, end)..<end
            next = min(end + 1, frame.count)
        }
        idRange = id
        var name = next..<next
        if next < frame.count, frame[next] == UInt8(ascii: "e") {
            let end = frame.firstIndex(of: Self.lineFeed, from: next) ?? frame.count
            name = min(next + Self.namePrefix, end)..<end
            next = min(end + 1, frame.count)
        }
        nameRange = name
        // The last data line's break, and the blank line behind it.
        let end = max(next, frame.count - 2)
        dataRange = min(next + Self.dataPrefix, end)..<end
    }

    var id: Span<UInt8> {
        @_lifetime(copy self)
        get { frame.extracting(idRange) }
    }

    /// Empty where the event has no name, which a client reads as `message`.
    var name: Span<UInt8> {
        @_lifetime(copy self)
        get { frame.extracting(nameRange) }
    }

    /// The data's length with one line break between its lines.
    var dataBytes: Int {
        var count = dataRange.count
        forEachBreak { _ in count -= Self.dataPrefix }
        return count
    }

    /// Appends the data with one line break between its lines.
    func data(joinedInto output: inout ByteWriter) {
        var start = dataRange.lowerBound
        forEachBreak { position in
            output.append(frame.extracting(start..<(position + 1)))
            start = position + 1 + Self.dataPrefix
        }
        output.append(frame.extracting(start..<dataRange.upperBound))
    }

    private func forEachBreak(_ body: (Int) -> Void) {
        let data = frame.extracting(0..<dataRange.upperBound)
        var start = dataRange.lowerBound
        while let position = data.firstIndex(of: Self.lineFeed, from: start) {
            body(position)
            start = min(position + 1 + Self.dataPrefix, data.count)
        }
    }
}
