// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import BrokerCore
package import Bytes

/// What one Kafka record contributes to history.
package struct HistoryEvent: Sendable, Equatable {
    package var offset: Int64
    /// Milliseconds since 1970, as Kafka says.
    package var timestamp: Int64
    package var key: [UInt8]?
    package var headers: [(name: [UInt8], value: [UInt8])]
    /// A JSON object.
    package var value: [UInt8]

    package init(
        offset: Int64, timestamp: Int64 = 0, key: [UInt8]? = nil,
        headers: [(name: [UInt8], value: [UInt8])] = [], value: [UInt8]
    ) {
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.headers = headers
        self.value = value
    }

    package static func == (a: HistoryEvent, b: HistoryEvent) -> Bool {
        a.offset == b.offset && a.timestamp == b.timestamp && a.key == b.key && a.value == b.value
            && a.headers.elementsEqual(b.headers) { $0.name == $1.name && $0.value == $1.value }
    }
}

/// Writes the bytes of a window entry. One that tells of a ``HistoryLoss`` has none.
///
/// Version 1: one byte `1`, then for each event: its offset less the one before (LEB128; the
/// first less the batch's base), its timestamp less the one before (zigzag), a byte of flags
/// (1 key, 2 headers), the key, the headers as count and name-value pairs, and the value; byte
/// strings carry their length before them.
package struct BatchEncoding: Sendable {
    package private(set) var writer: ByteWriter
    package private(set) var count = 0
    private var previousOffset: Int64
    private var previousTimestamp: Int64 = 0
    package let base: Int64

    package static let version: UInt8 = 1

    /// - Parameter base: The Kafka offset that the batch begins with.
    package init(base: Int64, reserving capacity: Int = 0) {
        writer = ByteWriter(reserving: capacity)
        writer.append(Self.version)
        self.base = base
        previousOffset = base
    }

    /// Appends an event whose parts lie in memory of somebody else's; its value is copied once.
    package mutating func append(
        offset: Int64, timestamp: Int64, key: borrowing Span<UInt8>, hasKey: Bool,
        headers: [(name: [UInt8], value: [UInt8])], value: borrowing Span<UInt8>
    ) {
        precondition(offset >= previousOffset, "offsets of a batch ascend")
        writer.appendVarint(UInt64(offset - previousOffset))
        writer.appendSignedVarint(timestamp &- previousTimestamp)
        previousOffset = offset
        previousTimestamp = timestamp
        writer.append(UInt8((hasKey ? 1 : 0) | (headers.isEmpty ? 0 : 2)))
        if hasKey {
            writer.appendVarint(UInt64(key.count))
            writer.append(key)
        }
        if !headers.isEmpty {
            writer.appendVarint(UInt64(headers.count))
            for header in headers {
                writer.appendVarint(UInt64(header.name.count))
                writer.append(header.name)
                writer.appendVarint(UInt64(header.value.count))
                writer.append(header.value)
            }
        }
        writer.appendVarint(UInt64(value.count))
        writer.append(value)
        count += 1
    }

    /// Appends an event of another batch, whose `bytes` have been read into `layout`.
    package mutating func append(
        _ layout: BatchLayout, row: Int, of bytes: borrowing Span<UInt8>
    ) {
        let key = layout.keys[row]
        append(
            offset: layout.offsets[row], timestamp: layout.timestamps[row],
            key: bytes.extracting(key ?? 0..<0), hasKey: key != nil,
            headers: layout.headers(ofRow: row, in: bytes),
            value: bytes.extracting(layout.values[row]))
    }

    package mutating func append(_ event: HistoryEvent) {
        let key = event.key ?? []
        append(
            offset: event.offset, timestamp: event.timestamp, key: key.span,
            hasKey: event.key != nil, headers: event.headers, value: event.value.span)
    }
}

/// Why the bytes of a window entry cannot be read.
package struct BatchCodecError: Error, Sendable, CustomStringConvertible {
    package let detail: String
    package var description: String { "history entry: \(detail)" }
}

/// Where the parts of a batch's events lie in its bytes. Used again and again.
package struct BatchLayout: Sendable {
    package private(set) var offsets: [Int64] = []
    package private(set) var timestamps: [Int64] = []
    /// The JSON texts.
    package private(set) var values: [Range<Int>] = []
    /// The keys; empty at 0 where an event has none.
    package private(set) var keys: [Range<Int>?] = []
    /// Names and values of headers in turn, by event.
    private var headerRanges: [Range<Int>] = []
    private var headerEnds: [Int] = []
    /// Where reading came to its end.
    private var readEnd = 0

    package init() {}

    /// The headers of one event, copied out of `bytes`.
    package func headers(ofRow row: Int, in bytes: borrowing Span<UInt8>)
        -> [(name: [UInt8], value: [UInt8])]
    {
        let start = row == 0 ? 0 : headerEnds[row - 1]
        var headers: [(name: [UInt8], value: [UInt8])] = []
        for index in stride(from: start, to: headerEnds[row], by: 2) {
            var name = ByteWriter()
            name.append(bytes.extracting(headerRanges[index]))
            var value = ByteWriter()
            value.append(bytes.extracting(headerRanges[index + 1]))
            headers.append((name.bytes, value.bytes))
        }
        return headers
    }

    /// Where the events of `bytes` come from, for those who ask.
    package func origins(partition: Int32, in bytes: borrowing Span<UInt8>) -> EventOrigins {
        var origins = EventOrigins(partition: partition)
        var header = 0
        for row in offsets.indices {
            let key = keys[row]
            origins.append(
                offset: offsets[row], timestamp: timestamps[row],
                key: bytes.extracting(key ?? 0..<0), hasKey: key != nil,
                headerCount: (headerEnds[row] - header) / 2)
            while header < headerEnds[row] {
                origins.appendHeader(
                    name: bytes.extracting(headerRanges[header]),
                    value: bytes.extracting(headerRanges[header + 1]))
                header += 2
            }
        }
        return origins
    }

    /// Reads `bytes`, which have to hold `count` events that begin with offset `base`.
    package mutating func read(_ bytes: borrowing Span<UInt8>, base: Int64, count: Int)
        throws(BatchCodecError)
    {
        offsets.removeAll(keepingCapacity: true)
        timestamps.removeAll(keepingCapacity: true)
        values.removeAll(keepingCapacity: true)
        keys.removeAll(keepingCapacity: true)
        headerRanges.removeAll(keepingCapacity: true)
        headerEnds.removeAll(keepingCapacity: true)
        guard !bytes.isEmpty, bytes[0] == BatchEncoding.version else {
            throw BatchCodecError(
                detail: bytes.isEmpty
                    ? "it is empty"
                    : "version \(bytes[0]), this node reads \(BatchEncoding.version)")
        }
        do throws(ByteReaderError) {
            try readEvents(bytes.extracting(1..<bytes.count), base: base, atMost: count)
        } catch {
            throw BatchCodecError(detail: "\(error)")
        }
        guard values.count == count else {
            throw BatchCodecError(detail: "holds \(values.count) events, its count says \(count)")
        }
        guard readEnd == bytes.count else {
            throw BatchCodecError(detail: "holds more events than the \(count) of its count")
        }
    }

    /// Reads no more than `count` events, because each takes many times its bytes in a layout.
    ///
    /// `bytes` are those after the version; the ranges count it.
    private mutating func readEvents(_ bytes: Span<UInt8>, base: Int64, atMost count: Int)
        throws(ByteReaderError)
    {
        func shifted(_ range: Range<Int>) -> Range<Int> {
            (range.lowerBound + 1)..<(range.upperBound + 1)
        }
        var reader = ByteReader(bytes)
        var offset = base
        var timestamp: Int64 = 0
        while !reader.isAtEnd, values.count < count {
            offset &+= Int64(bitPattern: try reader.readVarint())
            timestamp &+= try reader.readSignedVarint()
            let flags = try reader.readByte()
            keys.append(flags & 1 != 0 ? shifted(try reader.readLengthPrefixedRange()) : nil)
            if flags & 2 != 0 {
                let headerCount = try reader.readVarint()
                guard headerCount <= UInt64(reader.remaining) else {
                    throw .truncated(offset: reader.offset)
                }
                for _ in 0..<headerCount {
                    headerRanges.append(shifted(try reader.readLengthPrefixedRange()))
                    headerRanges.append(shifted(try reader.readLengthPrefixedRange()))
                }
            }
            headerEnds.append(headerRanges.count)
            values.append(shifted(try reader.readLengthPrefixedRange()))
            offsets.append(offset)
            timestamps.append(timestamp)
        }
        readEnd = reader.offset + 1
    }
}
