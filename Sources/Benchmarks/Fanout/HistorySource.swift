// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import History
import Observability
import PosixIO
import Reactor
import RedisClient
import Synchronization

/// Appends events to history as the owner of a partition does, from this process: the node under
/// test only tails and fans out.
final class HistorySource: EventSource {
    private let loop: EventLoop
    private let parts: LoopBound<Parts>
    private let topic: String
    private let eventBytes: Int
    private let failures = FailureCount()
    private var pace: NamedThread?
    private var number = 0
    private var nextOffset: Int64 = 0

    /// What lives on the loop.
    private final class Parts {
        let connection: RedisConnection
        let appender: HistoryAppender

        init(connection: RedisConnection, appender: HistoryAppender) {
            self.connection = connection
            self.appender = appender
        }
    }

    private static let retention = HistoryRetention(
        windowEvents: 100_000, windowAge: .seconds(600), indexAge: .seconds(600))

    init(redis: RedisServer, prefix: String, topic: String, eventBytes: Int) throws(BenchmarkError)
    {
        self.topic = topic
        self.eventBytes = eventBytes
        do throws(Errno) {
            loop = try EventLoop(name: "append")
        } catch {
            throw BenchmarkError(.unavailable, "no event loop: \(error)")
        }
        loop.start()
        let settings = RedisSettings(address: .tcp(host: "127.0.0.1", port: redis.port))
        let loop = loop
        let made = loop.answer {
            let connection = RedisConnection(
                loop: loop, settings: settings, purpose: "append",
                scripts: [HistoryScripts.append], log: Logger("append", lowest: .error))
            connection.start()
            let appender = HistoryAppender(
                connection: connection, keys: HistoryKeys(prefix: prefix),
                retention: Self.retention)
            return LoopBound(Parts(connection: connection, appender: appender), on: loop)
        }
        guard let made else { throw BenchmarkError(.unavailable, "the event loop has ended") }
        parts = made
        try awaitReady()
    }

    deinit {
        pace?.join()
        let parts = parts
        loop.answer { parts.value.connection.stop() }
        loop.stop()
        _ = loop.join(within: .seconds(2))
    }

    private func awaitReady() throws(BenchmarkError) {
        let deadline = MonotonicTime.now + .seconds(5)
        let parts = parts
        while loop.answer({ parts.value.connection.state == .ready }) != true {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.unavailable, "Redis does not answer")
            }
            _ = poll(nil, 0, 5)
        }
    }

    func begin(_ schedule: Schedule) {
        let first = number
        let offset = nextOffset
        number += schedule.events
        nextOffset += Int64(schedule.events)
        let (loop, parts, topic, size) = (loop, parts, topic, eventBytes)
        let failures = failures
        pace = NamedThread("pace") {
            // The next batch is made before it is due: who makes events is not what is measured.
            let make = { (batch: Int) -> AppendRequest? in
                Self.request(
                    batch, of: schedule, first: first, offset: offset, topic: topic, bytes: size)
            }
            var prepared = schedule.batches > 0 ? make(0) : nil
            Pace.run(schedule) { batches in
                let requests =
                    (batches.first.map { _ in [prepared] } ?? []) + batches.dropFirst().map(make)
                loop.post {
                    for request in requests.compactMap(\.self) {
                        Self.append(request, parts.value, failures)
                    }
                }
                prepared = batches.upperBound < schedule.batches ? make(batches.upperBound) : nil
            }
        }
    }

    func finish() -> Int {
        pace?.join()
        pace = nil
        let parts = parts
        // Every append has a deadline, so this has one too.
        while (loop.answer { parts.value.connection.pendingCount } ?? 0) > 0 { _ = poll(nil, 0, 1) }
        return failures.takeAll()
    }

    private static func request(
        _ batch: Int, of schedule: Schedule, first: Int, offset: Int64, topic: String,
        bytes size: Int
    ) -> AppendRequest? {
        let count = schedule.eventsPerBatch
        let base = offset + Int64(batch * count)
        // An ingest of its own for each batch, which expects nothing of Redis: batches go one after
        // the other without waiting, and one that was refused is nobody's loss here.
        var ingest = PartitionIngest(
            topic: topic, partition: 0, highWater: -1,
            limits: .init(batchEvents: count, batchBytes: .max))
        var writer = ByteWriter(reserving: size)
        for row in 0..<count {
            writer.removeAll()
            TimedEvent.append(
                due: schedule.due(batch), number: first + batch * count + row, bytes: size,
                to: &writer)
            ingest.collect(
                offset: base + Int64(row), timestamp: 0, key: writer.bytes.span.extracting(0..<0),
                hasKey: false, headers: [], value: writer.bytes.span)
        }
        return ingest.takeBatch()
    }

    private static func append(
        _ request: AppendRequest, _ parts: Parts, _ failures: FailureCount
    ) {
        parts.appender.append(request) { result in
            if case .success(.appended) = result { return }
            failures.add(request.count)
        }
    }
}

/// A number that two threads count on.
final class FailureCount: Sendable {
    // Relaxed: the number stands alone, and is read after the counting thread has been waited for.
    private let value = Atomic<Int>(0)

    func add(_ count: Int) { value.wrappingAdd(count, ordering: .relaxed) }

    func takeAll() -> Int { value.exchange(0, ordering: .relaxed) }
}

/// Wakes when batches are due.
enum Pace {
    /// Calls `body` with the batches that are due, again and again until the schedule is over.
    /// Blocks.
    static func run(_ schedule: Schedule, _ body: (Range<Int>) -> Void) {
        var next = 0
        while next < schedule.batches {
            sleep(until: schedule.due(next))
            let now = MonotonicTime.now
            var end = next + 1
            while end < schedule.batches, schedule.due(end) <= now { end += 1 }
            body(next..<end)
            next = end
        }
    }

    private static func sleep(until time: MonotonicTime) {
        var point = timespec()
        point.tv_sec = time_t(time.nanoseconds / 1_000_000_000)
        point.tv_nsec = Int(time.nanoseconds % 1_000_000_000)
        while unsafe clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &point, nil) == EINTR {}
    }
}
