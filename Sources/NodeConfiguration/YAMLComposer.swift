// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Builds the tree of a document from its events, within ``ConfigurationLimits``.
///
/// An alias shares the memory of what it repeats and is charged its full size and height, so a
/// document can neither grow without bound nor contain itself.
struct YAMLComposer: ~Copyable {
    private var events: YAMLEventReader
    private let source: ConfigurationLocation.Source
    private var anchors: [String: YAMLNode] = [:]
    private var nodesLeft = ConfigurationLimits.nodes
    /// Where the composer is: keys, and `[2]` for items.
    private var path: [String] = []
    private var errors = ErrorList()

    private init(
        _ events: consuming YAMLEventReader,
        _ source: ConfigurationLocation.Source,
        path: [String]
    ) {
        self.events = events
        self.source = source
        self.path = path
    }

    /// The root of the one document in `bytes`, or `nil` where there is none or an error.
    ///
    /// `key` is the one whose value the whole document is; none for a file.
    static func compose(
        _ bytes: [UInt8],
        from source: ConfigurationLocation.Source,
        key: String? = nil,
        errors: inout ErrorList
    ) -> YAMLNode? {
        guard bytes.count <= ConfigurationLimits.documentBytes else {
            errors.append(
                ConfigurationError(
                    .documentTooLarge, at: ConfigurationLocation(source), key: key ?? "",
                    given: "\(bytes.count) bytes", "the document is too large",
                    accepted: "at most \(ConfigurationLimits.documentBytes) bytes"))
            return nil
        }
        var found = ErrorList()
        let root = unsafe bytes.withUnsafeBufferPointer { buffer -> YAMLNode? in
            do throws(YAMLProblem) {
                let reader = unsafe try YAMLEventReader(buffer)
                var composer = YAMLComposer(reader, source, path: key.map { [$0] } ?? [])
                let root = composer.root()
                found = composer.errors
                return root
            } catch {
                found.append(Self.malformed(error, source, key: key ?? ""))
                return nil
            }
        }
        errors.append(contentsOf: found)
        return root
    }

    private mutating func root() -> YAMLNode? {
        do throws(ConfigurationError) { return try document() } catch {
            errors.append(error)
            return nil
        }
    }

    private mutating func document() throws(ConfigurationError) -> YAMLNode? {
        guard case .streamStart = try next().event, case .documentStart = try next().event else {
            return nil  // Nothing but comments.
        }
        let (event, mark) = try next()
        let root = try node(event, mark, depth: 1)
        _ = try next()
        let (end, endMark) = try next()
        guard case .streamEnd = end else {
            throw error(.yamlUnsupported, endMark, "a second document; a configuration is one")
        }
        return root
    }

    private mutating func node(_ event: YAMLEvent, _ mark: YAMLNode.Mark, depth: Int)
        throws(ConfigurationError) -> YAMLNode
    {
        guard depth <= ConfigurationLimits.depth else {
            throw error(
                .nestedTooDeep, mark, "nested too deep",
                accepted: "at most \(ConfigurationLimits.depth) levels")
        }
        switch event {
        case .alias(let name): return try repeated(name, mark, depth: depth)
        case .scalar(let text, let isPlain, let anchor, let tag):
            try refuse(tag: tag, mark)
            try take(1, mark)
            return remembered(
                YAMLNode(content: .scalar(text, isPlain: isPlain), mark: mark, nodes: 1, height: 1),
                as: anchor)
        case .sequenceStart(let anchor, let tag):
            try refuse(tag: tag, mark)
            try take(1, mark)
            return remembered(try sequence(mark, depth: depth), as: anchor)
        case .mappingStart(let anchor, let tag):
            try refuse(tag: tag, mark)
            try take(1, mark)
            return remembered(try mapping(mark, depth: depth), as: anchor)
        default: throw error(.yamlMalformed, mark, "a value is missing here")
        }
    }

    private mutating func sequence(_ mark: YAMLNode.Mark, depth: Int)
        throws(ConfigurationError) -> YAMLNode
    {
        var items: [YAMLNode] = []
        var nodes = 1
        var height = 0
        while true {
            let (event, itemMark) = try next()
            if case .sequenceEnd = event { break }
            path.append("[\(items.count)]")
            let item = try node(event, itemMark, depth: depth + 1)
            path.removeLast()
            nodes += item.nodes
            height = max(height, item.height)
            items.append(item)
        }
        return YAMLNode(content: .sequence(items), mark: mark, nodes: nodes, height: height + 1)
    }

    private mutating func mapping(_ mark: YAMLNode.Mark, depth: Int)
        throws(ConfigurationError) -> YAMLNode
    {
        var entries: [YAMLNode.Entry] = []
        var firstLines: [String: Int] = [:]
        var nodes = 1
        var height = 0
        while true {
            let (event, keyMark) = try next()
            if case .mappingEnd = event { break }
            guard case .scalar(let key, _, let anchor, let tag) = event else {
                throw error(.yamlUnsupported, keyMark, "a key is not a plain name")
            }
            guard anchor == nil else {
                throw error(.yamlUnsupported, keyMark, "an anchor on a key")
            }
            try refuse(tag: tag, keyMark)
            try take(1, keyMark)
            path.append(key)
            let (valueEvent, valueMark) = try next()
            let value = try node(valueEvent, valueMark, depth: depth + 1)
            nodes += value.nodes + 1
            height = max(height, value.height)
            if let line = firstLines[key] {
                refuseRepeated(keyMark, first: line)
            } else {
                firstLines[key] = keyMark.line
                entries.append(.init(key: key, keyMark: keyMark, value: value))
            }
            path.removeLast()
        }
        return YAMLNode(content: .mapping(entries), mark: mark, nodes: nodes, height: height + 1)
    }

    private mutating func repeated(_ name: String, _ mark: YAMLNode.Mark, depth: Int)
        throws(ConfigurationError) -> YAMLNode
    {
        // An anchor counts from the end of its value on, so no value can contain itself.
        guard let node = anchors[name] else {
            throw error(
                .yamlMalformed, mark,
                "an alias without an anchor before it; a text that begins with * needs quotes")
        }
        guard depth + node.height - 1 <= ConfigurationLimits.depth else {
            throw error(
                .nestedTooDeep, mark, "nested too deep",
                accepted: "at most \(ConfigurationLimits.depth) levels")
        }
        try take(node.nodes, mark)
        return node
    }

    private mutating func remembered(_ node: YAMLNode, as anchor: String?) -> YAMLNode {
        if let anchor { anchors[anchor] = node }
        return node
    }

    private mutating func take(_ nodes: Int, _ mark: YAMLNode.Mark) throws(ConfigurationError) {
        guard nodes <= nodesLeft else {
            throw error(
                .documentTooLarge, mark, "too many values",
                accepted: "at most \(ConfigurationLimits.nodes), each repeated alias counted")
        }
        nodesLeft -= nodes
    }

    /// Types come from the key, so a tag could only contradict; and `!!python/object` is no friend.
    private func refuse(tag: String?, _ mark: YAMLNode.Mark) throws(ConfigurationError) {
        guard tag != nil else { return }
        throw error(
            .yamlUnsupported, mark, "a tag has no use here; a text that begins with ! needs quotes")
    }

    private mutating func next() throws(ConfigurationError) -> (
        event: YAMLEvent, mark: YAMLNode.Mark
    ) {
        do throws(YAMLProblem) { return try events.next() } catch {
            throw Self.malformed(error, source, key: KeyPathText.joined(path))
        }
    }

    private mutating func refuseRepeated(_ mark: YAMLNode.Mark, first line: Int) {
        guard !errors.isFull else { return errors.omit() }
        errors.append(error(.duplicateKey, mark, "given again; the first is in line \(line)"))
    }

    private func error(
        _ code: ConfigurationError.Code,
        _ mark: YAMLNode.Mark,
        _ detail: String,
        accepted: String? = nil
    ) -> ConfigurationError {
        ConfigurationError(
            code, at: ConfigurationLocation(source, at: mark), key: KeyPathText.joined(path),
            detail, accepted: accepted)
    }

    private static func malformed(
        _ problem: YAMLProblem,
        _ source: ConfigurationLocation.Source,
        key: String
    ) -> ConfigurationError {
        ConfigurationError(
            .yamlMalformed, at: ConfigurationLocation(source, at: problem.mark), key: key,
            "not YAML: \(problem.text)")
    }
}

/// Writes the way to a value: `channels[2].topics[0]`.
enum KeyPathText {
    /// Up to the first name that is unknown or a secret's. What is below may be a password that
    /// begins with a brace.
    static func joined(_ parts: [String]) -> String {
        var text = ""
        for part in parts {
            let isItem = part.hasPrefix("[")
            if !text.isEmpty, !isItem { text += "." }
            text += isItem ? part : Excerpt.name(part)
            if !isItem, !vocabulary.contains(part) || KafkaProperties.isSecret(part) { break }
        }
        return text
    }

    private static let vocabulary: Set<String> = {
        let keys = Configuration.keyReference.flatMap {
            $0.name.split(separator: ".").map(String.init)
        }
        let items =
            ItemKeys.channel + ItemKeys.pattern + ItemKeys.event + ItemKeys.filter
            + ItemKeys.slow + ItemKeys.retention + ItemKeys.onLimit
        return Set(keys + items.map(\.name))
    }()
}
