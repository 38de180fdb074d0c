// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import PosixIO

/// When events are due, decided before the first is sent: an open loop. A server that falls behind
/// is late from then on, and each event's lateness counts from when it was due.
struct Schedule: Sendable, Equatable {
    let start: MonotonicTime
    let intervalNanoseconds: UInt64
    let batches: Int
    let eventsPerBatch: Int

    /// Fewer would say nothing about quantiles.
    static let batchesMin = 5

    /// Batches at `eventsPerSecond`, for about `length` and at least `batchesMin` of them.
    init(
        start: MonotonicTime, eventsPerSecond: Double, eventsPerBatch: Int, length: Duration,
        batchesMin: Int = batchesMin
    ) {
        self.start = start
        self.eventsPerBatch = eventsPerBatch
        let interval = 1e9 * Double(eventsPerBatch) / eventsPerSecond
        intervalNanoseconds = UInt64(max(1, interval))
        batches = max(batchesMin, Int(length.inSeconds * 1e9 / interval))
    }

    /// Nothing to send.
    static let none = Schedule(
        start: MonotonicTime(nanoseconds: 0), eventsPerSecond: 1, eventsPerBatch: 1, length: .zero,
        batchesMin: 0)

    var end: MonotonicTime { due(batches) }
    var events: Int { batches * eventsPerBatch }
    var eventsPerSecond: Double { Double(eventsPerBatch) * 1e9 / Double(intervalNanoseconds) }
    /// From the first event to one interval after the last.
    var seconds: Double { Double(batches) * Double(intervalNanoseconds) / 1e9 }

    func due(_ batch: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: start.nanoseconds + UInt64(batch) * intervalNanoseconds)
    }
}

/// The events of the fan-out benchmark: JSON of a given size that begins with when it was due.
enum TimedEvent {
    /// What every event's data line begins with; the due time's digits follow.
    static let dataPrefix: StaticString = "data: {\"t_ns\":"
    /// Room for the due time and the number, with something to spare.
    static let bytesMin = 80

    static func append(
        due: MonotonicTime, number: Int, bytes size: Int, to writer: inout ByteWriter
    ) {
        let start = writer.count
        writer.append("{\"t_ns\":" as StaticString)
        writer.appendDecimal(due.nanoseconds)
        writer.append(",\"n\":" as StaticString)
        writer.appendDecimal(UInt64(number))
        writer.append(",\"pad\":\"" as StaticString)
        while writer.count - start < size - 2 { writer.append(UInt8(ascii: "x")) }
        writer.append("\"}" as StaticString)
    }
}
