// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes
package import EventStreamWire
package import JSONFields
import PosixIO
import Synchronization
import WebSocketWire

/// Events that were appended together, encoded once for everybody on this node.
///
/// View: node. Threads: any; nothing changes after init but that the frames for WebSocket, plain or
/// compressed, are made when they are first asked for. Every event loop holds the same batch, and
/// every connection sends the same bytes.
///
/// The frames lie copy by copy: all events under the event name of the route's first channel, then
/// all under the next name that a channel has for them. A connection that gets a whole channel
/// therefore sends a batch as one run of bytes, and channels with the same name share it.
package final class EventBatch: Sendable {
    /// The ID of the first event; the sequence numbers of the others follow without a gap.
    package let firstID: EventID
    package let count: Int
    package let route: TopicRoute
    package let frames: SharedBytes
    /// The fields that filters look at; a notice has none.
    package let fields: FieldTable?

    /// Where frame `copy * count + row` ends.
    let frameEnds: [UInt32]
    /// Rows whose value is no JSON object, ascending; hardly ever any.
    let textRows: [Int]
    /// Where the events come from; `nil` for a notice.
    private let origins: EventOrigins?
    /// The same events with their origins, once somebody has asked for them.
    private let describedBatch = AtomicLazyReference<EventBatch>()
    /// The same frames for WebSocket, once somebody has needed them.
    private let webSocketFrames = AtomicLazyReference<FrameSet>()
    /// The same compressed, within either window.
    private let wideFrames = AtomicLazyReference<FrameSet>()
    private let narrowFrames = AtomicLazyReference<FrameSet>()
    /// True for a message of Rivulet's own, such as a gap. It goes to every subscription, or, where
    /// its route has channels, to those of them.
    package let isNotice: Bool
    /// Where a notice is for those alone whose cursor lies after this one.
    package let noticeBound: EventID?
    /// What a notice of a gap says.
    package let gap: GapNotice?
    /// True where the batch was read back from history rather than seen live.
    package let isReplay: Bool
    /// The cursor of who has received a notice; events have IDs of their own.
    private let noticeCursor: EventID?
    private let account: ReplayAccount?
    private let accountedBytes: Int

    /// - Parameter textRows: The rows, ascending, whose value is no JSON object.
    package init(
        firstID: EventID, count: Int, route: TopicRoute, frames: SharedBytes, frameEnds: [UInt32],
        fields: FieldTable?, textRows: [Int] = [], isReplay: Bool,
        account: ReplayAccount? = nil, origins: EventOrigins? = nil
    ) {
        precondition(frameEnds.count == count * route.copyChannels.count)
        self.firstID = firstID
        self.count = count
        self.route = route
        self.frames = frames
        self.frameEnds = frameEnds
        self.fields = fields
        self.textRows = textRows
        self.isReplay = isReplay
        self.origins = origins
        isNotice = false
        gap = nil
        noticeCursor = nil
        self.account = account
        accountedBytes =
            frames.count + frameEnds.count * 4 + (fields?.memoryBytes ?? 0) + 256
            + (origins?.memoryBytes ?? 0)
        account?.add(accountedBytes)
        noticeBound = nil
    }

    deinit { account?.add(-accountedBytes) }

    /// A message with a place in the order of events: `id` is the cursor of who has received it.
    ///
    /// - Parameters:
    ///   - route: Where only subscriptions to one topic get it; their filters do not matter. `nil`
    ///     sends it to every subscription.
    ///   - place: Where it lies, for those whose cursor is before; `nil` where that is `id`.
    ///   - bound: Makes it a message to those alone whose cursor lies after it; those who have come
    ///     all the way through the events before it have no use for it.
    ///   - gap: What it says, where it is the notice of a gap.
    package init(
        notice frame: [UInt8], id: EventID, route: TopicRoute? = nil, place: EventID? = nil,
        forCursorsAfter bound: EventID? = nil, gap: GapNotice? = nil
    ) {
        noticeBound = bound
        firstID = place ?? id
        origins = nil
        noticeCursor = id
        account = nil
        accountedBytes = 0
        count = 1
        self.route = route ?? TopicRoute(topic: "", channels: [])
        frames = SharedBytes(frame)
        frameEnds = [UInt32(frame.count)]
        fields = nil
        textRows = []
        isReplay = false
        isNotice = true
        self.gap = gap
    }

    package var lastID: EventID { noticeCursor ?? id(ofRow: count - 1) }

    package func id(ofRow row: Int) -> EventID {
        EventID(milliseconds: firstID.milliseconds, sequence: firstID.sequence + UInt64(row))
    }

    /// How much memory the batch takes at the moment, nearly enough for a bound.
    package var memoryBytes: Int {
        frames.count + frameEnds.count * 4 + (fields?.memoryBytes ?? 0) + 256
            + (origins?.memoryBytes ?? 0) + (describedBatch.load()?.memoryBytes ?? 0)
            + (webSocketFrames.load()?.memoryBytes ?? 0)
            + (wideFrames.load()?.memoryBytes ?? 0) + (narrowFrames.load()?.memoryBytes ?? 0)
    }

    /// The batch as those see it who ask for metadata: itself where nothing is known. The first to
    /// ask makes it, once for the node.
    package func described(for subscription: Subscription) -> EventBatch {
        subscription.withMetadata ? described : self
    }

    private var described: EventBatch {
        guard let origins else { return self }
        if let made = describedBatch.load() { return made }
        return WebSocketFrames.writing.withLock { written in
            if let made = describedBatch.load() { return made }
            written += 1
            return describedBatch.storeIfNil(describe(with: origins))
        }
    }

    /// The bytes that slices in `format` lie in.
    func bytes(in format: FrameFormat) -> SharedBytes {
        switch format {
        case .eventStream: frames
        case .webSocket: webSocket.bytes
        case .deflated(let window): deflated(window).bytes
        }
    }

    private func ends(in format: FrameFormat) -> [UInt32] {
        switch format {
        case .eventStream: frameEnds
        case .webSocket: webSocket.ends
        case .deflated(let window): deflated(window).ends
        }
    }

    /// The frames for WebSocket. The first to ask makes it, once for the node.
    private var webSocket: FrameSet {
        if let made = webSocketFrames.load() { return made }
        return WebSocketFrames.writing.withLock { written in
            if let made = webSocketFrames.load() { return made }
            written += 1
            return webSocketFrames.storeIfNil(
                WebSocketFrames.make(
                    from: frames, ends: frameEnds,
                    channels: isNotice
                        ? [] : zip(route.channels, route.copies).map { ($0.name, $1) },
                    rows: count, textRows: textRows))
        }
    }

    /// The compressed frames for WebSocket. The first to ask makes them, once for the node.
    private func deflated(_ window: DeflateWindow) -> FrameSet {
        if let made = madeDeflated(window) { return made }
        let plain = webSocket
        return WebSocketFrames.writing.withLock { written in
            if let made = madeDeflated(window) { return made }
            written += 1
            let made = WebSocketFrames.deflated(plain, within: window)
            switch window {
            case .wide: return wideFrames.storeIfNil(made)
            case .narrow: return narrowFrames.storeIfNil(made)
            }
        }
    }

    private func madeDeflated(_ window: DeflateWindow) -> FrameSet? {
        switch window {
        case .wide: wideFrames.load()
        case .narrow: narrowFrames.load()
        }
    }

    /// Which run of a format's frames the channel at `position` shows. A WebSocket's frames name
    /// the channel, so there each has its own.
    private func run(of position: Int, in format: FrameFormat) -> Int {
        if case .eventStream = format { route.copies[position] } else { position }
    }

    private func frameRange(run: Int, row: Int, _ ends: [UInt32]) -> Range<Int> {
        let index = run * count + row
        return (index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])
    }

    /// Whether a notice concerns `subscription`.
    private func isFor(_ subscription: Subscription) -> Bool {
        route.channels.isEmpty || subscription.position(in: route) != nil
    }

    func matches(_ subscription: Subscription, row: Int) -> Bool {
        guard let fields else { return true }
        return subscription.matches(fields, row: row)
    }

    /// Appends to `slices` the runs of bytes that `subscription` gets of the events after `cursor`.
    ///
    /// Neighbouring frames become one run. The result depends on nothing but the arguments, which
    /// is what lets a connection remember its place as a number of bytes.
    package func appendSlices(
        for subscription: Subscription, in format: FrameFormat = .eventStream,
        after cursor: EventID, to slices: inout [Range<Int>]
    ) -> Int {
        if isNotice {
            guard firstID > cursor, noticeBound.map({ cursor > $0 }) ?? true, isFor(subscription)
            else { return 0 }
            slices.append(0..<bytes(in: format).count)
            return 1
        }
        guard let position = subscription.position(in: route), lastID > cursor else { return 0 }
        let run = run(of: position, in: format)
        let firstRow = firstID > cursor ? 0 : Int(cursor.sequence - firstID.sequence) + 1
        guard !subscription.predicates.isEmpty else {
            let ends = ends(in: format)
            let start = frameRange(run: run, row: firstRow, ends).lowerBound
            let end = frameRange(run: run, row: count - 1, ends).upperBound
            slices.append(start..<end)
            return count - firstRow
        }
        var matched = 0
        var ends: [UInt32] = []
        for row in firstRow..<count where matches(subscription, row: row) {
            // Only now: a batch of which nothing matches is not written in another format.
            if matched == 0 { ends = self.ends(in: format) }
            let range = frameRange(run: run, row: row, ends)
            matched += 1
            if let last = slices.indices.last, matched > 1,
                slices[last].upperBound == range.lowerBound
            {
                slices[last] = slices[last].lowerBound..<range.upperBound
            } else {
                slices.append(range)
            }
        }
        return matched
    }

    /// The rows after `cursor` that `subscription` gets; none of a notice.
    func matchingRows(for subscription: Subscription, after cursor: EventID) -> [Int] {
        guard !isNotice, lastID > cursor, subscription.position(in: route) != nil else { return [] }
        let firstRow = firstID > cursor ? 0 : Int(cursor.sequence - firstID.sequence) + 1
        return (firstRow..<count).filter { matches(subscription, row: $0) }
    }

    /// The bytes of one event as `subscription` gets it.
    func frame(ofRow row: Int, for subscription: Subscription, in format: FrameFormat) -> [UInt8] {
        guard let position = subscription.position(in: route) else { return [] }
        let range = frameRange(run: run(of: position, in: format), row: row, ends(in: format))
        return bytes(in: format).copy(range)
    }

    /// The rest of the frame that byte `sentBytes` of the slices lies in, and the ID of its event:
    /// what a connection needs of a batch that it lets go in the middle.
    package func remainder(
        for subscription: Subscription, in format: FrameFormat, after cursor: EventID,
        sentBytes: Int
    ) -> (rest: [UInt8], cursor: EventID) {
        let bytes = bytes(in: format)
        if isNotice { return (bytes.copy(sentBytes..<bytes.count), lastID) }
        guard let position = subscription.position(in: route), lastID > cursor else {
            return ([], cursor)
        }
        let run = run(of: position, in: format)
        let ends = ends(in: format)
        var passed = 0
        var reached = cursor
        let firstRow = firstID > cursor ? 0 : Int(cursor.sequence - firstID.sequence) + 1
        for row in firstRow..<count where matches(subscription, row: row) {
            let range = frameRange(run: run, row: row, ends)
            if passed == sentBytes { return ([], reached) }
            reached = id(ofRow: row)
            if passed + range.count > sentBytes {
                return (
                    bytes.copy((range.lowerBound + sentBytes - passed)..<range.upperBound), reached
                )
            }
            passed += range.count
        }
        return ([], reached)
    }
}

/// Encodes batches of raw events into frames and fields.
///
/// View: one thread; holds a JSON parser and buffers that are used again.
package final class BatchEncoder {
    private let directory: ChannelDirectory
    private let extractor: JSONFieldExtractor
    private let account: ReplayAccount?
    private var writer = ByteWriter(reserving: 64 * 1024)

    /// - Parameter account: Where the memory of the batches is counted; `nil` for those that the
    ///   hot window counts.
    package init(
        directory: ChannelDirectory, eventBytesMax: Int, account: ReplayAccount? = nil
    ) throws(JSONFieldsError) {
        self.directory = directory
        self.account = account
        extractor = try JSONFieldExtractor(
            paths: directory.fieldPaths, eventBytesMax: eventBytesMax)
    }

    /// Encodes events whose JSON texts are the `ranges` of `bytes`. `nil` where no channel carries
    /// the topic, so nobody could ever receive them.
    package func encode(
        route: TopicRoute, firstID: EventID, bytes: borrowing Span<UInt8>, ranges: [Range<Int>],
        isReplay: Bool, origins: EventOrigins? = nil
    ) -> EventBatch? {
        precondition(origins == nil || origins?.count == ranges.count)
        guard !route.channels.isEmpty, !ranges.isEmpty else { return nil }
        var fields = FieldTable(for: directory.fieldPaths)
        var textRows: [Int] = []
        for (row, range) in ranges.enumerated() {
            // The owner of the partition has already validated the event. Where this node sees it
            // otherwise it becomes a row without fields, which no filter matches.
            let verdict = extractor.extract(bytes.extracting(range), into: &fields)
            if verdict != .object { textRows.append(row) }
        }
        writer.removeAll()
        var ends: [UInt32] = []
        ends.reserveCapacity(ranges.count * route.copyChannels.count)
        for channel in route.copyChannels {
            for (row, range) in ranges.enumerated() {
                let id = EventID(
                    milliseconds: firstID.milliseconds, sequence: firstID.sequence + UInt64(row))
                let name = eventName(of: channel, fields, row: row)
                EventStreamEncoder.append(
                    id: id, name: name, data: bytes.extracting(range), to: &writer)
                ends.append(UInt32(writer.count))
            }
        }
        return EventBatch(
            firstID: firstID, count: ranges.count, route: route,
            frames: SharedBytes(writer.bytes), frameEnds: ends, fields: fields,
            textRows: textRows, isReplay: isReplay, account: account, origins: origins)
    }

    private func eventName(of channel: Channel, _ fields: FieldTable, row: Int) -> String {
        switch channel.eventName {
        case .fixed(let name): return name
        case .column(let column, let fallback):
            guard case .text(let text) = fields.first(row: row, column: column) else {
                return fallback
            }
            let name = fields.string(of: text)
            return Self.isEventName(name) ? name : fallback
        }
    }

    /// A name that comes from an event must not be able to end its line, and has a bound.
    private static func isEventName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 128
            && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }
}
