// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Observability
import PosixIO

/// One second of a run.
package struct LoadSecond: Sendable {
    /// Seconds since the run began, at its end.
    package var second: Double
    package var tick: LoadTick
    package var published: Int
    /// Of all servers that say so: processor seconds since they began, and resident bytes.
    package var servers: [ServerUsage?]

    package init(second: Double, tick: LoadTick, published: Int, servers: [ServerUsage?]) {
        self.second = second
        self.tick = tick
        self.published = published
        self.servers = servers
    }
}

/// What one node says of itself at `/metrics`.
package struct ServerUsage: Sendable, Equatable {
    package var cpuSeconds: Double
    package var residentBytes: Double

    package init(cpuSeconds: Double, residentBytes: Double) {
        self.cpuSeconds = cpuSeconds
        self.residentBytes = residentBytes
    }
}

/// A run from its beginning, or as far as it came.
package struct LoadReport: Sendable {
    package var began: UInt64
    package var run: String
    package var command: String
    package var machine: String
    package var connections: Int
    package var targets: [String]
    package var schedule: LoadSchedule
    package var eventBytes: Int
    package var seconds: [LoadSecond] = []
    package var publisher = LoadPublisher.Progress()
    /// How many subscribers have had how many of the run's events.
    package var received: [UInt32: Int] = [:]
    /// What the workers' resident memory has grown by for their subscribers.
    package var workerBytes = 0
    package var wasCutShort = false
    /// Why subscribers got no stream, where any did not.
    package var refusal: String?

    package init(
        began: UInt64, run: String, command: String, machine: String, connections: Int,
        targets: [String], schedule: LoadSchedule, eventBytes: Int
    ) {
        self.began = began
        self.run = run
        self.command = command
        self.machine = machine
        self.connections = connections
        self.targets = targets
        self.schedule = schedule
        self.eventBytes = eventBytes
    }

    /// Everything added up.
    package var total: LoadTick {
        var total = LoadTick(targets: targets.count)
        for second in seconds { total.add(second.tick) }
        total[.streaming] = seconds.last?.tick[.streaming] ?? 0
        return total
    }

    /// Events that subscribers should have had and did not: every one had its stream before the first
    /// event was due, and comes back with its last ID.
    package var lost: Int {
        let expected = publisher.acknowledged
        return received.reduce(0) { $0 + max(0, expected - Int($1.key)) * $1.value }
    }

    package var mostStreaming: Int { Int(seconds.map { $0.tick[.streaming] }.max() ?? 0) }
    package var leastReceived: Int { Int(received.keys.min() ?? 0) }
    package var mostReceived: Int { Int(received.keys.max() ?? 0) }

    // MARK: - Can it be trusted

    /// A worker that is busier than this may have been what was late.
    static let busyMost: UInt64 = 850
    static let lateMost: Duration = .milliseconds(50)

    /// Why the figures may say more of the load generator than of the servers; empty where they do
    /// not.
    package var saturation: [String] {
        var found: [String] = []
        let busy = seconds.count { $0.tick[.busy] > Self.busyMost }
        if busy > 0 {
            found.append("a worker was more than 85 % busy in \(busy) of \(seconds.count) seconds")
        }
        if publisher.latestBy > Self.lateMost {
            found.append(
                "events were published up to \(publisher.latestBy.wholeMilliseconds) ms late")
        }
        return found
    }

    // MARK: - Objectives

    package func value(of objective: LoadObjective) -> Double {
        let total = total
        switch objective.measure {
        case .latency(let share): return total.latency.milliseconds(share)
        case .loss: return Double(lost)
        case .repeats: return Double(total[.repeats])
        case .gaps: return Double(total[.gaps])
        case .reconnects: return Double(total[.ended])
        }
    }

    package func holds(_ objective: LoadObjective) -> Bool {
        value(of: objective) <= objective.most
    }

    // MARK: - For people

    package var summary: [String] {
        let total = total
        func latency(_ name: String, _ histogram: LatencyHistogram) -> String {
            let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)]
            let parts = shares.map { "\($0) \(Self.number(histogram.milliseconds($1)))" }
            return "\(name): \(parts.joined(separator: ", ")), max "
                + "\(Self.number(histogram.maximumMilliseconds)) ms"
        }
        var lines = [
            "\(publisher.acknowledged) events published, \(total[.delivered]) delivered to "
                + "\(connections) subscribers, \(mostStreaming) at once at most",
            "lost \(lost), repeated \(total[.repeats]), gaps told \(total[.gaps]), streams that ended "
                + "\(total[.ended]), refused \(total[.refused])",
            "each subscriber had \(leastReceived) to \(mostReceived)",
            latency("latency from due to read", total.latency),
            latency("  of it until it was in history", total.toHistory),
            latency("  of it from there to the client", total.toClient),
            latency("to connect", total.connect),
        ]
        if publisher.failed > 0 { lines.append("not published: \(publisher.failed)") }
        if connections > 0, workerBytes > 0 {
            lines.append("own memory \(workerBytes / connections) bytes a connection")
        }
        if let refusal { lines.append("the first refusal: \(refusal)") }
        for reason in saturation { lines.append("do not trust this: \(reason)") }
        if wasCutShort {
            lines.append(
                "cut short: the run was interrupted, and what was on its way counts as lost")
        }
        return lines
    }

    static func number(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        if value >= 100 || value == value.rounded() { return "\(Int(value.rounded()))" }
        return "\((value * 100).rounded() / 100)"
    }

    // MARK: - For programs

    package var csv: String {
        var lines = [
            "second,streaming,published,delivered,opened,ended,refused,repeats,gaps,p50_ms,p99_ms,max_ms,"
                + "busy"
        ]
        for second in seconds {
            let tick = second.tick
            let counts: [LoadTick.Count] = [
                .delivered, .opened, .ended, .refused, .repeats, .gaps,
            ]
            lines.append(
                ([Self.number(second.second), "\(tick[.streaming])", "\(second.published)"]
                    + counts.map { "\(tick[$0])" }
                    + [0.5, 0.99].map { Self.number(tick.latency.milliseconds($0)) }
                    + [
                        Self.number(tick.latency.maximumMilliseconds),
                        Self.number(Double(tick[.busy]) / 1000),
                    ])
                    .joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    package func json(_ objectives: [LoadObjective]) -> [UInt8] {
        let total = total
        var json = JSONText(reserving: 4096)
        json.object { text in
            text.field("tool", "rivulet load")
            text.field("began", WallClock.text(milliseconds: began))
            text.field("run", run)
            text.field("command", command)
            text.field("machine", machine)
            text.field("connections", connections)
            text.array("targets", targets)
            text.field("schedule", schedule.shape.rawValue)
            text.field("events_per_second", schedule.rate)
            text.field("duration_s", schedule.length.inSeconds)
            text.field("event_bytes", eventBytes)
            text.field("cut_short", wasCutShort)
            text.field("published", publisher.acknowledged)
            text.field("not_published", publisher.failed)
            text.field("delivered", total[.delivered])
            text.field("lost", lost)
            text.field("repeated", total[.repeats])
            text.field("gaps", total[.gaps])
            text.field("rate_limited", total[.rateLimited])
            text.field("ended", total[.ended])
            text.field("refused", total[.refused])
            text.field("streaming_max", mostStreaming)
            text.field("received_min", leastReceived)
            text.field("received_max", mostReceived)
            text.field("own_bytes", workerBytes)
            Self.append("latency_ms", total.latency, to: &text)
            Self.append("to_history_ms", total.toHistory, to: &text)
            Self.append("to_client_ms", total.toClient, to: &text)
            Self.append("connect_ms", total.connect, to: &text)
            text.array("delivered_by_target", total.byTarget.map { Int($0) })
            text.array("servers") { text in
                for index in targets.indices { server(index, to: &text) }
            }
            text.array("saturation", saturation)
            text.array("objectives") { text in
                for objective in objectives {
                    text.object { text in
                        text.field("objective", objective.text)
                        text.field("value", value(of: objective))
                        text.field("holds", holds(objective))
                    }
                }
            }
        }
        return json.bytes
    }

    private func server(_ index: Int, to text: inout JSONText) {
        let used = seconds.compactMap { second in
            index < second.servers.count
                ? second.servers[index].map { (second.second, $0) } : nil
        }
        text.object { text in
            text.field("target", targets[index])
            guard let first = used.first, let last = used.last, last.0 > first.0 else { return }
            text.field("cpu", (last.1.cpuSeconds - first.1.cpuSeconds) / (last.0 - first.0))
            text.field("resident_bytes_max", used.map(\.1.residentBytes).max() ?? 0)
        }
    }

    private static func append(
        _ name: String, _ histogram: LatencyHistogram, to text: inout JSONText
    ) {
        text.object(name) { text in
            for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
                text.field(name, histogram.milliseconds(share))
            }
            text.field("max", histogram.maximumMilliseconds)
            text.field("count", histogram.count)
        }
    }
}
