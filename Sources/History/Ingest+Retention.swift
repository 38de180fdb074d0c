// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import Reactor
import RedisClient

// What history lets go besides what appends do: of idle topics what is too old, and of a full Redis
// what is oldest.
extension Ingest {
    /// One time that Redis was full.
    struct Shedding {
        var isUnderWay = false
        var events = 0
        var hasSaidThatNothingIsLeft = false
    }

    /// What is let go at a time at least, so that not every append has to ask for room.
    private static let shedBytesMin = 1 << 20
    /// What is younger stays: every node has to read it from the window first.
    private static let shedSpares: Duration = .seconds(2)

    /// True while Redis is over its limit of memory.
    package var redisIsFull: Bool { shedding != nil }

    /// Redis has no room for a batch: makes some, and sends everything again.
    func shed(for request: AppendRequest) {
        if shedding == nil {
            metrics.redisIsFull.set(1)
            log.warning(
                "Redis is full: the oldest of its window goes; clients get it from Kafka",
                LogField("partition", request.partition))
        }
        var state = shedding ?? Shedding()
        defer { shedding = state }
        guard !state.isUnderWay else { return }
        state.isUnderWay = true
        let bytes = max(Self.shedBytesMin, 4 * request.bytes.count)
        appender.shed(bytes: bytes, sparing: Self.shedSpares) { [weak self] result in
            self?.hasShed(result)
        }
    }

    private func hasShed(_ result: Result<HistoryAppender.Shed, RedisError>) {
        guard !isStopped, var state = shedding else { return }
        state.isUnderWay = false
        defer { shedding = state }
        switch result {
        case .success(let shed) where shed.entries > 0:
            state.events += shed.events
            state.hasSaidThatNothingIsLeft = false
            metrics.shedBatches.add(shed.entries)
            metrics.shedEvents.add(shed.events)
            loop.schedule(resendTimer, after: .milliseconds(5))
        case .success:
            // All that may go has gone. Kafka keeps what comes meanwhile.
            if !state.hasSaidThatNothingIsLeft {
                state.hasSaidThatNothingIsLeft = true
                log.error(
                    "Redis is full and its window holds nothing old: give it more memory, or keep less "
                        + "(history.window_bytes, index_batches); ingest waits")
            }
            loop.schedule(resendTimer, after: .milliseconds(500))
        case .failure(let error):
            log.error(
                "Redis is full, and could not be made to let go of the oldest of its window",
                LogField("error", error))
            loop.schedule(resendTimer, after: .seconds(1))
        }
    }

    /// An append went through.
    func endShedding() {
        guard let state = shedding, !state.isUnderWay else { return }
        shedding = nil
        metrics.redisIsFull.set(0)
        log.info("Redis has room again", LogField("shed events", state.events))
    }

    /// Appends let go of what is too old in their own topic; one that gets no events would keep it
    /// for ever.
    func trimIdleTopics() {
        guard !isStopped else { return }
        loop.schedule(trimTimer, after: IngestSettings.trimInterval)
        guard connection.state == .ready, isAttached else { return }
        for topic in Set(slots.keys.map(\.topic)) { trim(topic) }
    }

    private func trim(_ topic: String) {
        appender.trim(topic) { [weak self] result in
            // What could not be asked is asked again in a moment.
            guard let self, !isStopped, case .success(true) = result else { return }
            trim(topic)
        }
    }
}
