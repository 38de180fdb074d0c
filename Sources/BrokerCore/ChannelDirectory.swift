// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import JSONFields
package import NodeConfiguration
import PosixIO

/// All channels of a node: the configured ones, and those that patterns make out of topics.
///
/// View: node. Threads: any. A look-up takes a lock for a moment, so callers on a hot path keep
/// what they found.
package final class ChannelDirectory: Sendable {
    private struct Made {
        var channels: [Channel]
        var byName: [String: Int]
        var routes: [String: TopicRoute] = [:]
    }

    /// The JSON fields that any filter or event name looks at, as columns of the field table.
    package let fieldPaths: JSONFieldPaths
    /// The columns of the fields that `GET /sse/events` filters by.
    package let eventTypeColumn: Int
    package let projectColumn: Int

    /// What becomes of events beyond a rate where their channel does not say.
    private let limitRule: LimitRule
    private let patterns: [PatternConfiguration]
    private let columns: [String: Int]
    private let configuredCount: Int
    private let made: Lock<Made>

    /// How many channels patterns may make. Each costs under a kilobyte; without a bound a client
    /// that asks for ever new names could fill the memory.
    package static let patternChannelsMax = 10_000

    /// - Parameter limits: What becomes of events beyond a rate.
    package init(
        channels: [ChannelConfiguration], patterns: [PatternConfiguration],
        limits: LimitsSection = LimitsSection()
    ) throws(JSONFieldsError) {
        var paths: [String] = []
        var columns: [String: Int] = [:]
        func column(_ path: String) {
            guard columns[path] == nil else { return }
            columns[path] = paths.count
            paths.append(path)
        }
        column("event_type")
        column("project_id")
        let rules =
            channels.map { ($0.event, $0.filters) } + patterns.map { ($0.event, $0.filters) }
        for (event, filters) in rules {
            if case .field(let path, _) = event { column(path) }
            for filter in filters { for field in filter.fields { column(field) } }
        }
        for channel in channels { if let key = channel.onLimit?.key { column(key) } }
        // No field is looked for in every event that hardly any node has a use for.
        let knowsUrgency =
            !limits.urgentPriorities.isEmpty
            && (limits.hasEventRates || channels.contains { $0.onLimit != nil })
        if knowsUrgency { column(limits.priorityField) }
        let limitRule = LimitRule(
            policy: .init(limits.onLimit),
            priorityColumn: knowsUrgency ? columns[limits.priorityField] : nil,
            urgentValues: limits.urgentPriorities.map { Array($0.utf8) })
        self.limitRule = limitRule
        fieldPaths = try JSONFieldPaths(paths)
        self.columns = columns
        eventTypeColumn = columns["event_type"]!
        projectColumn = columns["project_id"]!
        self.patterns = patterns
        configuredCount = channels.count
        var list: [Channel] = []
        var byName: [String: Int] = [:]
        for channel in channels {
            byName[channel.name] = list.count
            list.append(
                Channel(
                    index: list.count, name: channel.name, description: channel.description,
                    topics: channel.topics, eventName: Self.naming(channel.event, columns),
                    filters: Self.filters(channel.filters, columns),
                    limitRule: limitRule.overruled(by: channel.onLimit, columns), pattern: nil))
        }
        made = Lock(Made(channels: list, byName: byName))
    }

    /// The topics that the configuration names.
    package var configuredTopics: [String] {
        var seen: Set<String> = []
        return made.withLock { made in
            made.channels.prefix(configuredCount).flatMap(\.topics).filter {
                seen.insert($0).inserted
            }
        }
    }

    /// The globs of the topics that patterns serve.
    package var topicPatterns: [String] { patterns.map(\.topics) }

    /// All channels known so far, configured ones first.
    package var channels: [Channel] { made.withLock { $0.channels } }

    /// The channel of that name; a pattern may make it. `nil` where neither knows the name or the
    /// patterns have made all they may.
    package func channel(named name: String) -> Channel? {
        made.withLock { made in
            if let index = made.byName[name] { return made.channels[index] }
            guard Self.isTopicName(name), !isConfigured(topic: name, in: made) else { return nil }
            return makeChannel(topic: name, in: &made)
        }
    }

    package func channel(at index: Int) -> Channel { made.withLock { $0.channels[index] } }

    /// Which channels carry `topic`; none where the topic is neither configured nor matched.
    package func route(for topic: String) -> TopicRoute {
        made.withLock { made in
            if let route = made.routes[topic] { return route }
            var carrying = made.channels.prefix(configuredCount).filter {
                $0.topics.contains(topic)
            }
            if carrying.isEmpty {
                if let index = made.byName[topic], made.channels[index].pattern != nil {
                    carrying = [made.channels[index]]
                } else if let channel = makeChannel(topic: topic, in: &made) {
                    carrying = [channel]
                }
            }
            let route = TopicRoute(topic: topic, channels: Array(carrying))
            made.routes[topic] = route
            return route
        }
    }

    private func isConfigured(topic: String, in made: Made) -> Bool {
        made.channels.prefix(configuredCount).contains { $0.topics.contains(topic) }
    }

    private func makeChannel(topic: String, in made: inout Made) -> Channel? {
        guard made.channels.count - configuredCount < Self.patternChannelsMax,
            made.byName[topic] == nil,
            let pattern = patterns.first(where: { Self.glob($0.topics, matches: topic) })
        else { return nil }
        let channel = Channel(
            index: made.channels.count, name: topic, description: pattern.description,
            topics: [topic], eventName: Self.naming(pattern.event, columns),
            filters: Self.filters(pattern.filters, columns), limitRule: limitRule,
            pattern: pattern.topics)
        made.byName[topic] = channel.index
        made.channels.append(channel)
        return channel
    }

    private static func naming(_ rule: EventNameRule, _ columns: [String: Int]) -> EventNaming {
        switch rule {
        case .fixed(let name): .fixed(name)
        case .field(let path, let fallback): .column(columns[path]!, fallback: fallback)
        }
    }

    private static func filters(_ filters: [FilterConfiguration], _ columns: [String: Int])
        -> [ChannelFilter]
    {
        filters.map { filter in
            ChannelFilter(
                parameter: filter.parameter, fields: filter.fields,
                columns: filter.fields.map { columns[$0]! }, operation: filter.operation,
                description: filter.description)
        }
    }

    /// Kafka's rule for topic names.
    static func isTopicName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 249
            && name.utf8.allSatisfy { byte in
                (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z"))
                    || (byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z"))
                    || (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
                    || byte == UInt8(ascii: "-")
            }
    }

    /// Matches a glob in which `*` stands for any text. Linear in practice: on a mismatch it goes
    /// back only to the last `*`.
    package static func glob(_ glob: String, matches text: String) -> Bool {
        let pattern = Array(glob.utf8)
        let bytes = Array(text.utf8)
        var p = 0
        var t = 0
        var star: (pattern: Int, text: Int)?
        while t < bytes.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (p, t)
                p += 1
            } else if p < pattern.count, pattern[p] == bytes[t] {
                p += 1
                t += 1
            } else if let last = star {
                p = last.pattern + 1
                t = last.text + 1
                star = (last.pattern, t)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
