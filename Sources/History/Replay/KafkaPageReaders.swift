// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire
import KafkaClient
package import Observability
import PosixIO

/// The threads of a node that read old events back from Kafka.
///
/// View: node. Threads: any may ask. Each reader has a Kafka client and an encoder of its own, so
/// nothing that waits or works here holds up an event loop; and a lower priority than the loops,
/// which librdkafka's threads inherit, so that a machine without spare time serves live events
/// first. A reader comes to be with the first page it reads.
package final class KafkaPageReaders: Sendable {
    /// One page to be read.
    struct Job: Sendable {
        let plan: ReplayPlan
        let topics: [String]
        let routes: [TopicRoute]
        let completion: @Sendable (Result<KafkaPage, KafkaError>) -> Void
    }

    /// A reader without work keeps fetching ahead for this long, in case that its page goes on.
    private static let restAfter: Duration = .milliseconds(500)
    private static let niceness: Int32 = 19

    private struct State {
        var readers: [Reader] = []
        var isStopped = false
    }

    /// One thread. What it works on is handed over under a lock; a descriptor wakes it.
    private final class Reader: Sendable {
        let wake = WakeSignal()
        let job = Lock<Job?>(nil)
        let isStopped = Lock(false)
        /// Where the page that it read last ended, and of which topics that was.
        let last = Lock<(topics: [String], through: EventID)?>(nil)
        let isBusy = Lock(false)
        let thread = Lock<NamedThread?>(nil)
    }

    /// How many pages may be read at once.
    let count: Int
    private let pageBytes: Int
    private let equipment: Equipment
    private let log: Logger
    private let state = Lock(State())

    package init(count: Int, pageBytes: Int, equipment: Equipment, log: Logger) {
        self.count = max(1, count)
        self.pageBytes = pageBytes
        self.equipment = equipment
        self.log = log
    }

    /// Reads a page. False where all readers are at work, or the node stops.
    ///
    /// The reader that read the page before goes on with it where it can: it has fetched ahead.
    func read(_ job: Job) -> Bool {
        let chosen: Reader? = state.withLock { state in
            guard !state.isStopped else { return nil }
            let idle = state.readers.filter { !$0.isBusy.withLock { $0 } }
            let follows = idle.first { reader in
                reader.last.withLock {
                    $0.map { $0.through == job.plan.cursor && $0.topics == job.topics } ?? false
                }
            }
            if let reader = follows ?? (state.readers.count < count ? nil : idle.first) {
                reader.isBusy.withLock { $0 = true }
                return reader
            }
            guard state.readers.count < count else { return nil }
            let reader = Reader()
            reader.isBusy.withLock { $0 = true }
            state.readers.append(reader)
            let name = "replay-\(state.readers.count - 1)"
            let thread = NamedThread(name) { [equipment, pageBytes, log] in
                Self.run(reader, equipment, pageBytes: pageBytes, log)
            }
            reader.thread.withLock { $0 = thread }
            return reader
        }
        guard let chosen else { return false }
        chosen.job.withLock { $0 = job }
        chosen.wake.signal()
        return true
    }

    /// Ends the readers; returns after `limit` at the latest. What is being read is answered.
    package func stop(within limit: Duration) {
        let readers = state.withLock { state in
            state.isStopped = true
            return state.readers
        }
        for reader in readers {
            reader.isStopped.withLock { $0 = true }
            reader.wake.signal()
        }
        let deadline = MonotonicTime.now + limit
        for reader in readers {
            guard let thread = reader.thread.withLock({ $0 }) else { continue }
            if !thread.join(within: max(.zero, deadline - .now)) {
                log.warning("a reader of old events did not end in time")
            }
        }
    }

    private static func run(
        _ reader: Reader, _ equipment: Equipment, pageBytes: Int, _ log: Logger
    ) {
        do throws(Errno) {
            try NamedThread.yieldToOthers(niceness: niceness)
        } catch { log.warning("cannot lower the priority of a reader", LogField("error", error)) }
        var builder: KafkaPageBuilder?
        var source: (any RecordSource)?
        while true {
            let isAwake = reader.wake.wait(within: source == nil ? nil : restAfter)
            if let job = reader.job.withLock({ job in job.take() }) {
                let result = read(job, equipment, pageBytes, &source, &builder)
                if case .failure(let error) = result, error.isFatal {
                    source = nil
                    builder = nil
                }
                reader.last.withLock { last in
                    last = (try? result.get()).map { (job.topics, $0.through) }
                }
                // Free before the answer, which may bring the next page.
                reader.isBusy.withLock { $0 = false }
                job.completion(result)
            } else if !isAwake {
                source?.rest()
            }
            if reader.isStopped.withLock({ $0 }) { return }
        }
    }

    private static func read(
        _ job: Job, _ equipment: Equipment, _ pageBytes: Int,
        _ source: inout (any RecordSource)?, _ builder: inout KafkaPageBuilder?
    ) -> Result<KafkaPage, KafkaError> {
        do throws(KafkaError) {
            if builder == nil {
                guard let encoder = equipment.encoder() else {
                    throw KafkaError(.other, "no memory for an encoder", isRetriable: true)
                }
                let made = try equipment.source()
                source = made
                builder = KafkaPageBuilder(source: made, encoder: encoder, bytesMax: pageBytes)
            }
            guard let builder else { throw KafkaError(.closed, "the reader has ended") }
            return .success(try builder.page(job.plan, topics: job.topics, routes: job.routes))
        } catch { return .failure(error) }
    }
}
