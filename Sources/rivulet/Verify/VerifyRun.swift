// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import JSONFields
import KafkaClient
import PosixIO
import Verification

/// One verification: the truth, then the receipts.
struct VerifyRun {
    /// The largest event that a node takes, and room for what stands around it.
    private static let lineBytesMax = 8 << 20

    private let settings: VerifySettings
    private let stop: StopSignals

    init(_ settings: VerifySettings, stop: StopSignals) {
        self.settings = settings
        self.stop = stop
    }

    func verdict() throws(ProgramError) -> AuditVerdict {
        let truth = settings.published.isEmpty ? try truthOfKafka() : try truthOfFiles()
        var audit = Audit(
            truth: truth, examplesMax: settings.examplesMax,
            visibleTopics: settings.visibleTopics)
        for path in settings.receipts { try take(path, into: &audit) }
        return audit.verdict(owed: settings.owed)
    }

    // MARK: - Files

    /// Calls `body` with each line and its number; `nil` stands for one that is too long.
    private func forEachLine(
        of path: String, _ body: (Span<UInt8>?, Int) throws(ProgramError) -> Void
    ) throws(ProgramError) {
        var input: CInt = StandardStream.input
        if path != "-" {
            input = unsafe open(path, O_RDONLY | O_CLOEXEC)
            guard input >= 0 else {
                throw ProgramError(.inputMissing, "cannot read \(path): \(Errno.current)")
            }
        }
        defer { if path != "-" { close(input) } }
        var reader = LineReader(input, lineBytesMax: Self.lineBytesMax, stop: stop)
        while true {
            let line: LineReader.Line
            do { line = try reader.next() } catch {
                throw ProgramError(.inputMissing, "cannot read \(path): \(error)")
            }
            switch line {
            case .text(let range): try body(reader.bytes(of: range), reader.lineNumber)
            case .tooLong: try body(nil, reader.lineNumber)
            case .end: return
            case .stopped: throw stop.cutShort("interrupted; there is no verdict")
            }
        }
    }

    private func truthOfFiles() throws(ProgramError) -> Truth {
        var truth = Truth(eventsMax: settings.eventsMax)
        for path in settings.published {
            try forEachLine(of: path) { (line, number) throws(ProgramError) in
                guard let line else {
                    throw ProgramError(
                        .refused, "\(path):\(number): more than \(Self.lineBytesMax) bytes")
                }
                guard line.indices.contains(where: { line[$0] > 0x20 }) else { return }
                try add(line, at: nil, to: &truth)
            }
        }
        return truth
    }

    private func add(_ data: Span<UInt8>, at place: Truth.Place?, to truth: inout Truth)
        throws(ProgramError)
    {
        let isOwed = settings.rule.matches(topic: place?.topic, data: data)
        do { try truth.add(data, at: place, isOwed: isOwed) } catch {
            throw ProgramError(.refused, error.detail)
        }
    }

    private func take(_ path: String, into audit: inout Audit) throws(ProgramError) {
        let receipts: ReceiptLine
        do { receipts = try ReceiptLine(lineBytesMax: Self.lineBytesMax) } catch {
            throw ProgramError(.transferFailed, error.detail)
        }
        let nothing: [UInt8] = []
        // A file without receipts is a client that received nothing.
        var client = receipts.client ?? path
        var number: Int?
        try forEachLine(of: path) { (line, lineNumber) throws(ProgramError) in
            guard let line else {
                let own = audit.client(named: path)
                let receipt = Receipt(.unreadable("line \(lineNumber)"), data: nothing.span)
                return audit.take(receipt, of: own)
            }
            guard line.indices.contains(where: { line[$0] > 0x20 }) else { return }
            receipts.read(line) { receipt in
                let name = receipts.client ?? path
                if number == nil || name != client {
                    client = name
                    number = audit.client(named: name)
                }
                audit.take(receipt, of: number ?? 0)
            }
        }
        if number == nil { _ = audit.client(named: path) }
    }

    // MARK: - Kafka

    private func truthOfKafka() throws(ProgramError) -> Truth {
        let reader: KafkaReader
        do {
            reader = try KafkaReader(settings: settings.kafka, log: KafkaOptions.log)
        } catch { throw KafkaOptions.failure(error) }
        defer { reader.close(within: .seconds(2)) }
        var truth = Truth(eventsMax: settings.eventsMax)
        var open: [TopicPartition: KafkaWatermarks] = [:]
        for topic in settings.topics {
            do {
                let marks = try reader.watermarks(of: topic, within: settings.timeout)
                open.merge(marks) { first, _ in first }
            } catch { throw KafkaOptions.failure(error) }
        }
        // Topics whose beginning Kafka has deleted: a receipt from there is nobody's fault.
        truth.isTruncated = open.values.contains { $0.low > 0 }
        open = open.filter { $0.value.low < $0.value.high }
        guard !open.isEmpty else { return truth }
        do { try reader.assign(open.map { ($0.key, .at($0.value.low)) }) } catch {
            throw KafkaOptions.failure(error)
        }
        try read(reader, open, into: &truth)
        return truth
    }

    /// Reads each partition up to the end that it had when reading began.
    private func read(
        _ reader: KafkaReader, _ ends: [TopicPartition: KafkaWatermarks], into truth: inout Truth
    ) throws(ProgramError) {
        var open = ends
        var topics: [UInt: String] = [:]
        var failure: ProgramError?
        var deadline = MonotonicTime.now + settings.timeout
        while !open.isEmpty {
            let hasCome = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record):
                    let topic = topics[record.topicHandle] ?? record.topic
                    topics[record.topicHandle] = topic
                    let partition = TopicPartition(topic, record.partition)
                    guard let marks = open[partition] else { return }
                    do throws(ProgramError) {
                        try take(record, topic, before: marks.high, into: &truth)
                    } catch { failure = error }
                    if record.offset + 1 >= marks.high { open[partition] = nil }
                case .endOfPartition(let partition, _): open[partition] = nil
                case .offsetOutOfRange(let partition, let offset):
                    failure = ProgramError(
                        .refused, "Kafka deleted \(partition)@\(offset) while it was read")
                case .error(let error):
                    if !error.isRetriable { failure = KafkaOptions.failure(error) }
                }
            }
            if let failure { throw failure }
            guard !stop.isStopped else { throw stop.cutShort("interrupted; there is no verdict") }
            if hasCome { deadline = .now + settings.timeout }
            guard MonotonicTime.now < deadline else {
                throw ProgramError(
                    .unavailable,
                    "Kafka has been silent for \(DurationText.short(settings.timeout))")
            }
        }
    }

    private func take(
        _ record: borrowing KafkaRecord, _ topic: String, before end: Int64,
        into truth: inout Truth
    ) throws(ProgramError) {
        // A tombstone is no event.
        guard record.offset < end, let value = record.value else { return }
        let place = Truth.Place(
            topic: topic, partition: record.partition, offset: record.offset)
        try add(value, at: place, to: &truth)
    }
}
