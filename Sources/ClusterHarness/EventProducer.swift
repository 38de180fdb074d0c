// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import KafkaClient
import Observability
import PosixIO

/// Publishes numbered events, spread over all partitions of a topic.
///
/// Threads: one test at a time, and a thread of its own while it publishes at a pace.
package final class EventProducer: Sendable {
    private let source: Source
    private let pace = Lock<Pace?>(nil)

    /// A thread that publishes until it is told to stop.
    private final class Pace: Sendable {
        private let isStopping = Lock(false)
        private let failure = Lock<ClusterHarnessError?>(nil)
        private let thread = Lock<NamedThread?>(nil)

        func start(_ source: Source, perSecond rate: Int) {
            let thread = NamedThread("producer") { [isStopping, failure] in
                let began = MonotonicTime.now
                var published = 0
                do throws(ClusterHarnessError) {
                    while !isStopping.withLock({ $0 }) {
                        let due = Int((MonotonicTime.now - began).inSeconds * Double(rate))
                        while published < due {
                            try source.publishNext()
                            published += 1
                        }
                        _ = poll(nil, 0, 5)
                    }
                } catch {
                    failure.withLock { $0 = error }
                }
            }
            self.thread.withLock { $0 = thread }
        }

        func stop() throws(ClusterHarnessError) {
            isStopping.withLock { $0 = true }
            thread.withLock { $0 }?.join()
            if let failure = failure.withLock({ $0 }) { throw failure }
        }
    }

    package init(
        bootstrapServers: [String], topic: String = "its.detections", partitions: Int = 24
    ) throws(ClusterHarnessError) {
        source = try Source(bootstrapServers, topic, partitions)
    }

    deinit {
        try? pace.withLock { $0 }?.stop()
        source.close()
    }

    /// How many events were published, which are numbered from 0.
    package var count: Int { source.count }

    /// Publishes `count` events as fast as they are taken and waits until all are stored.
    package func publish(_ count: Int) throws(ClusterHarnessError) {
        for _ in 0..<count { try source.publishNext() }
        try source.awaitDelivery()
    }

    /// Publishes one record of the test's own making, which has no number.
    package func publish(raw value: [UInt8], partition: Int32 = 0) throws(ClusterHarnessError) {
        try source.produce(value, partition: partition)
        try source.awaitDelivery()
    }

    /// Publishes until ``stopPace()``.
    package func startPace(perSecond rate: Int) {
        let pace = Pace()
        pace.start(source, perSecond: rate)
        self.pace.withLock { $0 = pace }
    }

    /// Ends what ``startPace(perSecond:)`` began and waits until all events are stored.
    package func stopPace() throws(ClusterHarnessError) {
        guard let pace = pace.withLock({ $0 }) else { return }
        try pace.stop()
        try source.awaitDelivery()
    }
}

/// The records and the client that sends them.
private final class Source: Sendable {
    private let producer: KafkaProducer
    private let topic: String
    private let partitions: Int
    private let next = Lock(0)

    private static let deliveryLimit: Duration = .seconds(60)

    init(
        _ bootstrapServers: [String], _ topic: String, _ partitions: Int
    ) throws(ClusterHarnessError) {
        self.topic = topic
        self.partitions = partitions
        do throws(KafkaError) {
            producer = try KafkaProducer(
                settings: KafkaSettings(
                    bootstrapServers: bootstrapServers, clientID: "harness",
                    // The embedded broker does not know a record that is sent again, so none is:
                    // a request waits for as long as a broker may stand still.
                    properties: [
                        "socket.timeout.ms": "170000", "request.timeout.ms": "170000",
                    ]),
                producer: KafkaProducerSettings(
                    linger: .milliseconds(1), messageMaxBytes: 16 << 20,
                    // An outage of a minute is no failure of the test.
                    deliveryTimeout: .seconds(180)),
                log: Logger("harness", lowest: .error))
        } catch {
            throw ClusterHarnessError(.noResource, "no producer: \(error)")
        }
    }

    func close() { producer.close(within: .seconds(2)) }

    var count: Int { next.withLock { $0 } }

    func publishNext() throws(ClusterHarnessError) {
        let number = next.withLock { next in
            defer { next += 1 }
            return next
        }
        try produce(Self.event(number), partition: Int32(number % partitions))
    }

    /// A detection of about 300 bytes, as the demo feed's are.
    private static func event(_ number: Int) -> [UInt8] {
        let camera = number % 97
        return Array(
            """
            {"n":\(number),"event_type":"detection","camera_id":"cam-\(camera)",\
            "zone_id":"zone-\(camera % 7)","vehicle_class":"car","confidence":0.9\(number % 10),\
            "timestamp":"2026-01-01T00:00:00.000Z","bounding_box":{"x":\(number % 1920),\
            "y":\(number % 1080),"width":120,"height":80},"speed_kmh":\(30 + number % 40),\
            "lane":\(1 + number % 3),"direction":"north","track_id":"track-\(number / 3)",\
            "license_plate":null}
            """.utf8)
    }

    func produce(_ value: [UInt8], partition: Int32) throws(ClusterHarnessError) {
        while true {
            do throws(KafkaError) {
                return try producer.produce(
                    topic: topic, partition: partition, key: nil, value: value)
            } catch {
                guard error.code == .queueFull else {
                    throw ClusterHarnessError(.noAnswer, "an event was not taken: \(error)")
                }
                _ = poll(nil, 0, 1)
            }
        }
    }

    func awaitDelivery() throws(ClusterHarnessError) {
        guard producer.flush(within: Self.deliveryLimit), producer.failures == 0 else {
            throw ClusterHarnessError(
                .timedOut,
                "\(producer.outstanding) events are not stored, \(producer.failures) failed")
        }
    }
}
