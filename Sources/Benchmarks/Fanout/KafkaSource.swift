// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import KafkaClient
import Observability
import PosixIO

/// Publishes events to Kafka: the node under test takes the whole way.
final class KafkaSource: EventSource {
    private let producer: KafkaProducer
    private let topic: String
    private let partitions: Int
    private let eventBytes: Int
    private let failures = FailureCount()
    private var pace: NamedThread?
    private var number = 0

    init(kafka: KafkaServer, topic: String, partitions: Int, eventBytes: Int)
        throws(BenchmarkError)
    {
        self.topic = topic
        self.partitions = partitions
        self.eventBytes = eventBytes
        do throws(KafkaError) {
            producer = try KafkaProducer(
                settings: KafkaSettings(
                    bootstrapServers: kafka.bootstrapServers, clientID: "bench"),
                producer: KafkaProducerSettings(linger: .milliseconds(1)),
                log: Logger("bench", lowest: .error))
        } catch {
            throw BenchmarkError(.unavailable, "no producer: \(error)")
        }
    }

    deinit {
        pace?.join()
        producer.close(within: .seconds(2))
    }

    func begin(_ schedule: Schedule) {
        let first = number
        number += schedule.events
        let (producer, topic, partitions, size) = (producer, topic, partitions, eventBytes)
        let failures = failures
        pace = NamedThread("pace") {
            var writer = ByteWriter(reserving: size)
            Pace.run(schedule) { batches in
                let count = schedule.eventsPerBatch
                for event in (batches.lowerBound * count)..<(batches.upperBound * count) {
                    writer.removeAll()
                    TimedEvent.append(
                        due: schedule.due(event / count), number: first + event, bytes: size,
                        to: &writer)
                    do throws(KafkaError) {
                        try producer.produce(
                            topic: topic, partition: Int32((first + event) % partitions), key: nil,
                            value: writer.bytes)
                    } catch { failures.add(1) }
                }
            }
        }
    }

    func finish() -> Int {
        pace?.join()
        pace = nil
        let isStored = producer.flush(within: .seconds(10))
        return failures.takeAll() + (isStored ? 0 : producer.outstanding)
    }
}
