// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
package import Compression
import EventStreamWire
package import WebSocketWire

/// How the bytes of a stream look.
package enum StreamForm: Sendable, Hashable {
    /// As events are encoded for everybody.
    case plain
    /// The same bytes under a content coding.
    case coded(ContentCoding)
    /// As frames of a WebSocket, compressed where a window was agreed on.
    case webSocket(DeflateWindow?)

    /// Whether one subscriber is a whole connection, which the hub then greets, keeps alive, and
    /// ends where its socket takes nothing. Those of a WebSocket share one, and who shares it out
    /// looks after it (``WebSocketSession``).
    var isWholeConnection: Bool {
        if case .webSocket = self { false } else { true }
    }

    /// What frames of a batch it takes.
    var format: FrameFormat {
        switch self {
        case .plain, .coded: .eventStream
        case .webSocket(let window): window.map { .deflated($0) } ?? .webSocket
        }
    }
}

/// The connections of one loop that want the same in the same form. A filter runs once for all of
/// them, and so does a compressor.
///
/// View: shard. Threads: its loop's.
final class SubscriptionClass {
    struct Key: Hashable {
        let subscription: Subscription
        let form: StreamForm
    }

    /// What a class sends of one batch.
    struct Rendering {
        /// Where the slices lie. The batch keeps plain bytes alive; a chunk has nobody else.
        let bytes: SharedBytes
        let eventCount: Int
    }

    private struct Chunk {
        let batch: ObjectIdentifier
        let bytes: SharedBytes
        let eventCount: Int
    }

    let key: Key
    let lagRule: LagRule
    private(set) var members: [Subscriber] = []
    /// Members whose events are counted: a pass has nothing to prepare for them.
    private(set) var meteredCount = 0
    /// For each member that is caught up the socket that it can be sent to at once, else -1. All
    /// that a pass needs to know of most members, side by side: between two events the caches
    /// forget what lies further apart.
    private(set) var openSockets: [CInt] = []
    /// When the last pass over the open sockets was, in milliseconds of the hub's clock.
    var lastPassMilliseconds: UInt64 = 0
    private let compressor: ChunkCompressor?
    /// Chunks of the newest batches, for those who are a little behind.
    private var chunks = RingQueue<Chunk>()
    private var chunkBytes = 0
    private var ranges: [Range<Int>] = []
    /// The batch that members whose events are counted were offered last, and what they get of it.
    private var rows: (batch: EventBatch, rows: [Int])?

    /// Older chunks are made again where somebody still needs them.
    private static let chunksMax = 256
    private static let chunkBytesMax = 4 << 20

    var subscription: Subscription { key.subscription }
    var isWholeConnection: Bool { key.form.isWholeConnection }
    private var format: FrameFormat { key.form.format }
    /// Whether rendering a batch may make it larger, by frames that others do not need.
    var makesFrames: Bool { !isWholeConnection || subscription.withMetadata }

    /// - Parameter compressor: Of the key's coding, where it has one.
    init(_ key: Key, compressor: ChunkCompressor?, lagRule: LagRule) {
        self.key = key
        self.lagRule = lagRule
        self.compressor = compressor
    }

    func insert(_ subscriber: Subscriber) {
        subscriber.memberIndex = members.count
        members.append(subscriber)
        openSockets.append(-1)
        if subscriber.meter != nil { meteredCount += 1 }
    }

    /// The last member takes the place of the one that goes.
    func remove(_ subscriber: Subscriber) {
        if subscriber.meter != nil { meteredCount -= 1 }
        let last = members.removeLast()
        let socket = openSockets.removeLast()
        guard last !== subscriber else { return }
        members[subscriber.memberIndex] = last
        openSockets[subscriber.memberIndex] = socket
        last.memberIndex = subscriber.memberIndex
    }

    /// Whether a member is among those that a pass sends to at once follows from its phase.
    func phaseChanged(of subscriber: Subscriber) {
        let index = subscriber.memberIndex
        guard index < members.count, members[index] === subscriber else { return }
        if subscriber.phase == .caughtUp {
            openSockets[index] = subscriber.sink.openSocket ?? -1
        } else if openSockets[index] >= 0 {
            subscriber.lastWriteMilliseconds = lastWriteMilliseconds(to: subscriber)
            openSockets[index] = -1
        }
    }

    /// What has to hold before a pass: that nobody is sent to past what waits in their sink, or after
    /// it has ended.
    func openSocketsAreRight(from first: Int) -> Bool {
        openSockets.indices[first...].allSatisfy {
            openSockets[$0] < 0
                || members[$0].phase == .caughtUp && members[$0].sink.openSocket == openSockets[$0]
        }
    }

    /// When bytes were last taken by a member, in milliseconds of the hub's clock.
    func lastWriteMilliseconds(to subscriber: Subscriber) -> UInt64 {
        openSockets[subscriber.memberIndex] >= 0
            ? max(subscriber.lastWriteMilliseconds, lastPassMilliseconds)
            : subscriber.lastWriteMilliseconds
    }

    /// Has the memory of the members that are served after the one at `index` at hand by then, where
    /// they are served through their sinks.
    ///
    /// Between two events the caches forget them, and a pass meets each only once: without this it
    /// waits for memory several times for each connection.
    func prefetch(after index: Int) {
        let member = index + Self.prefetchDistance
        if member < members.count {
            unsafe clinux_prefetch(
                Unmanaged.passUnretained(members[member]).toOpaque(), Self.linesOfSubscriber)
        }
        let next = index + Self.prefetchDistance / 2
        if next < members.count {
            let sink = members[next].sink as AnyObject
            unsafe clinux_prefetch(Unmanaged.passUnretained(sink).toOpaque(), Self.linesOfSink)
        }
    }

    private static let prefetchDistance = 4
    private static let linesOfSubscriber: Int32 = 3
    private static let linesOfSink: Int32 = 4

    /// The bytes of a message of the hub's own, in this class' form. Over WebSocket these are
    /// notices only.
    func own(_ bytes: [UInt8]) -> [UInt8] {
        if !isWholeConnection { return WebSocketFrames.notice(bytes) }
        return compressor?.chunk(of: bytes) ?? bytes
    }

    /// What a stream begins with.
    var streamHeader: [UInt8] { compressor?.streamHeader ?? [] }

    /// Appends to `slices` what members get of the events of `batch` after `cursor`. The same
    /// arguments give the same bytes every time.
    func render(_ batch: EventBatch, after cursor: EventID, to slices: inout [Range<Int>])
        -> Rendering
    {
        let batch = batch.described(for: subscription)
        guard let compressor else {
            let count = batch.appendSlices(
                for: subscription, in: format, after: cursor, to: &slices)
            // A batch of which nobody gets anything is not written in another format.
            let bytes = count == 0 ? batch.frames : batch.bytes(in: format)
            return Rendering(bytes: bytes, eventCount: count)
        }
        // Who gets a bounded notice depends on the cursor, so its chunk is not kept for all.
        let isWhole = cursor < batch.firstID && batch.noticeBound == nil
        let identity = ObjectIdentifier(batch)
        if isWhole {
            for index in stride(from: chunks.count - 1, through: 0, by: -1)
            where chunks[index].batch == identity {
                let chunk = chunks[index]
                if chunk.bytes.count > 0 { slices.append(0..<chunk.bytes.count) }
                return Rendering(bytes: chunk.bytes, eventCount: chunk.eventCount)
            }
        }
        ranges.removeAll(keepingCapacity: true)
        let count = batch.appendSlices(for: subscription, after: cursor, to: &ranges)
        var plain = ByteWriter(reserving: ranges.reduce(0) { $0 + $1.count })
        for range in ranges { plain.append(batch.frames.copy(range)) }
        let bytes = SharedBytes(compressor.chunk(of: plain.bytes))
        if bytes.count > 0 { slices.append(0..<bytes.count) }
        if isWhole { remember(Chunk(batch: identity, bytes: bytes, eventCount: count)) }
        return Rendering(bytes: bytes, eventCount: count)
    }

    /// The rest of the unit that byte `sentBytes` of the slices lies in, and the cursor after it: a
    /// frame, or a whole chunk where the bytes are coded.
    func remainder(_ batch: EventBatch, after cursor: EventID, sentBytes: Int)
        -> (rest: [UInt8], cursor: EventID)
    {
        guard compressor != nil else {
            let batch = batch.described(for: subscription)
            return batch.remainder(
                for: subscription, in: format, after: cursor, sentBytes: sentBytes)
        }
        var slices: [Range<Int>] = []
        let rendering = render(batch, after: cursor, to: &slices)
        return (rendering.bytes.copy(sentBytes..<rendering.bytes.count), batch.lastID)
    }

    /// The rows of `batch` that members get, looked for once for all of them.
    func matchingRows(of batch: EventBatch, after cursor: EventID) -> [Int] {
        guard cursor < batch.firstID else {
            return batch.matchingRows(for: subscription, after: cursor)
        }
        if let rows, rows.batch === batch { return rows.rows }
        let found = batch.matchingRows(for: subscription, after: .zero)
        rows = (batch, found)
        return found
    }

    /// The bytes of some events of `batch`, in this class' form.
    func frames(of batch: EventBatch, rows: some Sequence<Int>) -> [UInt8] {
        let batch = batch.described(for: subscription)
        var frames: [UInt8] = []
        for row in rows { frames += batch.frame(ofRow: row, for: subscription, in: format) }
        return frames.isEmpty ? [] : compressor?.chunk(of: frames) ?? frames
    }

    private func remember(_ chunk: Chunk) {
        chunks.append(chunk)
        chunkBytes += chunk.bytes.count
        while chunks.count > Self.chunksMax || chunkBytes > Self.chunkBytesMax,
            let oldest = chunks.popFirst()
        {
            chunkBytes -= oldest.bytes.count
        }
    }
}
