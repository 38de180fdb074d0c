// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Bytes
import Glibc
import Observability
import PosixIO

/// One of the servers that are compared.
struct FanoutSide {
    enum Name: String, Sendable, CaseIterable {
        case node
        case floor
        case nchan
    }

    let name: Name
    let port: UInt16
    /// Where it speaks TLS, if it does.
    var tlsPort: UInt16?
    let path: String
    let server: ServerProcess
    /// The process whose time and memory count.
    let process: pid_t
    let begin: (Schedule) throws(BenchmarkError) -> Void
    /// Ends the schedule; how many of its events were not taken.
    let finish: () throws(BenchmarkError) -> Int
    /// How many system calls have written events; `nil` where the server does not count them.
    let writes: () -> Int?
}

/// What a rig is built of.
struct FanoutRigSettings: Sendable {
    var path = FanoutPath.history
    var eventBytes = 300
    /// Lines of the channel's own configuration.
    var channel: [String] = []
    /// Lines of the node's configuration file besides its addresses and channels.
    var nodeLines: [String] = []
    /// Whether the node has a port for TLS.
    var hasTLS = false
    /// Whether nchan takes part, where it is installed.
    var hasNchan = false
    /// Whether the node runs in this program and counts what it allocates.
    var countsAllocations = false
}

/// The servers on one processor, and on the other this client, the source of the node's events,
/// Redis and Kafka.
final class FanoutRig {
    let floor: FanoutSide
    let node: FanoutSide
    let nchan: FanoutSide?
    let nodeServer: NodeServer
    let load: StreamLoad
    private let redis: RedisServer
    private let kafka: KafkaServer?
    private let authority: TestAuthority?

    private static let serverProcessor = 0
    private static let clientProcessor = 1
    private static let topic = "bench.events"
    private static let partitions = 24
    private static let prefix = "bench"
    static let streamPath = "/api/v1/sse/bench"

    /// All servers there are, each turn beginning with another.
    func sides(round: Int) -> [FanoutSide] {
        let all = [floor, node] + (nchan.map { [$0] } ?? [])
        let first = round % all.count
        return Array(all[first...] + all[..<first])
    }

    init(_ settings: FanoutRigSettings) throws(BenchmarkError) {
        guard Processor.count >= 2 else {
            throw BenchmarkError(.unavailable, "server and client need a processor each")
        }
        // What is started from here on runs where this thread does.
        try Processor.pin(to: Self.clientProcessor)
        let redis = try RedisServer()
        self.redis = redis
        kafka =
            settings.path == .kafka
            ? try KafkaServer(topic: Self.topic, partitions: Self.partitions) : nil
        let source = try Self.source(settings, redis, kafka)
        load = try StreamLoad()
        authority = settings.hasTLS ? try Self.makeAuthority() : nil
        let tls = try Self.tlsSettings(authority)
        try Processor.pin(to: Self.serverProcessor)
        let floor = try FloorServer(eventBytes: settings.eventBytes)
        // Port 1: nobody answers there, and the node goes on without Kafka.
        let node = try NodeServer(
            redis: redis, kafka: kafka?.bootstrapServers ?? ["127.0.0.1:1"], group: "bench",
            prefix: Self.prefix, server: tls.lines,
            settings: """
                channels:
                  - name: bench
                    topics: [\(Self.topic)]
                    event: message
                \(settings.channel.map { "    \($0)\n" }.joined())patterns: []
                \(settings.nodeLines.map { "\($0)\n" }.joined())
                """, countsAllocations: settings.countsAllocations)
        nodeServer = node
        let nchan = settings.hasNchan && NchanServer.isInstalled ? try NchanServer() : nil
        try Processor.pin(to: Self.clientProcessor)
        self.floor = Self.side(floor)
        self.node = FanoutSide(
            name: .node, port: node.port, tlsPort: tls.port, path: Self.streamPath,
            server: node.process, process: node.process.id,
            begin: { schedule throws(BenchmarkError) in try source.begin(schedule) },
            finish: { source.finish() }, writes: { node.writes() })
        self.nchan = try nchan.map { server throws(BenchmarkError) in
            try Self.side(server, eventBytes: settings.eventBytes)
        }
        if settings.path == .kafka { try awaitPartitions() }
    }

    private static func source(
        _ settings: FanoutRigSettings, _ redis: RedisServer, _ kafka: KafkaServer?
    ) throws(BenchmarkError) -> any EventSource {
        guard let kafka else {
            return try HistorySource(
                redis: redis, prefix: prefix, topic: topic, eventBytes: settings.eventBytes)
        }
        return try KafkaSource(
            kafka: kafka, topic: topic, partitions: partitions, eventBytes: settings.eventBytes)
    }

    private static func side(_ floor: FloorServer) -> FanoutSide {
        FanoutSide(
            name: .floor, port: floor.port, path: "/", server: floor.process,
            process: floor.process.id,
            begin: { schedule throws(BenchmarkError) in try floor.begin(schedule) },
            finish: { () throws(BenchmarkError) in
                try floor.begin(.none)
                return 0
            }, writes: { nil })
    }

    private static func side(
        _ server: NchanServer, eventBytes: Int
    ) throws(BenchmarkError) -> FanoutSide {
        let source = try NchanSource(server, eventBytes: eventBytes)
        return FanoutSide(
            name: .nchan, port: server.port, path: NchanServer.subscribePath,
            server: server.process, process: server.worker,
            begin: { schedule throws(BenchmarkError) in source.begin(schedule) },
            finish: { source.finish() },
            // Keeps the server for as long as the side.
            writes: { withExtendedLifetime(server) { nil } })
    }

    private static func makeAuthority() throws(BenchmarkError) -> TestAuthority {
        do throws(TestAuthorityError) { return try TestAuthority() } catch {
            throw BenchmarkError(.unavailable, "\(error)")
        }
    }

    private static func tlsSettings(
        _ authority: TestAuthority?
    ) throws(BenchmarkError) -> (lines: [String], port: UInt16?) {
        guard let authority else { return ([], nil) }
        let port = try ServerProcess.freePort()
        do throws(TestAuthorityError) {
            let identity = try authority.issue("bench")
            return (
                [
                    "tls_listen: [\"127.0.0.1:\(port)\"]",
                    "tls_certificate: \(identity.certificateFile)",
                    "tls_key: \(identity.keyFile)",
                ], port
            )
        } catch {
            throw BenchmarkError(.unavailable, "\(error)")
        }
    }

    /// The group's first join takes the mock cluster three seconds.
    private func awaitPartitions() throws(BenchmarkError) {
        try open(node, 1)
        let deadline = MonotonicTime.now + .seconds(30)
        while load.tally.events == 0 {
            guard MonotonicTime.now < deadline else {
                throw BenchmarkError(.failed, "no event came from Kafka within 30 s")
            }
            try node.begin(
                Schedule(
                    start: .now, eventsPerSecond: 1000, eventsPerBatch: 1,
                    length: .milliseconds(24), batchesMin: Self.partitions))
            load.read(until: .now + .milliseconds(200), wanted: 1)
            _ = try node.finish()
        }
        load.drain(silence: .milliseconds(500), limit: .seconds(10))
        close()
    }

    // MARK: - Connections

    /// What connections without events cost.
    struct Idle: Sendable {
        let name: FanoutSide.Name
        let form: ClientForm
        let streams: Int
        let connections: Int
        let residentBytes: Int
        let seconds: Double

        var bytesPerConnection: Double { Double(residentBytes) / Double(max(1, connections)) }
        var bytesPerStream: Double { Double(residentBytes) / Double(max(1, streams)) }
        var connectsPerSecond: Double { Double(connections) / max(1e-9, seconds) }
    }

    /// Opens `count` streams and closes them again.
    func measureIdle(
        _ side: FanoutSide, _ count: Int, form: ClientForm = .plain
    ) throws(BenchmarkError) -> Idle {
        let before = ProcessMeter.residentBytes(of: side.process)
        let began = MonotonicTime.now
        try open(side, count, form: form)
        let seconds = (MonotonicTime.now - began).inSeconds
        load.read(until: .now + .milliseconds(500))
        let after = ProcessMeter.residentBytes(of: side.process)
        let connections = load.connectionCount
        close()
        return Idle(
            name: side.name, form: form, streams: count, connections: connections,
            residentBytes: after - before, seconds: seconds)
    }

    func open(
        _ side: FanoutSide, _ count: Int, form: ClientForm = .plain
    ) throws(BenchmarkError) {
        guard let port = form == .tls ? side.tlsPort : side.port else {
            throw BenchmarkError(.unavailable, "\(side.name) does not speak TLS here")
        }
        // From several addresses: to find a free port takes the kernel ever longer once half of an
        // address' are in use, and that would be the client's time and not the server's.
        var opened = 0
        while opened < count {
            let share = min(count - opened, Self.streamsPerSource)
            let source = 0x7f00_0001 + UInt32(opened / Self.streamsPerSource)
            try load.open(
                share,
                from: .init(port: port, path: side.path, form: form, source: source),
                within: .seconds(180))
            opened += share
        }
    }

    private static let streamsPerSource = 8_000

    /// Closes all, and gives the server time to see it.
    func close() {
        load.closeAll()
        _ = poll(nil, 0, 300)
    }

    // MARK: - Measuring

    /// Runs one schedule over the open connections, from which the first fifth is warm-up.
    ///
    /// - Parameter countsWrites: Whether to ask the server for its counts before and after, which
    ///   is work for it.
    func measure(
        _ side: FanoutSide, eventsPerSecond: Double, eventsPerBatch: Int, window: Duration,
        p99Limit: Duration, countsWrites: Bool = true
    ) throws(BenchmarkError) -> FanoutWindow {
        let connections = load.openCount
        let writesBefore = countsWrites ? side.writes() : nil
        let schedule = Schedule(
            start: .now + .milliseconds(50), eventsPerSecond: eventsPerSecond,
            eventsPerBatch: eventsPerBatch, length: window)
        let warmUp = schedule.batches / 5
        load.beginTally(from: schedule.due(warmUp), until: schedule.end)
        let meter = UsageMeter(processes: [side.process, getpid()])
        try side.begin(schedule)
        // What is later than twice the limit cannot be held any more.
        let isComplete = load.read(
            until: schedule.end + p99Limit * 2, wanted: schedule.events * connections)
        let seconds = meter.processSeconds
        let busy = meter.busyShares
        let elapsed = meter.elapsed
        let tally = load.tally
        let refused = try side.finish()
        if !isComplete { load.drain(silence: .milliseconds(300), limit: .seconds(20)) }
        try side.server.checkAlive()
        let writes = writesBefore.flatMap { before in side.writes().map { $0 - before } }
        let measured = schedule.batches - warmUp
        return FanoutWindow(
            connections: connections, eventsPerSecond: schedule.eventsPerSecond,
            expected: measured * eventsPerBatch * connections, latency: tally.latency,
            measuredSeconds: schedule.seconds * Double(measured) / Double(schedule.batches),
            deliveries: tally.events, bytes: tally.bytes,
            // The floor makes one for each batch and connection.
            writes: writes ?? tally.events / eventsPerBatch, serverSeconds: seconds[0],
            clientSeconds: seconds[1],
            elapsed: elapsed, serverProcessorBusy: busy[Self.serverProcessor],
            clientProcessorBusy: busy[Self.clientProcessor], refused: refused, gaps: tally.gaps,
            connectionsLost: tally.ended)
    }

    /// The window with the highest rate that the server holds, to ``FanoutPlan/searchStep``; `nil`
    /// where it holds none.
    func search(
        _ side: FanoutSide, from first: Double, eventsPerBatch: Int, plan: FanoutPlan
    ) throws(BenchmarkError) -> FanoutWindow? {
        var held: FanoutWindow?
        var missed: Double?
        var rate = first
        for _ in 0..<Self.windowsMax {
            var window: FanoutWindow?
            for _ in 0..<plan.attempts {
                let tried = try measure(
                    side, eventsPerSecond: rate, eventsPerBatch: eventsPerBatch,
                    window: plan.window, p99Limit: plan.p99Limit)
                let isHeld = tried.isHeld(p99LimitMilliseconds: plan.p99Limit.inSeconds * 1000)
                if isHeld { window = tried }
                Self.say(side, tried, isHeld)
                if isHeld { break }
            }
            if let window { held = window } else { missed = rate }
            switch (held?.eventsPerSecond, missed) {
            case (let low?, let high?):
                if high / low <= plan.searchStep { return held }
                rate = (low * high).squareRoot()
            case (.some, nil): rate *= 2
            case (nil, _): rate /= 2
            }
            // Slower ones would take longer than their windows are meant to.
            guard rate >= plan.slowestRate(eventsPerBatch: eventsPerBatch) else { return held }
        }
        return held
    }

    private static let windowsMax = 16

    private static func say(_ side: FanoutSide, _ window: FanoutWindow, _ isHeld: Bool) {
        StandardError.say(
            "  \(side.name) \(Columns.number(window.eventsPerSecond)) events/s to "
                + "\(window.connections): \(isHeld ? "held" : "missed"), "
                + "\(window.received) of \(window.expected), p99 "
                + "\(Columns.number(window.latency.milliseconds(0.99))) ms, processors "
                + "\(Columns.number(window.serverProcessorBusy * 100)) % and "
                + "\(Columns.number(window.clientProcessorBusy * 100)) %"
                + (window.refused > 0 ? ", \(window.refused) refused by the source" : "")
                + (window.gaps > 0 ? ", \(window.gaps) gaps" : "")
                + (window.connectionsLost > 0 ? ", \(window.connectionsLost) ended" : ""))
    }
}

extension FanoutRig.Idle {
    func append(to text: inout JSONText) {
        text.object {
            $0.field("server", name.rawValue)
            $0.field("form", form.rawValue)
            $0.field("streams", streams)
            $0.field("connections", connections)
            $0.field("rss_bytes_per_connection", bytesPerConnection)
            $0.field("rss_bytes_per_stream", bytesPerStream)
            $0.field("connects_per_s", connectsPerSecond)
        }
    }
}
