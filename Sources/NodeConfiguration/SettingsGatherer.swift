// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Finds the settings in a file, the environment and the arguments, and refuses what is none.
///
/// A value that stands under an unknown name is never shown: it may be a misspelt password.
struct SettingsGatherer {
    /// Variables that are no keys and yet may be set.
    static let allowedVariables = ["RIVULET_CONFIG"]
    /// The flag that names the file.
    static let fileFlag = "config"

    private let names: KeyNames
    /// The values given for each row of the table, from the weakest source to the strongest.
    private(set) var given: [[GivenValue]]
    private(set) var fileFromFlag: String?
    private(set) var errors = ErrorList()

    init(_ keys: [ConfigurationKey]) {
        names = KeyNames(keys)
        given = Array(repeating: [], count: keys.count)
    }

    private mutating func take(_ value: GivenValue.Form, _ name: String, _ spot: Spot) -> Bool {
        guard let (row, isFile) = names.row(of: name) else { return false }
        // Of a secret and its file at most one can be given in one place.
        if let rival = given[row].last, rival.location.source.rank == spot.location.source.rank {
            errors.append(
                .conflict, spot,
                Refusal(
                    detail: "the secret is given here and at \(rival.location)",
                    accepted: "one of the two"))
        }
        given[row].append(GivenValue(form: value, location: spot.location, isFile: isFile))
        return true
    }
}

extension ConfigurationLocation.Source {
    /// A larger one wins.
    var rank: Int {
        switch self {
        case .builtIn: 0
        case .file: 1
        case .environment: 2
        case .flag, .argument: 3
        }
    }
}

// MARK: - The file

extension SettingsGatherer {
    mutating func gather(file path: String) {
        let source = ConfigurationLocation.Source.file(path: path)
        do throws(FileBytes.Refusal) {
            let bytes = try FileBytes.read(path, limit: ConfigurationLimits.documentBytes)
            gather(document: bytes, from: source)
        } catch {
            errors.append(
                ConfigurationError(
                    error.isTooLarge ? .documentTooLarge : .fileUnreadable,
                    at: ConfigurationLocation(source), key: "",
                    "the configuration file cannot be read: \(error.reason)"))
        }
    }

    mutating func gather(document bytes: [UInt8], from source: ConfigurationLocation.Source) {
        guard let root = YAMLComposer.compose(bytes, from: source, errors: &errors), !root.isNull
        else { return }
        let place = { (mark: YAMLNode.Mark) in
            ConfigurationLocation(source, at: mark)
        }
        guard case .mapping(let entries) = root.content else {
            errors.append(
                .wrongType, Spot(key: "", location: place(root.mark)),
                Refusal(
                    given: root.kind, detail: "is no configuration",
                    accepted: "a mapping of \(names.sections.joined(separator: ", ")), channels "
                        + "and patterns"))
            return
        }
        for entry in entries {
            if names.sections.contains(entry.key) {
                gather(section: entry, place)
            } else {
                let location = place(entry.value.mark)
                let spot = Spot(key: entry.key, location: location)
                // A name with a dot is no nesting in YAML.
                if entry.key.contains(".") || !take(.node(entry.value), entry.key, spot) {
                    refuse(key: entry.key, inSection: nil, place(entry.keyMark))
                }
            }
        }
    }

    private mutating func gather(
        section: YAMLNode.Entry,
        _ place: (YAMLNode.Mark) -> ConfigurationLocation
    ) {
        // A section of which every line is a comment.
        if section.value.isNull { return }
        guard case .mapping(let entries) = section.value.content else {
            errors.append(
                .wrongType, Spot(key: section.key, location: place(section.value.mark)),
                Refusal(
                    given: section.value.kind, detail: "is no section",
                    accepted: "a mapping of the section's keys"))
            return
        }
        for entry in entries {
            let name = "\(section.key).\(entry.key)"
            let spot = Spot(key: name, location: place(entry.value.mark))
            if !take(.node(entry.value), name, spot) {
                refuse(key: entry.key, inSection: section.key, place(entry.keyMark))
            }
        }
    }

    private mutating func refuse(
        key: String,
        inSection section: String?,
        _ location: ConfigurationLocation
    ) {
        guard !errors.isFull else { return errors.omit() }
        let name = section.map { "\($0).\(key)" } ?? key
        var refusal = Refusal(detail: "there is no such key")
        if key == "<<" {
            refusal = Refusal(detail: "merge keys have no use here")
        } else if section == nil, names.row(of: key) != nil {
            refusal = Refusal(
                detail: "a dot does not nest in YAML",
                accepted: "the section, and its key indented below it")
        } else if section == nil {
            refusal.suggestion = names.nearestSection(to: key) ?? names.nearest(to: key)
        } else {
            refusal.suggestion = names.nearest(to: name)
        }
        errors.append(
            .unknownKey, Spot(key: Excerpt.name(name), location: location), refusal)
    }
}

// MARK: - The environment

extension SettingsGatherer {
    mutating func gather(environment: [String: String]) {
        let ours = environment.filter { $0.key.hasPrefix(ConfigurationKey.variablePrefix) }
        for (variable, value) in ours.sorted(by: { $0.key < $1.key }) {
            if Self.allowedVariables.contains(variable) { continue }
            if Self.isServiceLink(variable, value) { continue }
            let location = ConfigurationLocation(.environment(variable: variable))
            guard let name = names.name(ofVariable: variable) else {
                errors.append(
                    .unknownVariable, Spot(key: "", location: location),
                    Refusal(
                        detail: "no key has this variable",
                        suggestion: names.nearestVariable(to: variable)))
                continue
            }
            _ = take(.text(value), name, Spot(key: name, location: location))
        }
    }

    /// True for what Kubernetes sets in each container for a service whose name begins with
    /// `rivulet` ("Accessing the Service", environment variables): `RIVULET_SERVICE_HOST`,
    /// `RIVULET_PORT=tcp://…`, `RIVULET_PORT_8080_TCP_ADDR` and so on.
    static func isServiceLink(_ variable: String, _ value: String) -> Bool {
        if variable.hasSuffix("_SERVICE_HOST") || variable.hasSuffix("_SERVICE_PORT")
            || variable.contains("_SERVICE_PORT_")
        {
            return true
        }
        let schemes = ["tcp://", "udp://", "sctp://"]
        // `RIVULET_SERVER_PORT=9000` is no link but a mistake, hence the look at the value.
        if variable.hasSuffix("_PORT"), schemes.contains(where: value.hasPrefix) { return true }
        let parts = variable.split(separator: "_", omittingEmptySubsequences: false)
        let protocols: [Substring] = ["TCP", "UDP", "SCTP"]
        return parts.indices.contains { index in
            index >= 2 && protocols.contains(parts[index]) && parts[index - 2] == "PORT"
                && !parts[index - 1].isEmpty && parts[index - 1].utf8.allSatisfy(\.isASCIIDigit)
        }
    }
}

// MARK: - The arguments

extension SettingsGatherer {
    mutating func gather(arguments: [String]) {
        var seen: Set<String> = []
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            let position = index + 1
            index += 1
            guard argument.hasPrefix("--"), argument.utf8.count > 2 else {
                // Not shown: it may be the second half of a password with a space in it.
                errors.append(
                    .argumentMalformed,
                    Spot(key: "", location: ConfigurationLocation(.argument(position: position))),
                    Refusal(
                        detail: "is no flag", accepted: "--section.key=value",
                        suggestion: suggestion(forStray: argument)))
                continue
            }
            let parts = argument.dropFirst(2).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            let spot = Spot(key: name, location: ConfigurationLocation(.flag(name: name)))
            var value = parts.count == 2 ? String(parts[1]) : nil
            if value == nil, index < arguments.count, !arguments[index].hasPrefix("--") {
                value = arguments[index]
                index += 1
            }
            take(flag: name, value, spot, isFirst: seen.insert(name).inserted)
        }
    }

    private mutating func take(flag name: String, _ value: String?, _ spot: Spot, isFirst: Bool) {
        guard name == Self.fileFlag || names.row(of: name) != nil else {
            errors.append(
                .unknownFlag, Spot(key: "", location: spot.location),
                Refusal(
                    detail: "there is no such flag",
                    suggestion: names.nearest(to: name).map { "--\($0)" }))
            return
        }
        guard let value else {
            errors.append(
                .argumentMalformed, spot,
                Refusal(detail: "has no value", accepted: "--\(name)=value"))
            return
        }
        guard isFirst else {
            errors.append(.duplicateKey, spot, Refusal(detail: "given again"))
            return
        }
        if name == Self.fileFlag {
            fileFromFlag = value
        } else {
            _ = take(.text(value), name, spot)
        }
    }

    /// The flag that a stray argument lacks the dashes of.
    private func suggestion(forStray argument: String) -> String? {
        let name = argument.drop { $0 == "-" }.prefix { $0 != "=" }
        return names.row(of: String(name)) == nil ? nil : "--\(name)"
    }
}
