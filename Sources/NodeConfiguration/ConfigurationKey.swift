// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One row of the table that everything about the configuration comes from.
///
/// Reading, overriding, the help text, the reference page and the printed effective configuration
/// all walk ``Configuration/keyReference``, so none can know a key that another does not.
package struct ConfigurationKey: Sendable {
    /// `section.key`; `channels` and `patterns` have no section.
    package let name: String
    package let kind: ValueKind
    /// One sentence: what it is for.
    package let reason: String
    /// What the smallest value means where it is no ordinary one: `0 is one per core`.
    package let special: String?
    /// True where there may be no value at all.
    package let isOptional: Bool
    /// The default where it is worked out and not fixed.
    let derivedDefault: String?
    let read: @Sendable (Configuration) -> SettingValue
    let write: @Sendable (SettingValue, inout Configuration) -> Void

    package var isSecret: Bool { if case .secret = kind { true } else { false } }

    /// The variable that overrides it.
    package var environmentVariable: String { Self.variable(of: name) }

    /// The flag that overrides it, without a value.
    package var flag: String { "--\(name)" }

    /// The key that names a file to read the secret from.
    var fileName: String? { isSecret ? name + Self.fileSuffix : nil }

    static let fileSuffix = "_file"
    static let variablePrefix = "RIVULET_"

    static func variable(of name: String) -> String {
        variablePrefix + name.uppercased().map { $0 == "." ? "_" : String($0) }.joined()
    }

    /// The default as it would be written in a file; `nil` where a list of mappings is too long.
    package var defaultText: String? {
        if let derivedDefault { return derivedDefault }
        return SettingText.inline(read(Configuration()), kind: kind)
    }
}

extension ConfigurationKey {
    typealias Path<Value> = WritableKeyPath<Configuration, Value> & Sendable

    /// A write whose value is of another type than the kind reads is a mistake in the table.
    private static func mismatch(_ name: String) -> Never {
        preconditionFailure("the table reads \(name) as one type and stores another")
    }

    static func text(
        _ name: String,
        _ path: any Path<String>,
        _ rule: TextRule,
        _ reason: String,
        derivedDefault: String? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .text(rule), reason: reason, special: nil, isOptional: false,
            derivedDefault: derivedDefault, read: { .text($0[keyPath: path]) },
            write: {
                guard case .text(let text) = $0 else { mismatch(name) }
                $1[keyPath: path] = text
            })
    }

    static func optionalText(
        _ name: String,
        _ path: any Path<String?>,
        _ rule: TextRule,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .text(rule), reason: reason, special: nil, isOptional: true,
            derivedDefault: nil, read: { $0[keyPath: path].map { .text($0) } ?? .none },
            write: {
                switch $0 {
                case .none: $1[keyPath: path] = nil
                case .text(let text): $1[keyPath: path] = text
                default: mismatch(name)
                }
            })
    }

    static func secret(
        _ name: String,
        _ path: any Path<Secret?>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .secret, reason: reason, special: nil, isOptional: true,
            derivedDefault: nil, read: { $0[keyPath: path].map { .secret($0) } ?? .none },
            write: {
                switch $0 {
                case .none: $1[keyPath: path] = nil
                case .secret(let secret): $1[keyPath: path] = secret
                default: mismatch(name)
                }
            })
    }

    static func integer(
        _ name: String,
        _ path: any Path<Int>,
        _ range: ClosedRange<Int>,
        _ reason: String,
        special: String? = nil
    ) -> ConfigurationKey {
        number(name, path, .integer(range), reason, special: special)
    }

    static func bytes(
        _ name: String,
        _ path: any Path<Int>,
        _ range: ClosedRange<Int>,
        _ reason: String
    ) -> ConfigurationKey {
        number(name, path, .bytes(range), reason, special: nil)
    }

    private static func number(
        _ name: String,
        _ path: any Path<Int>,
        _ kind: ValueKind,
        _ reason: String,
        special: String?
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: kind, reason: reason, special: special, isOptional: false,
            derivedDefault: nil, read: { .integer($0[keyPath: path]) },
            write: {
                guard case .integer(let number) = $0 else { mismatch(name) }
                $1[keyPath: path] = number
            })
    }

    static func boolean(
        _ name: String,
        _ path: any Path<Bool>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .boolean, reason: reason, special: nil, isOptional: false,
            derivedDefault: nil, read: { .boolean($0[keyPath: path]) },
            write: {
                guard case .boolean(let value) = $0 else { mismatch(name) }
                $1[keyPath: path] = value
            })
    }

    static func duration(
        _ name: String,
        _ path: any Path<Duration>,
        _ range: ClosedRange<Duration>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .duration(range), reason: reason, special: nil, isOptional: false,
            derivedDefault: nil, read: { .duration($0[keyPath: path]) },
            write: {
                guard case .duration(let duration) = $0 else { mismatch(name) }
                $1[keyPath: path] = duration
            })
    }

    static func list(
        _ name: String,
        _ path: any Path<[String]>,
        _ rule: TextRule,
        count: ClosedRange<Int>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .list(rule, count: count), reason: reason, special: nil,
            isOptional: false, derivedDefault: nil, read: { .list($0[keyPath: path]) },
            write: {
                guard case .list(let items) = $0 else { mismatch(name) }
                $1[keyPath: path] = items
            })
    }

    static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String,
        _ path: any Path<Choice>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .choice(Choice.allCases.map(\.rawValue)), reason: reason,
            special: nil, isOptional: false, derivedDefault: nil,
            read: { .text($0[keyPath: path].rawValue) },
            write: {
                guard case .text(let text) = $0, let choice = Choice(rawValue: text)
                else { mismatch(name) }
                $1[keyPath: path] = choice
            })
    }

    static func properties(
        _ name: String,
        _ path: any Path<[String: String]>,
        _ reason: String
    ) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .properties, reason: reason, special: nil, isOptional: false,
            derivedDefault: nil, read: { .properties($0[keyPath: path]) },
            write: {
                guard case .properties(let properties) = $0 else { mismatch(name) }
                $1[keyPath: path] = properties
            })
    }

    static func channels(_ name: String, _ reason: String) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .channels, reason: reason, special: nil, isOptional: false,
            derivedDefault: nil, read: { .channels($0.channels) },
            write: {
                guard case .channels(let channels) = $0 else { mismatch(name) }
                $1.channels = channels
            })
    }

    static func patterns(_ name: String, _ reason: String) -> ConfigurationKey {
        ConfigurationKey(
            name: name, kind: .patterns, reason: reason, special: nil, isOptional: false,
            derivedDefault: nil, read: { .patterns($0.patterns) },
            write: {
                guard case .patterns(let patterns) = $0 else { mismatch(name) }
                $1.patterns = patterns
            })
    }
}
