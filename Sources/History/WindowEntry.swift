// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import RedisClient

/// One entry of a window stream: `p` partition, `o` first offset, `c` count, `b` the events; or,
/// with `l` behind them, records that are lost.
struct WindowEntry {
    let lastID: EventID
    let partition: Int32
    let base: Int64
    let count: Int
    /// What the entry is about where it holds no events.
    let loss: HistoryLoss?

    /// `nil` where the reply is no such entry.
    init?(_ item: RedisReplyView) {
        let fields = item[1]
        guard let id = try? EventID.parse(item[0].bytes),
            fields.count >= 8,
            let partition = fields[1].text.flatMap({ Int32($0) }),
            let base = fields[3].text.flatMap({ Int64($0) }),
            let count = fields[5].text.flatMap({ Int($0) }),
            count > 0, UInt64(count) <= id.sequence
        else { return nil }
        loss = fields.count >= 10 ? fields[9].text.flatMap { HistoryLoss($0) } : nil
        lastID = id
        self.partition = partition
        self.base = base
        self.count = count
    }

    /// A batch as it lies in the window, whose bytes came from elsewhere.
    init(lastID: EventID, partition: Int32, base: Int64, count: Int) {
        self.partition = partition
        precondition(count > 0 && UInt64(count) <= lastID.sequence)
        self.lastID = lastID
        self.base = base
        self.count = count
        loss = nil
    }

    var firstID: EventID {
        EventID(
            milliseconds: lastID.milliseconds, sequence: lastID.sequence - UInt64(count) + 1)
    }

    /// Encodes the events of `bytes`. `nil` where nobody can receive the topic; where the bytes
    /// cannot be read the result is the notice of a gap, because what is lost is said.
    static func encode(
        _ bytes: Span<UInt8>, _ entry: WindowEntry, topic: String, route: TopicRoute,
        with encoder: BatchEncoder, layout: inout BatchLayout, isReplay: Bool,
        failed: (BatchCodecError) -> Void
    ) -> EventBatch? {
        if let loss = entry.loss { return loss.notice(at: entry.lastID, route: route) }
        do throws(BatchCodecError) {
            try layout.read(bytes, base: entry.base, count: entry.count)
        } catch {
            failed(error)
            let before = EventID(
                milliseconds: entry.firstID.milliseconds, sequence: entry.firstID.sequence - 1)
            return GapNotice(from: before, to: entry.lastID, reason: .unreadable).batch
        }
        return encoder.encode(
            route: route, firstID: entry.firstID, bytes: bytes, ranges: layout.values,
            isReplay: isReplay,
            origins: layout.origins(partition: entry.partition, in: bytes))
    }
}
