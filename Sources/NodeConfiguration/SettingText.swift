// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Writes settings as YAML that reads back as the same value.
enum SettingText {
    /// One line, or `nil` for channels and patterns. Secrets are masked.
    static func inline(_ value: SettingValue, kind: ValueKind) -> String? {
        switch value {
        case .none: return "null"
        case .text(let text):
            if case .choice = kind { return text }
            return quoted(text)
        case .secret: return quoted(Secret.mask)
        case .integer(let number):
            if case .bytes = kind { return ByteSize.text(number) }
            return "\(number)"
        case .boolean(let value): return "\(value)"
        case .duration(let duration): return duration.configurationText
        case .list(let items): return "[\(items.map(quoted).joined(separator: ", "))]"
        case .properties(let properties):
            let pairs = properties.sorted { $0.key < $1.key }.map { name, value in
                "\(quoted(name)): \(quoted(KafkaProperties.isSecret(name) ? Secret.mask : value))"
            }
            return "{\(pairs.joined(separator: ", "))}"
        case .channels, .patterns: return nil
        }
    }

    /// A YAML text in double quotes (YAML 1.1, 9.1.2).
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where Excerpt.isHarmless(scalar): result.unicodeScalars.append(scalar)
            default:
                let digits = String(scalar.value, radix: 16)
                result += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
            }
        }
        return result + "\""
    }

    /// The items of `channels`, indented by two.
    static func lines(_ channels: [ChannelConfiguration]) -> [String] {
        channels.flatMap { channel in
            let topics = channel.topics.map(quoted).joined(separator: ", ")
            var text = ["  - name: \(quoted(channel.name))"] + described(channel.description)
            text.append("    topics: [\(topics)]")
            text += lines(channel.event)
            text += lines(channel.filters)
            return text + lines(channel.slow) + lines(channel.retention) + lines(channel.onLimit)
        }
    }

    private static func lines(_ slow: SlowConfiguration?) -> [String] {
        guard let slow else { return [] }
        let bytes = ByteSize.text(slow.bytes)
        return [
            "    slow: {policy: \(slow.policy.rawValue), events: \(slow.events), bytes: \(bytes)}"
        ]
    }

    private static func lines(_ retention: RetentionConfiguration?) -> [String] {
        guard let retention else { return [] }
        let parts = [
            retention.time.map { "time: \($0.configurationText)" },
            retention.bytes.map { "bytes: \(ByteSize.text($0))" },
            retention.events.map { "events: \($0)" },
        ].compactMap(\.self)
        return ["    retention: {\(parts.joined(separator: ", "))}"]
    }

    private static func lines(_ onLimit: OnLimitConfiguration?) -> [String] {
        guard let onLimit else { return [] }
        let key = onLimit.key.map { ", key: \(quoted($0))" } ?? ""
        return ["    on_limit: {policy: \(onLimit.policy.rawValue)\(key)}"]
    }

    /// The items of `patterns`, indented by two.
    static func lines(_ patterns: [PatternConfiguration]) -> [String] {
        patterns.flatMap { pattern in
            ["  - topics: \(quoted(pattern.topics))"]
                + described(pattern.description)
                + lines(pattern.event) + lines(pattern.filters)
        }
    }

    private static func described(_ description: String) -> [String] {
        description.isEmpty ? [] : ["    description: \(quoted(description))"]
    }

    private static func lines(_ event: EventNameRule) -> [String] {
        switch event {
        case .fixed(let name): ["    event: \(quoted(name))"]
        case .field(let path, let fallback):
            ["    event: {field: \(quoted(path)), fallback: \(quoted(fallback))}"]
        }
    }

    private static func lines(_ filters: [FilterConfiguration]) -> [String] {
        guard !filters.isEmpty else { return ["    filters: []"] }
        return ["    filters:"]
            + filters.flatMap { filter in
                [
                    "      - parameter: \(quoted(filter.parameter))",
                    "        fields: [\(filter.fields.map(quoted).joined(separator: ", "))]",
                    "        operation: \(filter.operation.rawValue)",
                ]
                    + (filter.description.isEmpty
                        ? [] : ["        description: \(quoted(filter.description))"])
            }
    }
}
