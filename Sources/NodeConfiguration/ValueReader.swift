// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Reads the value of one key, whatever its shape, and notes where its parts stand.
struct ValueReader {
    let key: ConfigurationKey
    let given: GivenValue
    /// False for a value that a stronger source replaces: its files need not exist.
    let readsFiles: Bool
    /// Where parts stand that are checked against other settings: `channels[2].topics[0]`.
    private(set) var places: [String: ConfigurationLocation] = [:]
    private(set) var errors = ErrorList()

    init(_ key: ConfigurationKey, _ given: GivenValue, readsFiles: Bool) {
        self.key = key
        self.given = given
        self.readsFiles = readsFiles
    }

    private var spot: Spot { Spot(key: key.name, location: given.location) }

    /// The value, or `nil` where there are ``errors``.
    mutating func read() -> SettingValue? {
        let value =
            switch key.kind {
            case .list(let rule, let count): list(rule, count)
            case .properties: properties()
            case .channels, .patterns: mappings()
            case .secret where given.isFile: secretFromFile()
            default: single()
            }
        return errors.isEmpty ? value : nil
    }

    private mutating func refuse(_ kind: String) {
        errors.append(
            .wrongType, spot,
            Refusal(
                given: kind, detail: "is no \(key.kind.typeName)", accepted: key.kind.accepted))
    }

    // MARK: Single values

    private mutating func single() -> SettingValue? {
        let text: String
        var isQuoted = false
        switch given.form {
        case .text(let whole):
            if whole.isEmpty && key.isOptional { return SettingValue.none }
            text = whole
        case .node(let node):
            if node.isNull && key.isOptional { return SettingValue.none }
            guard !node.isNull, case .scalar(let scalar, let isPlain) = node.content else {
                refuse(node.kind)
                return nil
            }
            text = scalar
            isQuoted = !isPlain
        }
        do throws(Refusal) { return try key.kind.scalar(text, isQuoted: isQuoted) } catch {
            errors.append(error.code, spot, error)
            return nil
        }
    }

    // MARK: Secrets in files

    private mutating func secretFromFile() -> SettingValue? {
        let path: String
        switch given.form {
        case .text(let text): path = text
        case .node(let node):
            guard !node.isNull, case .scalar(let text, _) = node.content else {
                errors.append(
                    .wrongType, fileSpot(key.name),
                    Refusal(given: node.kind, detail: "is no path", accepted: "a file's path"))
                return nil
            }
            path = text
        }
        guard let text = secretText(path, fileSpot(key.name)) else { return nil }
        do throws(Refusal) { return try key.kind.scalar(text, isQuoted: true) } catch {
            errors.append(error.code, fileSpot(key.name), error)
            return nil
        }
    }

    private func fileSpot(_ name: String) -> Spot {
        Spot(key: name + ConfigurationKey.fileSuffix, location: given.location)
    }

    /// The file's text. The path is not shown: it may be a secret in the wrong place.
    private mutating func secretText(_ path: String, _ spot: Spot) -> String? {
        guard readsFiles else { return Secret.mask }
        do throws(FileBytes.Refusal) { return try FileBytes.secret(path) } catch {
            errors.append(
                .fileUnreadable, spot,
                Refusal(
                    given: Secret.mask,
                    detail: "the file that should hold the secret: \(error.reason)",
                    accepted: "the path of a readable file"))
            return nil
        }
    }

    // MARK: Lists

    private mutating func list(_ rule: TextRule, _ count: ClosedRange<Int>) -> SettingValue? {
        var items: [(text: String, spot: Spot)] = []
        switch given.form {
        case .text(let text): items = Self.split(text).map { ($0, spot) }
        case .node(let node):
            guard case .sequence(let nodes) = node.content else {
                refuse(node.kind)
                return nil
            }
            for (index, item) in nodes.enumerated() {
                let spot = self.spot(of: "\(key.name)[\(index)]", item.mark)
                guard !item.isNull, case .scalar(let text, _) = item.content else {
                    errors.append(
                        .wrongType, spot,
                        Refusal(given: item.kind, detail: "is no text", accepted: rule.accepted))
                    continue
                }
                items.append((text, spot))
            }
        }
        guard count.contains(items.count) || !errors.isEmpty else {
            errors.append(
                .outOfRange, spot,
                Refusal(
                    given: "\(items.count) items", detail: "is out of range",
                    accepted: key.kind.accepted))
            return nil
        }
        var seen: Set<String> = []
        for (text, spot) in items {
            if let reason = rule.refuse(text)
                ?? (seen.insert(text).inserted ? nil : "is in the list twice")
            {
                errors.append(
                    .refused, spot,
                    Refusal(
                        given: Excerpt.quoted(text), detail: reason, accepted: rule.accepted))
            }
        }
        return .list(items.map(\.text))
    }

    /// `a, b` as a variable or a flag gives a list.
    private static func split(_ text: String) -> [String] {
        guard !text.isEmpty else { return [] }
        return text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            let start = part.drop { $0 == " " }
            return String(start.reversed().drop { $0 == " " }.reversed())
        }
    }

    private func spot(of name: String, _ mark: YAMLNode.Mark) -> Spot {
        Spot(
            key: name,
            location: ConfigurationLocation(given.location.source, at: mark))
    }

    // MARK: Properties

    private mutating func properties() -> SettingValue? {
        var properties: [String: String] = [:]
        for (name, value, spot) in propertyPairs() {
            if let reason = TextRule.propertyName.refuse(name) {
                errors.append(
                    .refused, spot,
                    Refusal(detail: reason, accepted: TextRule.propertyName.accepted))
                continue
            }
            if let owner = KafkaProperties.owner(of: name) {
                errors.append(.refused, spot, Refusal(detail: owner))
                continue
            }
            let isFile = KafkaProperties.isSecretFile(name)
            let property =
                isFile ? String(name.dropLast(ConfigurationKey.fileSuffix.count)) : name
            guard let text = isFile ? secretText(value, spot) : value else { continue }
            let isShown = !KafkaProperties.isSecret(property)
            let sizes = 0...ConfigurationLimits.secretFileBytes
            // A key in PEM has lines.
            let reason =
                TextRule.refuseSize(text, sizes)
                ?? (isShown ? TextRule.refuseUnprintable(text) : nil)
                ?? (text.utf8.contains(0) ? "holds a zero" : nil)
            if let reason {
                errors.append(
                    .refused, spot,
                    Refusal(
                        given: isShown ? Excerpt.quoted(text) : Secret.mask, detail: reason,
                        accepted: "printable text"))
            }
            guard properties.updateValue(text, forKey: property) == nil else {
                errors.append(.duplicateKey, spot, Refusal(detail: "given again"))
                continue
            }
        }
        if properties.count > ConfigurationLimits.properties {
            errors.append(
                .outOfRange, spot,
                Refusal(
                    given: "\(properties.count) properties", detail: "is out of range",
                    accepted: "at most \(ConfigurationLimits.properties)"))
        }
        return .properties(properties)
    }

    private mutating func propertyPairs() -> [(name: String, value: String, spot: Spot)] {
        var pairs: [(name: String, value: String, spot: Spot)] = []
        switch given.form {
        case .text(let text):
            for (index, part) in Self.split(text).enumerated() {
                let sides = part.split(
                    separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard sides.count == 2 else {
                    // Not shown: it may be the rest of a password with a comma in it.
                    errors.append(
                        .wrongType, spot,
                        Refusal(
                            given: "part \(index + 1)", detail: "has no equals sign",
                            accepted: "name=value,name=value; what holds a comma goes in the file"
                        ))
                    continue
                }
                let name = String(sides[0])
                pairs.append((name, String(sides[1]), propertySpot(name, given.location)))
            }
        case .node(let node):
            guard case .mapping(let entries) = node.content else {
                refuse(node.kind)
                return []
            }
            for entry in entries {
                let location = spot(of: "", entry.value.mark).location
                let spot = propertySpot(entry.key, location)
                guard !entry.value.isNull, case .scalar(let text, _) = entry.value.content else {
                    errors.append(
                        .wrongType, spot,
                        Refusal(
                            given: entry.value.kind, detail: "is no text",
                            accepted: "text, a number or a boolean"))
                    continue
                }
                pairs.append((entry.key, text, spot))
            }
        }
        return pairs
    }

    private func propertySpot(_ name: String, _ location: ConfigurationLocation) -> Spot {
        Spot(key: "\(key.name).\(Excerpt.name(name))", location: location)
    }

    // MARK: Channels and patterns

    private mutating func mappings() -> SettingValue? {
        let node: YAMLNode
        switch given.form {
        case .node(let given): node = given
        case .text(let text):
            guard
                let root = YAMLComposer.compose(
                    Array(text.utf8), from: given.location.source, key: key.name,
                    errors: &errors)
            else {
                if errors.isEmpty { refuse("nothing") }
                return nil
            }
            node = root
        }
        var reader = ChannelReader(source: given.location.source)
        let value: SettingValue
        if case .patterns = key.kind {
            value = .patterns(reader.patterns(node, key: key.name))
        } else {
            value = .channels(reader.channels(node, key: key.name))
        }
        places = reader.places
        errors.append(contentsOf: reader.errors)
        return value
    }
}
