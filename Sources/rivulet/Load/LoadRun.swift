// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import HTTP1Wire
import KafkaClient
import LoadGenerator
import Observability
import PosixIO

/// One run of a load: its workers, its publisher, and what they say.
///
/// Threads: one, which waits; workers are processes, and events are published on a thread.
final class LoadRun {
    private let settings: LoadSettings
    private let stop: StopSignals
    private let targets: [LoadTarget]
    private var workers: [LoadWorkerProcess] = []
    private var report: LoadReport
    private let runID: String
    private var began = MonotonicTime.now
    private let isTerminal = isatty(2) == 1

    /// Connections of one worker: what the descriptor limit leaves, and no more than one loop serves.
    private static let workerConnectionsMax = 18_000
    private static let reservedDescriptors = 200
    /// How long Kafka may take to take the first events.
    private static let warmUpMax: Duration = .seconds(15)
    /// After the last event was published: how long nothing may come, and how long it may take in all.
    private static let silenceMax: Duration = .seconds(20)
    private static let drainMax: Duration = .seconds(120)
    private static let metricsBytesMax = 4 << 20

    init(_ settings: LoadSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        let run = String(UInt64.random(in: 0...UInt64.max), radix: 36)
        runID = run
        var targets: [LoadTarget] = []
        for (url, weight) in settings.urls {
            do throws(ResolveError) {
                let addresses = try SocketAddress.resolve(host: url.host, port: url.port)
                targets.append(
                    LoadTarget(
                        address: addresses[0], authority: url.authority,
                        path: url.target.isEmpty ? "/" : url.target, weight: weight))
            } catch { throw ProgramError(.unavailable, "\(error)") }
        }
        self.targets = targets
        report = LoadReport(
            began: WallClock.milliseconds, run: run, command: settings.command,
            machine: Self.machine, connections: settings.connections,
            targets: settings.urls.map(\.url.text), schedule: settings.schedule,
            eventBytes: settings.eventBytes)
    }

    private static var machine: String {
        let count = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        return "\(count) processor\(count == 1 ? "" : "s")"
    }

    func run() throws(ProgramError) -> ExitStatus {
        let producer = try makeProducer()
        try startWorkers()
        let haveAll = awaitStreams()
        guard haveAll || stop.isStopped else {
            try finish()
            throw ProgramError(
                .refused,
                "\(report.mostStreaming) of \(settings.connections) subscribers got a stream"
                    + (report.refusal.map { "; the first refusal: \($0)" } ?? ""))
        }
        let publisher = LoadPublisher(
            .init(
                topic: settings.topic, schedule: settings.schedule, run: runID,
                eventBytes: settings.eventBytes, keys: settings.keys), producer: producer)
        if !stop.isStopped {
            guard publisher.warmUp(within: Self.warmUpMax) else {
                throw ProgramError(
                    .unavailable,
                    "Kafka has not taken the first events for \(settings.topic) in time")
            }
            publisher.start()
            while !publisher.progress.isOver, !stop.isStopped { turn(publisher) }
        }
        publisher.stop()
        report.wasCutShort = stop.isStopped
        report.publisher = publisher.progress
        drain(publisher)
        try finish()
        for line in report.summary { StandardStream.print(line) }
        for objective in settings.objectives {
            StandardStream.print(
                "\(objective.text): \(report.holds(objective) ? "holds" : "DOES NOT HOLD")")
        }
        if stop.isStopped { return stop.exitStatus }
        return settings.objectives.allSatisfy(report.holds) ? .success : .failure
    }

    private func makeProducer() throws(ProgramError) -> KafkaProducer {
        do throws(KafkaError) {
            let producer = try KafkaProducer(
                settings: settings.kafka,
                producer: KafkaProducerSettings(
                    linger: .milliseconds(0),
                    messageMaxBytes: settings.eventBytes + 4096,
                    queuedBytesMax: 256 << 20, deliveryTimeout: .seconds(30)),
                log: KafkaOptions.log)
            return producer
        } catch { throw KafkaOptions.failure(error) }
    }

    // MARK: - Workers

    private func startWorkers() throws(ProgramError) {
        let most = min(
            Self.workerConnectionsMax, max(1, DescriptorLimit.raised() - Self.reservedDescriptors))
        let count = (settings.connections + most - 1) / most
        var first = 0
        for index in 0..<count {
            let share =
                settings.connections / count + (index < settings.connections % count ? 1 : 0)
            workers.append(
                try LoadWorkerProcess(
                    .init(
                        targets: targets, connections: share, first: first,
                        connectRate: settings.connectRate / Double(count), run: runID)))
            first += share
        }
        let names = count == 1 ? "1 process" : "\(count) processes"
        StandardStream.say(
            "\(settings.connections) subscribers in \(names), \(targets.count) "
                + "target\(targets.count == 1 ? "" : "s")")
    }

    /// Waits until everybody has a stream; false where that takes too long.
    private func awaitStreams() -> Bool {
        let needed = Double(settings.connections) / settings.connectRate
        let deadline = MonotonicTime.now + .seconds(30) + .milliseconds(Int64(needed * 3000))
        while !stop.isStopped, MonotonicTime.now < deadline {
            turn(nil)
            if (report.seconds.last?.tick[.streaming] ?? 0) >= UInt64(settings.connections) {
                return true
            }
        }
        return false
    }

    /// One second of the run.
    private func turn(_ publisher: LoadPublisher?) {
        let until = MonotonicTime.now + .seconds(1)
        while MonotonicTime.now < until, !stop.isStopped {
            var entries = workers.map(\.interest)
            _ = stop.wait(on: &entries, until: until)
            for worker in workers { worker.read() }
        }
        collect(publisher)
    }

    private func collect(_ publisher: LoadPublisher?) {
        var tick = LoadTick(targets: targets.count)
        var hasAny = false
        for worker in workers {
            let ticks = worker.takeTicks()
            hasAny = hasAny || !ticks.isEmpty
            for (index, one) in ticks.enumerated() {
                var one = one
                // Of several seconds the last says who is there.
                if index < ticks.count - 1 { one[.streaming] = 0 }
                tick.add(one)
            }
        }
        guard hasAny else { return }
        let published = publisher?.progress.published ?? report.publisher.published
        let before = report.seconds.last?.published ?? 0
        report.seconds.append(
            LoadSecond(
                second: (MonotonicTime.now - began).inSeconds, tick: tick, published: published,
                servers: usage()))
        tell(tick, publishedNow: published - before)
    }

    private func tell(_ tick: LoadTick, publishedNow: Int) {
        let text =
            "\(Int((MonotonicTime.now - began).inSeconds)) s: \(tick[.streaming]) streams, "
            + "\(publishedNow) published, \(tick[.delivered]) delivered, "
            + "p50 \(Self.shown(tick.latency.milliseconds(0.5))) ms, "
            + "p99 \(Self.shown(tick.latency.milliseconds(0.99))) ms"
            + (tick[.ended] > 0 ? ", \(tick[.ended]) ended" : "")
            + (tick[.refused] > 0 ? ", \(tick[.refused]) refused" : "")
        if isTerminal {
            StandardStream.write(
                Array("\r\u{1B}[K\(text)".utf8), to: StandardStream.error)
        } else {
            StandardStream.say(text)
        }
    }

    private static func shown(_ value: Double) -> String {
        value >= 10 ? "\(Int(value.rounded()))" : "\((value * 10).rounded() / 10)"
    }

    /// Waits for what is on its way.
    private func drain(_ publisher: LoadPublisher) {
        var deadline = MonotonicTime.now + Self.silenceMax
        let end = MonotonicTime.now + Self.drainMax
        var delivered = report.total[.delivered]
        while !stop.isStopped, MonotonicTime.now < min(deadline, end) {
            let wanted = UInt64(publisher.progress.acknowledged) * UInt64(settings.connections)
            if delivered >= wanted { return }
            turn(publisher)
            let now = report.total[.delivered]
            if now > delivered { deadline = .now + Self.silenceMax }
            delivered = now
        }
    }

    private func finish() throws(ProgramError) {
        for worker in workers { worker.stop() }
        let deadline = MonotonicTime.now + .seconds(10)
        while workers.contains(where: { !$0.hasEnded }), MonotonicTime.now < deadline {
            var entries = workers.map(\.interest)
            _ = unsafe poll(&entries, nfds_t(entries.count), 100)
            for worker in workers { worker.read() }
        }
        if isTerminal { StandardStream.say("") }
        collect(nil)
        for worker in workers {
            report.received.merge(worker.received) { $0 + $1 }
            report.workerBytes += worker.residentBytes
            report.refusal = report.refusal ?? worker.refusal
        }
        if let path = settings.report {
            try AtomicFile.write(
                Array(LoadPage(report, settings.objectives).html.utf8), to: path)
        }
        if let path = settings.json {
            try AtomicFile.write(report.json(settings.objectives) + [10], to: path)
        }
        if let path = settings.csv { try AtomicFile.write(Array(report.csv.utf8), to: path) }
    }

    // MARK: - Servers

    /// What each target says of itself; `nil` where it does not.
    private func usage() -> [ServerUsage?] {
        settings.urls.map { url, _ in
            let deadline = MonotonicTime.now + .milliseconds(300)
            guard
                let exchange = try? HTTPExchange(
                    url.with(target: "/metrics"), headers: HTTPHeaders(), stop: stop,
                    deadline: deadline), exchange.head.status == 200,
                let body = try? exchange.readAll(limit: Self.metricsBytesMax, until: deadline)
            else { return nil }
            return Self.usage(in: String(decoding: body, as: UTF8.self))
        }
    }

    static func usage(in text: String) -> ServerUsage? {
        func value(_ name: String) -> Double? {
            for line in text.split(separator: "\n") where line.hasPrefix(name + " ") {
                return Double(line.dropFirst(name.count + 1))
            }
            return nil
        }
        guard let cpu = value("rivulet_cpu_seconds_total"),
            let resident = value("rivulet_resident_memory_bytes")
        else { return nil }
        return ServerUsage(cpuSeconds: cpu, residentBytes: resident)
    }
}

/// How many descriptors this process may have open, and what memory it takes.
enum DescriptorLimit {
    /// Takes all that the hard limit allows.
    static func raised() -> Int {
        var limit = rlimit()
        let which = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        _ = unsafe getrlimit(which, &limit)
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(which, &limit)
        return Int(clamping: limit.rlim_max)
    }

    /// What the kernel counts as resident at this moment; 0 where it does not say.
    static var residentBytes: Int {
        guard let file = try? OwnedDescriptor.open("/proc/self/statm", flags: O_RDONLY) else {
            return 0
        }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe read(file.number, &bytes, bytes.count)
        let words = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
            .split(separator: " ")
        guard words.count > 1, let pages = Int(words[1]) else { return 0 }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}
