// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Where a setting was given.
package struct ConfigurationLocation: Sendable, Hashable, CustomStringConvertible {
    /// What was read, from the weakest to the strongest.
    package enum Source: Sendable, Hashable {
        case builtIn
        case file(path: String)
        case environment(variable: String)
        case flag(name: String)
        /// The argument list itself, where an argument is no flag; counted from 1.
        case argument(position: Int)
    }

    package let source: Source
    /// From 1, or `nil` where there are no lines.
    package let line: Int?
    /// From 1, in Unicode scalars.
    package let column: Int?

    package init(_ source: Source, line: Int? = nil, column: Int? = nil) {
        self.source = source
        self.line = line
        self.column = column
    }

    package var description: String {
        let place =
            switch source {
            case .builtIn: "built-in default"
            case .file(let path): Excerpt.path(path)
            case .environment(let variable): "environment \(Excerpt.name(variable))"
            case .flag(let name): "flag --\(Excerpt.name(name))"
            case .argument(let position): "argument \(position)"
            }
        guard let line, let column else { return place }
        return "\(place):\(line):\(column)"
    }
}

/// One thing that is wrong with a configuration.
package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case fileUnreadable
        case documentTooLarge
        case yamlMalformed
        /// Legal YAML that a configuration has no use for, such as a tag.
        case yamlUnsupported
        case nestedTooDeep
        case duplicateKey
        case unknownKey
        case unknownVariable
        case unknownFlag
        /// A flag without a value, or an argument that is no flag.
        case argumentMalformed
        case missingKey
        case wrongType
        case outOfRange
        /// The right type, but not a legal value.
        case refused
        /// Legal by itself, but not beside another setting.
        case conflict
    }

    package let code: Code
    package let location: ConfigurationLocation
    /// `server.loops`, `channels[2].topics[0]`; empty where the error is about the whole source.
    package let key: String
    /// An excerpt of the value, escaped; `nil` where there is none. Never a secret.
    package let given: String?
    package let detail: String
    package let accepted: String?
    /// What was probably meant.
    package let suggestion: String?

    init(
        _ code: Code,
        at location: ConfigurationLocation,
        key: String,
        given: String? = nil,
        _ detail: String,
        accepted: String? = nil,
        suggestion: String? = nil
    ) {
        self.code = code
        self.location = location
        self.key = key
        self.given = given
        self.detail = detail
        self.accepted = accepted
        self.suggestion = suggestion
    }

    package var description: String {
        var text = "\(location): "
        if !key.isEmpty { text += "\(key): " }
        if let given { text += "\(given): " }
        text += detail
        if let accepted { text += "; accepted: \(accepted)" }
        if let suggestion { text += "; did you mean \(suggestion)?" }
        return text
    }
}

/// All that is wrong with a configuration, so that it can be put right in one go.
package struct ConfigurationErrors: Error, Sendable, Equatable, CustomStringConvertible {
    /// By place: the file from top to bottom, the environment by name, the flags in their order,
    /// then what does not go together. At least one, at most ``ConfigurationLimits/errors``.
    package let errors: [ConfigurationError]
    /// How many more there are.
    package let omitted: Int

    package var description: String {
        let lines = errors.map(\.description).joined(separator: "\n")
        return omitted == 0 ? lines : "\(lines)\nand \(omitted) more"
    }
}

/// Collects errors up to a bound.
struct ErrorList {
    private(set) var errors: [ConfigurationError] = []
    private(set) var omitted = 0

    var isEmpty: Bool { errors.isEmpty }
    var count: Int { errors.count + omitted }

    /// True where one more is only counted, so that it need not be worked out: a hostile
    /// document causes very many.
    var isFull: Bool { errors.count == ConfigurationLimits.errors }

    /// Counts an error that is not worked out.
    mutating func omit() { omitted += 1 }

    mutating func append(_ error: ConfigurationError) {
        guard !isFull else { return omit() }
        errors.append(error)
    }

    mutating func append(contentsOf list: ErrorList) {
        for error in list.errors { append(error) }
        omitted += list.omitted
    }

    mutating func append(_ code: ConfigurationError.Code, _ spot: Spot, _ refusal: Refusal) {
        append(
            ConfigurationError(
                code, at: spot.location, key: spot.key, given: refusal.given, refusal.detail,
                accepted: refusal.accepted, suggestion: refusal.suggestion))
    }
}

/// A key and where its value stands.
struct Spot {
    let key: String
    let location: ConfigurationLocation
}

/// Why a value is not taken, without its place.
struct Refusal: Error {
    var code: ConfigurationError.Code = .refused
    var given: String?
    let detail: String
    var accepted: String?
    var suggestion: String?
}
