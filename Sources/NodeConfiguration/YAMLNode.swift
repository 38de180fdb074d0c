// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A value of a YAML document, with aliases expanded.
struct YAMLNode: Sendable {
    /// From 1.
    struct Mark: Sendable {
        let line: Int
        let column: Int
    }

    struct Entry: Sendable {
        let key: String
        let keyMark: Mark
        let value: YAMLNode
    }

    enum Content: Sendable {
        /// `isPlain` is false for a text in quotes or a block.
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        /// Keys are unique.
        case mapping([Entry])
    }

    let content: Content
    let mark: Mark
    /// Values and keys in it, itself included.
    let nodes: Int
    /// 1 for a scalar.
    let height: Int

    /// YAML 1.2's null of the core schema (section 10.3.2).
    var isNull: Bool {
        guard case .scalar(let text, true) = content else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// What it is, for people.
    var kind: String {
        switch content {
        case _ where isNull: "nothing"
        case .scalar: "a single value"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}

extension ConfigurationLocation {
    init(_ source: Source, at mark: YAMLNode.Mark) {
        self.init(source, line: mark.line, column: mark.column)
    }
}
