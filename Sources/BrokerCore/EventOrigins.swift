// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire

/// Where the events of a batch come from in Kafka, and what came with them: for those who ask with
/// `metadata=true`.
///
/// View: node. Kept in few bytes and made into text only when somebody asks.
package struct EventOrigins: Sendable {
    package let partition: Int32
    private var writer = ByteWriter()
    private var previousOffset: Int64 = 0
    private var previousTimestamp: Int64 = 0
    package private(set) var count = 0

    package init(partition: Int32) { self.partition = partition }

    package var memoryBytes: Int { writer.count + 48 }

    /// Adds the next event; its headers follow, as many as `headerCount` says.
    ///
    /// - Parameter timestamp: Kafka's, in milliseconds; negative where the record has none.
    package mutating func append(
        offset: Int64, timestamp: Int64, key: borrowing Span<UInt8>, hasKey: Bool, headerCount: Int
    ) {
        writer.appendSignedVarint(offset &- previousOffset)
        writer.appendSignedVarint(timestamp &- previousTimestamp)
        previousOffset = offset
        previousTimestamp = timestamp
        writer.append(hasKey ? 1 : 0)
        if hasKey { appendText(key) }
        writer.appendVarint(UInt64(headerCount))
        count += 1
    }

    package mutating func appendHeader(
        name: borrowing Span<UInt8>, value: borrowing Span<UInt8>
    ) {
        appendText(name)
        appendText(value)
    }

    private mutating func appendText(_ text: borrowing Span<UInt8>) {
        writer.appendVarint(UInt64(text.count))
        writer.append(text)
    }

    /// Gives each event's beginning of a JSON object: everything but its `data`.
    func forEachHead(topic: String, _ body: (_ row: Int, _ head: ByteWriter) -> Void)
        throws(ByteReaderError)
    {
        let bytes = writer.bytes
        let span = bytes.span
        var reader = ByteReader(span)
        var place = ByteWriter()
        place.append("{\"topic\":" as StaticString)
        topic.appendJSON(to: &place)
        place.append(",\"partition\":" as StaticString)
        Int64(partition).appendJSON(to: &place)
        var offset: Int64 = 0
        var timestamp: Int64 = 0
        for row in 0..<count {
            var head = place
            offset &+= try reader.readSignedVarint()
            timestamp &+= try reader.readSignedVarint()
            head.append(",\"offset\":" as StaticString)
            offset.appendJSON(to: &head)
            head.append(",\"timestamp\":" as StaticString)
            if timestamp >= 0 {
                timestamp.appendJSON(to: &head)
            } else {
                head.append("null" as StaticString)
            }
            if try reader.readByte() == 1 {
                let key = try reader.readLengthPrefixedRange()
                Self.append("key", span.extracting(key), to: &head)
            } else {
                head.append(",\"key\":null" as StaticString)
            }
            head.append(",\"headers\":[" as StaticString)
            for index in 0..<(try reader.readVarint()) {
                let name = try reader.readLengthPrefixedRange()
                let value = try reader.readLengthPrefixedRange()
                head.append((index == 0 ? "{\"name\":" : ",{\"name\":") as StaticString)
                Self.text(span.extracting(name)).appendJSON(to: &head)
                Self.append("value", span.extracting(value), to: &head)
                head.append(UInt8(ascii: "}"))
            }
            head.append("],\"data\":" as StaticString)
            body(row, head)
        }
    }

    private static func text(_ bytes: borrowing Span<UInt8>) -> String {
        unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }

    /// Appends `,"name":"…"`; bytes that are no text as `,"name_base64":"…"`.
    private static func append(
        _ name: String, _ value: borrowing Span<UInt8>, to output: inout ByteWriter
    ) {
        let text = unsafe value.withUnsafeBufferPointer {
            unsafe String(validating: $0, as: UTF8.self)
        }
        output.append(UInt8(ascii: ","))
        (text == nil ? "\(name)_base64" : name).appendJSON(to: &output)
        output.append(UInt8(ascii: ":"))
        if let text { return text.appendJSON(to: &output) }
        output.append(UInt8(ascii: "\""))
        appendBase64(value, to: &output)
        output.append(UInt8(ascii: "\""))
    }

    /// RFC 4648, section 4.
    private static func appendBase64(_ value: borrowing Span<UInt8>, to output: inout ByteWriter) {
        let letters = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        for start in stride(from: 0, to: value.count, by: 3) {
            let length = min(3, value.count - start)
            var group: UInt32 = 0
            for index in 0..<3 {
                group = group << 8 | (index < length ? UInt32(value[start + index]) : 0)
            }
            for index in 0..<4 {
                let letter = letters[Int(group >> UInt32(18 - index * 6)) & 63]
                output.append(index <= length ? letter : UInt8(ascii: "="))
            }
        }
    }
}

extension EventBatch {
    /// The same events with their origins around them: `data` is a JSON object that says topic,
    /// partition, offset, timestamp, key and headers beside the event.
    func describe(with origins: EventOrigins) -> EventBatch {
        var heads: [ByteWriter] = []
        do throws(ByteReaderError) {
            try origins.forEachHead(topic: route.topic) { _, head in heads.append(head) }
        } catch {
            preconditionFailure("origins of our own cannot be read: \(error)")
        }
        var output = ByteWriter(reserving: frames.count + frameEnds.count * 128)
        var ends: [UInt32] = []
        ends.reserveCapacity(frameEnds.count)
        let plain = frames
        let source = plain.span
        var data = ByteWriter()
        var start = 0
        for (index, end) in frameEnds.enumerated() {
            let row = index % count
            let frame = EncodedEvent(source.extracting(start..<Int(end)))
            start = Int(end)
            data.removeAll()
            frame.data(joinedInto: &data)
            var wrapped = heads[row]
            if textRows.contains(row) {
                String(decoding: data.bytes, as: UTF8.self).appendJSON(to: &wrapped)
            } else {
                wrapped.append(data.bytes)
            }
            wrapped.append(UInt8(ascii: "}"))
            let text = Self.name(of: frame)
            let bytes = wrapped.bytes
            EventStreamEncoder.append(id: id(ofRow: row), name: text, data: bytes.span, to: &output)
            ends.append(UInt32(output.count))
        }
        return EventBatch(
            firstID: firstID, count: count, route: route, frames: SharedBytes(output.bytes),
            frameEnds: ends, fields: fields, isReplay: isReplay)
    }

    private static func name(of frame: borrowing EncodedEvent) -> String {
        var name = ByteWriter()
        name.append(frame.name)
        return String(decoding: name.bytes, as: UTF8.self)
    }
}
