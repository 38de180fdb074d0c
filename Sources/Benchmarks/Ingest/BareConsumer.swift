// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor
import Glibc
import KafkaClient
import Observability
import PosixIO

/// How long it took to have all records of a topic, from the first one on.
struct ConsumedTopic: Sendable {
    let records: Int
    let seconds: Double
    let cpuSeconds: Double

    var perSecond: Double { Double(records) / seconds }
    var microsecondsPerRecord: Double { cpuSeconds * 1e6 / Double(records) }
}

/// Reads a whole topic and does nothing with it: what the node's ingest is compared with.
enum BareConsumer {
    private static let limit: Duration = .seconds(120)

    /// librdkafka alone, in C.
    static func readInC(
        _ kafka: KafkaServer, topic: String, partitions: Int, records: Int
    ) throws(BenchmarkError) -> ConsumedTopic {
        var result = benchfloor_consumed()
        var error = [CChar](repeating: 0, count: 512)
        let before = ProcessMeter.ownSeconds
        let status = unsafe benchfloor_consume(
            kafka.bootstrapServers.joined(separator: ","), topic, Int32(partitions),
            Int64(records), Int32(limit.wholeMilliseconds), &result, &error, error.count)
        guard status == 0 else {
            let text = error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            throw BenchmarkError(
                .failed, "the bare consumer: \(String(decoding: text, as: UTF8.self))")
        }
        return ConsumedTopic(
            records: Int(result.records), seconds: Double(result.last_ns - result.first_ns) / 1e9,
            cpuSeconds: ProcessMeter.ownSeconds - before)
    }

    /// Through the house's own reader, one record at a time.
    static func readInSwift(
        _ kafka: KafkaServer, topic: String, partitions: Int, records: Int
    ) throws(BenchmarkError) -> ConsumedTopic {
        do throws(KafkaError) {
            let before = ProcessMeter.ownSeconds
            let reader = try KafkaReader(
                settings: KafkaSettings(
                    bootstrapServers: kafka.bootstrapServers, clientID: "bench"),
                fetchWaitMax: .milliseconds(5), queuedBytesMax: 64 << 20,
                log: Logger("bench", lowest: .error))
            defer { reader.close(within: .seconds(5)) }
            try reader.assign(
                (0..<Int32(partitions)).map { (TopicPartition(topic, $0), .beginning) })
            var count = 0
            var bytes = 0
            var first: MonotonicTime?
            let deadline = MonotonicTime.now + limit
            while count < records {
                let isAny = reader.poll(within: .milliseconds(100)) { event in
                    switch event {
                    case .record(let record):
                        if first == nil { first = .now }
                        count += 1
                        bytes += record.value?.count ?? 0
                    default: break
                    }
                }
                guard isAny || MonotonicTime.now < deadline else {
                    throw KafkaError(.timedOut, "\(count) of \(records) records came")
                }
            }
            let seconds = (MonotonicTime.now - (first ?? .now)).inSeconds
            return ConsumedTopic(
                records: count, seconds: seconds, cpuSeconds: ProcessMeter.ownSeconds - before)
        } catch {
            throw BenchmarkError(.failed, "the reader: \(error)")
        }
    }
}
