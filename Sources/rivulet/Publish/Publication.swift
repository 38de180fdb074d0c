// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import JSONFields
import KafkaClient
import PosixIO

/// Sends the lines of files to a topic, and keeps the account.
///
/// Threads: one, which blocks; deliveries are reported on the producer's.
final class Publication {
    /// Refused lines that are shown; the rest are only counted.
    static let refusalsShownMax = 1_000
    /// How long to wait before a full queue is tried again. Deliveries take about this long.
    private static let queueRetry: Duration = .milliseconds(2)
    /// Room for the key, the headers and Kafka's own framing beside the event.
    private static let recordOverheadBytes = 256 * 1024

    private let settings: PublishSettings
    private let stop: StopSignals
    private let producer: KafkaProducer
    private let check: EventCheck?
    private let tally = DeliveryTally()
    private let completion: KafkaProducer.Completion
    private var pacer: Pacer?
    private let start = MonotonicTime.now

    private(set) var handedOver = 0
    private(set) var refused = 0
    /// Why reading ended before the input did, for the summary.
    private var cutShort: String?

    init(_ settings: PublishSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        let recordBytes = settings.eventBytesMax + Self.recordOverheadBytes
        do {
            producer = try KafkaProducer(
                settings: settings.kafka,
                producer: KafkaProducerSettings(
                    linger: .milliseconds(5), messageMaxBytes: recordBytes,
                    queuedBytesMax: max(64 << 20, 4 * recordBytes),
                    deliveryTimeout: settings.deliveryTimeout),
                log: KafkaOptions.log)
        } catch { throw KafkaOptions.failure(error) }
        do {
            var field: String?
            if case .field(let path) = settings.key { field = path }
            check =
                settings.validates
                ? try EventCheck(eventBytesMax: settings.eventBytesMax, keyField: field) : nil
        } catch { throw ProgramError(.usage, error.detail) }
        completion = { [tally] in tally.record($0) }
        pacer = settings.rate.map { Pacer(rate: $0, start: .now) }
    }

    /// Publishes everything and says how it went.
    func run() throws(ProgramError) -> ExitStatus {
        try checkFiles()
        try checkTopic()
        for file in settings.files where cutShort == nil { try publish(file: file) }
        settle()
        return summary()
    }

    // MARK: - Before the first event

    /// Finds a missing file before anything has been sent.
    private func checkFiles() throws(ProgramError) {
        for file in settings.files where file != "-" {
            guard unsafe access(file, R_OK) == 0 else {
                throw ProgramError(.inputMissing, "cannot read \(file): \(Errno.current)")
            }
        }
    }

    private func checkTopic() throws(ProgramError) {
        let topics: [KafkaTopic]
        do { topics = try producer.topics(within: KafkaOptions.connectTimeout) } catch {
            if stop.isStopped { throw stop.cutShort("interrupted before anything was sent") }
            throw KafkaOptions.failure(error)
        }
        guard let topic = topics.first(where: { $0.name == settings.topic }) else {
            guard settings.createsTopic else {
                throw KafkaOptions.unknownTopic(
                    settings.topic, among: topics,
                    hint: "create it first, or let the broker create it with --create")
            }
            return
        }
        guard let partition = settings.partition else { return }
        guard partition < topic.partitionCount else {
            throw ProgramError(
                .refused,
                "topic \"\(topic.name)\" has no partition \(partition); "
                    + "it has 0 to \(topic.partitionCount - 1)")
        }
    }

    // MARK: - Reading and sending

    private func publish(file: String) throws(ProgramError) {
        guard file != "-" else {
            return try publish(StandardStream.input, name: "standard input")
        }
        do {
            let descriptor = try OwnedDescriptor.open(file, flags: O_RDONLY)
            try publish(descriptor.number, name: file)
            _ = consume descriptor
        } catch let error as Errno {
            throw ProgramError(.inputMissing, "cannot read \(file): \(error)")
        } catch let error as ProgramError {
            throw error
        } catch {
            throw ProgramError(.transferFailed, "cannot read \(file): \(error)")
        }
    }

    private func publish(_ descriptor: CInt, name: String) throws(ProgramError) {
        var lines = LineReader(descriptor, lineBytesMax: settings.eventBytesMax, stop: stop)
        while cutShort == nil {
            let line: LineReader.Line
            do { line = try lines.next() } catch {
                // What was read has been sent: say so instead of losing the account.
                cutShort = "cannot read on from \(name) after line \(lines.lineNumber): \(error)"
                return
            }
            switch line {
            case .end: return
            case .stopped: cutShort = "stopped by a signal after line \(lines.lineNumber)"
            case .tooLong(let bytes):
                let limit = Tabulation.grouped(settings.eventBytesMax)
                refuse(
                    name, lines.lineNumber,
                    "the event has \(Tabulation.grouped(bytes)) bytes; "
                        + "at most \(limit) are accepted (--max-bytes)")
            case .text(let range):
                send(lines.bytes(of: range), name, lines.lineNumber)
            }
        }
    }

    private func send(_ event: Span<UInt8>, _ name: String, _ line: Int) {
        guard !Self.isBlank(event) else { return }
        var key: [UInt8]?
        if case .fixed(let fixed) = settings.key { key = fixed }
        switch check?.check(event) {
        case .refused(let reason): return refuse(name, line, reason)
        case .accepted(let found?): key = found
        case .accepted(nil), nil: break
        }
        if var pacer {
            let due = pacer.next(at: .now)
            self.pacer = pacer
            if due - .now >= .milliseconds(1), stop.sleep(until: due) {
                cutShort = "stopped by a signal before line \(line) of \(name)"
                return
            }
        }
        produce(event, key, name, line)
    }

    /// Hands one event over, as soon as the queue has room.
    private func produce(_ event: Span<UInt8>, _ key: [UInt8]?, _ name: String, _ line: Int) {
        while true {
            if let failure = tally.lastingFailure {
                cutShort = "gave up before line \(line) of \(name): \(failure.detail)"
                return
            }
            do throws(KafkaError) {
                try producer.produce(
                    topic: settings.topic,
                    partition: settings.partition ?? KafkaProducer.anyPartition,
                    key: key?.span, value: event, headers: settings.headers,
                    completion: completion)
                handedOver += 1
                return
            } catch {
                switch error.code {
                case .queueFull:
                    guard stop.sleep(for: Self.queueRetry) else { continue }
                    cutShort = "stopped by a signal before line \(line) of \(name)"
                    return
                case .messageTooLarge:
                    return refuse(name, line, "it is too large with its key: \(error.detail)")
                default:
                    handedOver += 1
                    tally.record(.failure(error))
                    return
                }
            }
        }
    }

    private func refuse(_ name: String, _ line: Int, _ reason: String) {
        refused += 1
        if refused <= Self.refusalsShownMax {
            StandardStream.say("\(name):\(line): refused: \(reason)")
        }
        if refused == Self.refusalsShownMax {
            StandardStream.say("further refused lines are counted and not shown")
        }
    }

    private static func isBlank(_ line: Span<UInt8>) -> Bool {
        for index in line.indices where line[index] != 0x20 && line[index] != 0x09 { return false }
        return true
    }

    // MARK: - The end

    /// Waits until every record is delivered or failed. Each fails by itself after the delivery
    /// timeout, so this ends.
    private func settle() {
        let limit = MonotonicTime.now + settings.deliveryTimeout + .seconds(5)
        while tally.settled < handedOver, MonotonicTime.now < limit {
            _ = producer.flush(within: .milliseconds(100))
            if stop.isStopped, tally.lastingFailure != nil { break }
        }
        producer.close(within: .seconds(2))
    }

    private func summary() -> ExitStatus {
        let elapsed = MonotonicTime.now - start
        let delivered = tally.delivered
        // What is neither by now has no known outcome, which is no success.
        let failed = handedOver - delivered
        if let cutShort { StandardStream.say(cutShort) }
        for (reason, count) in tally.reasons {
            StandardStream.say("\(Tabulation.count(count, "event")) failed: \(reason)")
        }
        let rate = Int(Double(delivered) / max(elapsed.inSeconds, 1e-3))
        StandardStream.say(
            "published \(Tabulation.count(delivered, "event")) to \(settings.topic) in "
                + "\(DurationText.seconds(elapsed)) s (\(Tabulation.grouped(rate))/s); "
                + "\(Tabulation.grouped(refused)) refused, \(Tabulation.grouped(failed)) failed")
        if stop.isStopped { return stop.exitStatus }
        return refused > 0 || failed > 0 || cutShort != nil ? .failure : .success
    }
}
