// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire
import Glibc
package import PosixIO

/// Many subscribers, driven by one thread, each of which records every event it gets.
///
/// A subscriber whose stream ends goes on at the next of its targets, with the ID it got last.
/// One that never got an event has no ID and goes on with what comes then, as a browser does; so
/// a test that kills waits for first events before.
package final class SubscriberSet: Sendable {
    /// How far the subscribers are.
    package struct Progress: Sendable {
        package var streaming = 0
        /// Events of the subscriber that has the fewest.
        package var fewestEvents = 0
        /// The same without repeats.
        package var fewestNumbers = 0
        package var totalEvents = 0
    }

    package let count: Int
    private let shared: Shared
    private let thread: NamedThread

    private final class Shared: Sendable {
        let progress = Lock(Progress())
        let isStopping = Lock(false)
        let records = Lock<[SubscriberRecord]>([])
        let timeline = Lock<[Arrivals]>([])
    }

    private static let pollMilliseconds: CInt = 20

    /// Starts the subscribers. The first begins at the first target, the second at the second,
    /// and so on.
    ///
    /// - Parameter honoursRetry: Whether they wait for as long as servers ask, as browsers do, or
    ///   come back at once.
    package init(
        count: Int, path: String, targets: [UInt16], lastEventID: EventID? = nil,
        honoursRetry: Bool = false
    ) {
        self.count = count
        let shared = Shared()
        self.shared = shared
        thread = NamedThread("subscribers") {
            let connections = (0..<count).map {
                SubscriberConnection(
                    name: "subscriber \($0)", path: path, targets: targets, first: $0,
                    lastEventID: lastEventID, honoursRetry: honoursRetry)
            }
            Self.run(connections, shared)
        }
    }

    deinit { end() }

    /// How many events all subscribers together had had by some time.
    package struct Arrivals: Sendable {
        package let at: MonotonicTime
        package let count: Int
    }

    /// When events came, in the order of time.
    package var timeline: [Arrivals] { shared.timeline.withLock { $0 } }

    package var progress: Progress { shared.progress.withLock { $0 } }

    /// Waits until all have a stream.
    package func waitUntilStreaming(within limit: Duration) -> Bool {
        Waiting.until(within: limit) { progress.streaming == count }
    }

    /// Waits until each has at least `events` events.
    package func waitForEvents(_ events: Int, within limit: Duration) -> Bool {
        Waiting.until(within: limit) { progress.fewestEvents >= events }
    }

    /// Waits until each has at least `events` events, repeats not counted.
    package func waitForNumbers(_ events: Int, within limit: Duration) -> Bool {
        Waiting.until(within: limit) { progress.fewestNumbers >= events }
    }

    /// Ends all streams and returns what happened.
    package func stop() -> [SubscriberRecord] {
        end()
        return shared.records.withLock { $0 }
    }

    private func end() {
        shared.isStopping.withLock { $0 = true }
        thread.join()
    }

    private static func run(_ connections: [SubscriberConnection], _ shared: Shared) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { unsafe buffer.deallocate() }
        while !shared.isStopping.withLock({ $0 }) {
            var entries = connections.map(\.interest)
            _ = unsafe poll(&entries, nfds_t(entries.count), pollMilliseconds)
            let now = MonotonicTime.now
            var progress = Progress(fewestEvents: .max, fewestNumbers: .max)
            for (connection, entry) in zip(connections, entries) {
                unsafe connection.turn(isReady: entry.revents != 0, now: now, buffer: buffer)
                let events = connection.record.receipts.count
                progress.totalEvents += events
                progress.fewestEvents = min(progress.fewestEvents, events)
                progress.fewestNumbers = min(
                    progress.fewestNumbers, connection.record.numbers.count)
                if connection.isStreaming { progress.streaming += 1 }
            }
            let before = shared.progress.withLock { known in
                defer { known = progress }
                return known.totalEvents
            }
            if progress.totalEvents != before {
                let arrivals = Arrivals(at: now, count: progress.totalEvents)
                shared.timeline.withLock { $0.append(arrivals) }
            }
        }
        for connection in connections { connection.finish() }
        shared.records.withLock { $0 = connections.map(\.record) }
    }
}
