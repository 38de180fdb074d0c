// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a key's value is made of and which values are legal.
package enum ValueKind: Sendable {
    case text(TextRule)
    case secret
    case integer(ClosedRange<Int>)
    case boolean
    case duration(ClosedRange<Duration>)
    case bytes(ClosedRange<Int>)
    case list(TextRule, count: ClosedRange<Int>)
    case choice([String])
    case properties
    case channels
    case patterns

    /// One word or two, for people.
    package var typeName: String {
        switch self {
        case .text(let rule): rule.typeName
        case .secret: "secret"
        case .integer: "integer"
        case .boolean: "boolean"
        case .duration: "duration"
        case .bytes: "byte size"
        case .list: "list"
        case .choice: "choice"
        case .properties: "mapping"
        case .channels, .patterns: "list of mappings"
        }
    }

    /// What is legal, for people.
    package var accepted: String {
        switch self {
        case .text(let rule): rule.accepted
        case .secret: "text of 1 to \(ConfigurationLimits.textBytes) bytes in one line"
        case .integer(let range): "an integer from \(range.lowerBound) to \(range.upperBound)"
        case .boolean: "true or false"
        case .duration(let range):
            "a whole number with ms, s, m, h or d, from \(range.lowerBound.configurationText)"
                + " to \(range.upperBound.configurationText)"
        case .bytes(let range):
            "a whole number of bytes or with KiB, MiB or GiB, from "
                + "\(ByteSize.text(range.lowerBound)) to \(ByteSize.text(range.upperBound))"
        case .list(let rule, let count):
            "a list of \(count.lowerBound) to \(count.upperBound), each \(rule.accepted)"
        case .choice(let names): names.joined(separator: ", ")
        case .properties: "a mapping of librdkafka's properties to their values"
        case .channels: "a list of at most \(ConfigurationLimits.channels) channels"
        case .patterns: "a list of at most \(ConfigurationLimits.patterns) patterns"
        }
    }
}

/// A setting's value between its text and its place in a ``Configuration``.
enum SettingValue: Sendable, Equatable {
    case none
    case text(String)
    case secret(Secret)
    case integer(Int)
    case boolean(Bool)
    case duration(Duration)
    case list([String])
    case properties([String: String])
    case channels([ChannelConfiguration])
    case patterns([PatternConfiguration])
}
