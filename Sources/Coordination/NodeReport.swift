// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import KafkaClient
import PosixIO

/// What a node says of itself in its lease.
///
/// View: node. Threads: any; a value.
package struct NodeReport: Sendable, Equatable {
    package enum State: String, Sendable, CaseIterable {
        /// Waits for its place in history.
        case joining
        case up
        /// Sends its clients away and hands its partitions over.
        case draining
    }

    package var state: State
    /// Where clients and other nodes reach it: `host:port`.
    package var address: String
    package var version: String
    /// Milliseconds since 1970 when the process began, by its own clock.
    package var started: UInt64
    package var connections: Int
    package var connectionsMax: Int
    /// Kafka records that wait in its partitions.
    package var lag: Int
    /// Events a second that it appended to history.
    package var ingestRate: Double
    /// Events a second that it handed to sockets.
    package var deliveryRate: Double
    /// The partitions that the group has given it.
    package var partitions: [TopicPartition]
    /// The partitions of dead nodes that it reads outside the group.
    package var orphans: [TopicPartition]
    /// How old what has come through its tail last was when it said so; `nil` where it sends no
    /// canaries.
    package var canaryAge: Duration?
    /// Breakers that are not closed, by dependency: `kafka open`.
    package var breakers: [String: String] = [:]
    /// Components that do not run as they should: `ingest failed`.
    package var components: [String: String] = [:]
    /// How far its drain is; `nil` where it does not drain.
    package var drain: DrainProgress?
    /// Its parts of the cluster's limits, by their names: what it has leased, and what it uses of
    /// that. Rates are in thousandths of an event a second.
    package var shares: [String: BudgetShare] = [:]

    package init(
        state: State, address: String, version: String, started: UInt64, connections: Int = 0,
        connectionsMax: Int = 0, lag: Int = 0, ingestRate: Double = 0, deliveryRate: Double = 0,
        partitions: [TopicPartition] = [], orphans: [TopicPartition] = []
    ) {
        self.state = state
        self.address = address
        self.version = version
        self.started = started
        self.connections = connections
        self.connectionsMax = connectionsMax
        self.lag = lag
        self.ingestRate = ingestRate
        self.deliveryRate = deliveryRate
        self.partitions = partitions
        self.orphans = orphans
    }
}

// MARK: - As text

extension NodeReport {
    /// The partitions of one report at most; a text that names more is cut there.
    static let partitionsMax = 100_000

    /// One line a fact: a name, a blank, the value. A reader passes over names that it does not
    /// know and takes the rest by default, so that nodes of different versions understand each
    /// other. Partitions are ranges: `reads its.detections 0-3,7`.
    package var text: String {
        var lines = [
            "state \(state.rawValue)", "address \(Self.line(address))",
            "version \(Self.line(version))", "started \(started)", "connections \(connections)",
            "connections_max \(connectionsMax)", "lag \(lag)", "ingest_rate \(ingestRate)",
            "delivery_rate \(deliveryRate)",
        ]
        if let canaryAge { lines.append("canary_age \(canaryAge.wholeMilliseconds)") }
        if let drain { lines.append("drain \(drain.text)") }
        for (name, share) in shares.sorted(by: { $0.key < $1.key }) {
            lines.append("share \(share.leased) \(share.held) \(Self.line(name))")
        }
        lines += Self.lines("breaker", breakers) + Self.lines("component", components)
        lines += Self.lines("reads", partitions) + Self.lines("orphans", orphans)
        return lines.joined(separator: "\n")
    }

    /// Reads what ``text`` wrote. What cannot be read keeps its default: a lease that somebody
    /// else wrote must not bring a node down.
    package init(text: String) {
        self.init(state: .joining, address: "", version: "", started: 0)
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = String(parts[1])
            switch parts[0] {
            case "state": state = State(rawValue: value) ?? state
            case "address": address = value
            case "version": version = value
            case "started": started = UInt64(value) ?? 0
            case "connections": connections = Self.count(value)
            case "connections_max": connectionsMax = Self.count(value)
            case "lag": lag = Self.count(value)
            case "ingest_rate": ingestRate = Self.rate(value)
            case "delivery_rate": deliveryRate = Self.rate(value)
            case "canary_age": canaryAge = .milliseconds(Self.count(value))
            case "drain": drain = DrainProgress(text: value)
            case "share": readShare(value)
            case "breaker": Self.read(value, into: &breakers)
            case "component": Self.read(value, into: &components)
            case "reads": Self.read(value, into: &partitions)
            case "orphans": Self.read(value, into: &orphans)
            default: break
            }
        }
    }

    private mutating func readShare(_ text: String) {
        let parts = text.split(separator: " ", maxSplits: 2)
        guard parts.count == 3, shares.count < Self.namesMax else { return }
        shares[String(parts[2])] = BudgetShare(
            leased: Self.count(String(parts[0])), held: Self.count(String(parts[1])))
    }

    private static func count(_ text: String) -> Int { max(0, Int(text) ?? 0) }

    private static func rate(_ text: String) -> Double {
        guard let rate = Double(text), rate.isFinite, rate >= 0 else { return 0 }
        return rate
    }

    /// A line may hold anything but the end of a line.
    private static func line(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 ? " " : Character($0) })
    }

    private static func lines(_ name: String, _ partitions: [TopicPartition]) -> [String] {
        Dictionary(grouping: partitions, by: \.topic).sorted { $0.key < $1.key }.map {
            "\(name) \($0.key) \(ranges($0.value.map(\.partition).sorted()))"
        }
    }

    /// States by name, one a line; a name may have blanks, a state has none.
    private static func lines(_ what: String, _ states: [String: String]) -> [String] {
        states.sorted { $0.key < $1.key }.map { "\(what) \($0.value) \(line($0.key))" }
    }

    /// Names of one kind that a text may give; a node has a dozen.
    static let namesMax = 100

    private static func read(_ text: String, into states: inout [String: String]) {
        let parts = text.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, states.count < namesMax else { return }
        states[String(parts[1])] = String(parts[0])
    }

    private static func ranges(_ numbers: [Int32]) -> String {
        var ranges: [ClosedRange<Int32>] = []
        for number in numbers {
            if let last = ranges.last, number <= last.upperBound &+ 1 {
                ranges[ranges.count - 1] = last.lowerBound...max(number, last.upperBound)
            } else {
                ranges.append(number...number)
            }
        }
        return ranges.map {
            $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
        }.joined(separator: ",")
    }

    private static func read(_ text: String, into partitions: inout [TopicPartition]) {
        let parts = text.split(separator: " ")
        guard parts.count == 2 else { return }
        let topic = String(parts[0])
        for range in parts[1].split(separator: ",") {
            let ends = range.split(separator: "-", omittingEmptySubsequences: false)
                .map { Int32($0) ?? -1 }
            guard ends.count <= 2, let first = ends.first, let last = ends.last, first >= 0,
                last >= first,
                Int(last - first) < partitionsMax - partitions.count
            else { continue }
            for number in first...last { partitions.append(TopicPartition(topic, number)) }
        }
    }
}
