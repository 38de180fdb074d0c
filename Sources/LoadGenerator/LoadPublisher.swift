// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
package import KafkaClient
import Observability
import PosixIO
import Synchronization

/// Publishes a schedule to Kafka, whatever becomes of it.
///
/// Threads: one of its own; any may ask how far it is.
package final class LoadPublisher: Sendable {
    package struct Settings: Sendable {
        package var topic: String
        package var schedule: LoadSchedule
        package var run: String
        package var eventBytes: Int
        /// Different subjects that events are about, each with its own key in Kafka.
        package var keys: Int

        package init(
            topic: String, schedule: LoadSchedule, run: String, eventBytes: Int, keys: Int
        ) {
            self.topic = topic
            self.schedule = schedule
            self.run = run
            self.eventBytes = eventBytes
            self.keys = keys
        }
    }

    /// What has become of the events so far.
    package struct Progress: Sendable, Equatable {
        package var published = 0
        package var acknowledged = 0
        package var failed = 0
        /// By how much the latest was handed over late, at the most.
        package var latestBy: Duration = .zero
        package var isOver = false
    }

    private let settings: Settings
    private let producer: KafkaProducer
    private let counted = Lock(Progress())
    private let isStopping = Lock(false)
    private let thread = Lock<NamedThread?>(nil)

    package init(_ settings: Settings, producer: KafkaProducer) {
        self.settings = settings
        self.producer = producer
    }

    package var progress: Progress { counted.withLock { $0 } }

    /// Has the producer find its brokers and the partitions' leaders, by events that no run counts,
    /// so that the first of the schedule are not late for that. False where none got through.
    package func warmUp(within limit: Duration) -> Bool {
        for number in 0..<min(settings.keys, 64) {
            let value = LoadEvent.text(
                run: "warm-up", due: 0, number: number, key: number, bytes: LoadEvent.bytesMin)
            try? producer.produce(
                topic: settings.topic, key: Array("cam\(number)".utf8), value: value)
        }
        return producer.flush(within: limit)
    }

    package func start() {
        let thread = NamedThread("publisher") { self.run() }
        self.thread.withLock { $0 = thread }
    }

    /// Ends it; what was handed over is still delivered.
    package func stop() {
        isStopping.withLock { $0 = true }
        thread.withLock { $0 }?.join()
    }

    private func run() {
        let schedule = settings.schedule
        let began = MonotonicTime.now
        let wall = Self.wallMicroseconds
        let microseconds = schedule.length.inSeconds * 1e6
        for number in 0..<schedule.count {
            let offset = schedule.part(of: number) * microseconds
            let due = began + .nanoseconds(Int64(offset * 1000))
            while MonotonicTime.now < due {
                if isStopping.withLock({ $0 }) { return finish() }
                let left = min((due - .now).wholeNanoseconds, 20_000_000)
                var pause = timespec(tv_sec: 0, tv_nsec: Int(max(1, left)))
                unsafe nanosleep(&pause, nil)
            }
            publish(number, due: wall + UInt64(offset), late: .now - due)
        }
        finish()
    }

    private func finish() {
        _ = producer.flush(within: .seconds(10))
        counted.withLock { $0.isOver = true }
    }

    private func publish(_ number: Int, due: UInt64, late: Duration) {
        let key = number % max(1, settings.keys)
        let value = LoadEvent.text(
            run: settings.run, due: due, number: number, key: key, bytes: settings.eventBytes)
        do throws(KafkaError) {
            try producer.produce(
                topic: settings.topic, key: Array("cam\(key)".utf8), value: value,
                timestamp: Int64(due / 1000)
            ) { [counted] result in
                counted.withLock {
                    if case .success = result { $0.acknowledged += 1 } else { $0.failed += 1 }
                }
            }
            counted.withLock {
                $0.published += 1
                $0.latestBy = max($0.latestBy, late)
            }
        } catch {
            counted.withLock { $0.failed += 1 }
        }
    }

    private static var wallMicroseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    }
}
