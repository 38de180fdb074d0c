// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Reads the items of `channels` and `patterns`, all of them, whatever is wrong with some.
struct ChannelReader {
    private let source: ConfigurationLocation.Source
    private(set) var errors = ErrorList()
    /// Where topics and patterns stand, to be checked against other settings.
    private(set) var places: [String: ConfigurationLocation] = [:]

    init(source: ConfigurationLocation.Source) { self.source = source }

    mutating func channels(_ node: YAMLNode, key: String) -> [ChannelConfiguration] {
        var channels: [ChannelConfiguration] = []
        var lines: [String: Int] = [:]
        for (index, item) in items(node, key, atMost: ConfigurationLimits.channels).enumerated() {
            let itemKey = "\(key)[\(index)]"
            let parts = mapping(item, itemKey, ItemKeys.channel)
            let name = text(parts, "name", itemKey, .channelName) ?? ""
            if let first = lines[name], !name.isEmpty, let mark = parts["name"]?.mark {
                refuse(.conflict, "\(itemKey).name", mark, name, "is also in line \(first)")
            }
            lines[name] = lines[name] ?? parts["name"]?.mark.line
            channels.append(
                ChannelConfiguration(
                    name: name,
                    description: description(parts, itemKey),
                    topics: topics(parts["topics"], "\(itemKey).topics"),
                    event: event(parts["event"], "\(itemKey).event"),
                    filters: filters(parts["filters"], "\(itemKey).filters"),
                    slow: slow(parts["slow"], "\(itemKey).slow"),
                    retention: retention(parts["retention"], "\(itemKey).retention"),
                    onLimit: onLimit(parts["on_limit"], "\(itemKey).on_limit")))
        }
        return channels
    }

    mutating func patterns(_ node: YAMLNode, key: String) -> [PatternConfiguration] {
        var patterns: [PatternConfiguration] = []
        var lines: [String: Int] = [:]
        for (index, item) in items(node, key, atMost: ConfigurationLimits.patterns).enumerated() {
            let itemKey = "\(key)[\(index)]"
            let parts = mapping(item, itemKey, ItemKeys.pattern)
            let topics = text(parts, "topics", itemKey, .topicPattern) ?? ""
            if let mark = parts["topics"]?.mark {
                places["\(itemKey).topics"] = location(mark)
                if let first = lines[topics], !topics.isEmpty {
                    refuse(.conflict, "\(itemKey).topics", mark, topics, "is also in line \(first)")
                }
                lines[topics] = lines[topics] ?? mark.line
            }
            patterns.append(
                PatternConfiguration(
                    topics: topics,
                    description: description(parts, itemKey),
                    event: event(parts["event"], "\(itemKey).event"),
                    filters: filters(parts["filters"], "\(itemKey).filters")))
        }
        return patterns
    }

    // MARK: Parts

    private mutating func topics(_ node: YAMLNode?, _ key: String) -> [String] {
        guard let node else { return [] }
        let limit = ConfigurationLimits.topicsPerChannel
        return texts(node, key, .topic, atMost: limit) { $0.places[$1] = $0.location($2) }
    }

    private mutating func event(_ node: YAMLNode?, _ key: String) -> EventNameRule {
        guard let node else { return .fixed("message") }
        guard case .mapping = node.content else {
            return .fixed(text(node, key, .eventName) ?? "")
        }
        let parts = mapping(node, key, ItemKeys.event)
        let field = text(parts, "field", key, .fieldPath) ?? ""
        let fallback = parts["fallback"] == nil ? "message" : nil
        return .field(field, fallback: fallback ?? text(parts, "fallback", key, .eventName) ?? "")
    }

    private mutating func filters(_ node: YAMLNode?, _ key: String) -> [FilterConfiguration] {
        guard let node else { return [] }
        var filters: [FilterConfiguration] = []
        var lines: [String: Int] = [:]
        let limit = ConfigurationLimits.filtersPerChannel
        for (index, item) in items(node, key, atMost: limit).enumerated() {
            let itemKey = "\(key)[\(index)]"
            let parts = mapping(item, itemKey, ItemKeys.filter)
            let parameter = text(parts, "parameter", itemKey, .parameter) ?? ""
            if let mark = parts["parameter"]?.mark {
                if let first = lines[parameter], !parameter.isEmpty {
                    refuse(
                        .conflict, "\(itemKey).parameter", mark, parameter,
                        "is also in line \(first)")
                }
                lines[parameter] = lines[parameter] ?? mark.line
            }
            let fields = parts["fields"].map {
                texts(
                    $0, "\(itemKey).fields", .fieldPath,
                    atMost: ConfigurationLimits.fieldsPerFilter)
            }
            filters.append(
                FilterConfiguration(
                    parameter: parameter, fields: fields ?? [],
                    operation: operation(parts["operation"], "\(itemKey).operation"),
                    description: description(parts, itemKey)))
        }
        return filters
    }

    private mutating func slow(_ node: YAMLNode?, _ key: String) -> SlowConfiguration? {
        guard let node else { return nil }
        let parts = mapping(node, key, ItemKeys.slow)
        var slow = SlowConfiguration()
        if case .text(let text) = value(parts, "policy", key, ItemKeys.slowPolicy),
            let policy = LagPolicy(rawValue: text)
        {
            slow.policy = policy
        }
        if case .integer(let number) = value(parts, "events", key, ItemKeys.slowEvents) {
            slow.events = number
        }
        if case .integer(let number) = value(parts, "bytes", key, ItemKeys.slowBytes) {
            slow.bytes = number
        }
        return slow
    }

    private mutating func retention(_ node: YAMLNode?, _ key: String) -> RetentionConfiguration? {
        guard let node else { return nil }
        let parts = mapping(node, key, ItemKeys.retention)
        var retention = RetentionConfiguration()
        if case .duration(let time) = value(parts, "time", key, ItemKeys.retentionTime) {
            retention.time = time
        }
        if case .integer(let number) = value(parts, "bytes", key, ItemKeys.retentionBytes) {
            retention.bytes = number
        }
        if case .integer(let number) = value(parts, "events", key, ItemKeys.retentionEvents) {
            retention.events = number
        }
        return retention
    }

    private mutating func onLimit(_ node: YAMLNode?, _ key: String) -> OnLimitConfiguration? {
        guard let node else { return nil }
        let parts = mapping(node, key, ItemKeys.onLimit)
        var onLimit = OnLimitConfiguration()
        if case .text(let text) = value(parts, "policy", key, ItemKeys.onLimitPolicy),
            let policy = OnLimitPolicy(rawValue: text)
        {
            onLimit.policy = policy
        }
        onLimit.key = text(parts, "key", key, .fieldPath)
        if onLimit.policy == .conflate, parts["key"] == nil {
            errors.append(
                ConfigurationError(
                    .missingKey, at: location(node.mark), key: "\(key).key",
                    "must be given to conflate: it says which events replace each other",
                    accepted: TextRule.fieldPath.accepted))
        }
        return onLimit
    }

    /// A part that is a single value of some kind; `nil` where it is missing or refused.
    private mutating func value(
        _ parts: [String: YAMLNode], _ name: String, _ key: String, _ kind: ValueKind
    ) -> SettingValue? {
        guard let node = parts[name] else { return nil }
        let partKey = "\(key).\(name)"
        guard !node.isNull, case .scalar(let text, let isPlain) = node.content else {
            refuseShape(node, partKey, "is no single value", accepted: kind.accepted)
            return nil
        }
        do throws(Refusal) {
            return try kind.scalar(text, isQuoted: !isPlain)
        } catch {
            refuse(
                error.code, partKey, node.mark, text, error.detail, accepted: error.accepted,
                suggestion: error.suggestion)
            return nil
        }
    }

    private mutating func operation(_ node: YAMLNode?, _ key: String) -> FilterOperation {
        guard let node else { return .oneOf }
        let names = FilterOperation.allCases.map(\.rawValue)
        guard let text = scalar(node, key, accepted: names.joined(separator: ", ")) else {
            return .oneOf
        }
        if let operation = FilterOperation(rawValue: text) { return operation }
        refuse(
            .refused, key, node.mark, text, "is none of the choices",
            accepted: names.joined(separator: ", "),
            suggestion: Spelling.nearest(to: text, among: names))
        return .oneOf
    }

    private mutating func description(_ parts: [String: YAMLNode], _ key: String) -> String {
        guard parts["description"] != nil else { return "" }
        let rule = TextRule.printable(0...ConfigurationLimits.descriptionBytes)
        return text(parts, "description", key, rule) ?? ""
    }

    // MARK: Shapes

    private mutating func items(_ node: YAMLNode, _ key: String, atMost limit: Int) -> [YAMLNode] {
        guard case .sequence(let items) = node.content else {
            refuseShape(node, key, "is no list", accepted: "a list; [] for none")
            return []
        }
        guard items.count <= limit else {
            refuseCount(items.count, node, key, 0...limit)
            return []
        }
        return items
    }

    private mutating func mapping(_ node: YAMLNode, _ key: String, _ keys: [ItemKey])
        -> [String: YAMLNode]
    {
        let names = keys.map(\.name)
        guard case .mapping(let entries) = node.content else {
            refuseShape(
                node, key, "is no mapping",
                accepted: "a mapping of \(names.joined(separator: ", "))")
            return [:]
        }
        var parts: [String: YAMLNode] = [:]
        for entry in entries {
            guard names.contains(entry.key) else {
                refuse(unknown: entry, in: key, names)
                continue
            }
            parts[entry.key] = entry.value
        }
        for required in keys where required.defaultText == nil && parts[required.name] == nil {
            errors.append(
                ConfigurationError(
                    .missingKey, at: location(node.mark), key: "\(key).\(required.name)",
                    "must be given", accepted: required.accepted))
        }
        return parts
    }

    private mutating func texts(
        _ node: YAMLNode,
        _ key: String,
        _ rule: TextRule,
        atMost limit: Int,
        each note: (inout ChannelReader, String, YAMLNode.Mark) -> Void = { _, _, _ in }
    ) -> [String] {
        guard case .sequence(let nodes) = node.content else {
            refuseShape(node, key, "is no list", accepted: "a list, each \(rule.accepted)")
            return []
        }
        guard (1...limit).contains(nodes.count) else {
            refuseCount(nodes.count, node, key, 1...limit)
            return []
        }
        var texts: [String] = []
        for (index, item) in nodes.enumerated() {
            let itemKey = "\(key)[\(index)]"
            let text = self.text(item, itemKey, rule) ?? ""
            note(&self, itemKey, item.mark)
            if !text.isEmpty, texts.contains(text) {
                refuse(.conflict, itemKey, item.mark, text, "is in the list twice")
            }
            texts.append(text)
        }
        return texts
    }

    private mutating func text(
        _ parts: [String: YAMLNode], _ name: String, _ key: String, _ rule: TextRule
    ) -> String? {
        parts[name].flatMap { text($0, "\(key).\(name)", rule) }
    }

    private mutating func text(_ node: YAMLNode, _ key: String, _ rule: TextRule) -> String? {
        guard let text = scalar(node, key, accepted: rule.accepted) else { return nil }
        guard let reason = rule.refuse(text) else { return text }
        refuse(.refused, key, node.mark, text, reason, accepted: rule.accepted)
        return nil
    }

    private mutating func scalar(_ node: YAMLNode, _ key: String, accepted: String) -> String? {
        guard !node.isNull, case .scalar(let text, _) = node.content else {
            refuseShape(node, key, "is no text", accepted: accepted)
            return nil
        }
        return text
    }

    // MARK: Errors

    private mutating func refuse(unknown entry: YAMLNode.Entry, in key: String, _ names: [String]) {
        guard !errors.isFull else { return errors.omit() }
        errors.append(
            ConfigurationError(
                .unknownKey, at: location(entry.keyMark),
                key: "\(key).\(Excerpt.name(entry.key))",
                entry.key == "<<" ? "merge keys have no use here" : "there is no such key",
                accepted: names.joined(separator: ", "),
                suggestion: Spelling.nearest(to: entry.key, among: names)))
    }

    private func location(_ mark: YAMLNode.Mark) -> ConfigurationLocation {
        ConfigurationLocation(source, at: mark)
    }

    private mutating func refuse(
        _ code: ConfigurationError.Code,
        _ key: String,
        _ mark: YAMLNode.Mark,
        _ text: String,
        _ detail: String,
        accepted: String? = nil,
        suggestion: String? = nil
    ) {
        errors.append(
            ConfigurationError(
                code, at: location(mark), key: key, given: Excerpt.quoted(text), detail,
                accepted: accepted, suggestion: suggestion))
    }

    private mutating func refuseShape(
        _ node: YAMLNode, _ key: String, _ detail: String, accepted: String
    ) {
        errors.append(
            ConfigurationError(
                .wrongType, at: location(node.mark), key: key, given: node.kind, detail,
                accepted: accepted))
    }

    private mutating func refuseCount(
        _ count: Int, _ node: YAMLNode, _ key: String, _ range: ClosedRange<Int>
    ) {
        errors.append(
            ConfigurationError(
                .outOfRange, at: location(node.mark), key: key, given: "\(count) items",
                "is out of range",
                accepted: "a list of \(range.lowerBound) to \(range.upperBound)"))
    }
}
