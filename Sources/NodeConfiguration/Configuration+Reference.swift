// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// The keys for `--help`, one flag with its meaning after the other.
    package static let help: String = {
        var lines = [
            "Settings, strongest first: flag, environment variable, file, default.",
            "  --\(SettingsGatherer.fileFlag)=<path>   the file (or RIVULET_CONFIG)",
        ]
        for key in keyReference {
            lines.append("")
            lines.append("  \(key.flag)=<\(key.kind.typeName)>   \(key.environmentVariable)")
            lines.append("      \(key.reason)")
            lines.append("      Accepted: \(key.acceptedText).")
            let fallback = key.defaultText ?? "see the reference page"
            lines.append("      Default: \(fallback)")
            if let fileName = key.fileName {
                lines.append(
                    "      Or --\(fileName)=<path>   \(ConfigurationKey.variable(of: fileName))")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }()

    /// The page `docs/reference/configuration.md`, whole.
    package static let referencePage: String = {
        var lines = introduction
        var section: Substring = ""
        for key in keyReference {
            let parts = key.name.split(separator: ".")
            if parts.count > 1, parts[0] != section {
                section = parts[0]
                lines += ["", "## \(section)", ""] + tableHead
            } else if parts.count == 1, !section.isEmpty {
                section = ""
                lines += ["", "## channels and patterns", ""] + tableHead
            }
            lines.append(row(of: key))
        }
        lines += itemTables + defaults
        return lines.joined(separator: "\n") + "\n"
    }()

    private static let tableHead = [
        "| key | type | accepted | default | variable | what it is for |",
        "|---|---|---|---|---|---|",
    ]

    private static func row(of key: ConfigurationKey) -> String {
        let fallback = key.defaultText.map { "`\($0)`" } ?? "[below](#default-channels)"
        var name = "`\(key.name)`"
        var variable = "`\(key.environmentVariable)`"
        if let fileName = key.fileName {
            name += ", `\(fileName)`"
            variable += ", `\(ConfigurationKey.variable(of: fileName))`"
        }
        let cells = [
            name, key.kind.typeName, cell(key.acceptedText), cell(fallback), variable, key.reason,
        ]
        return "| \(cells.joined(separator: " | ")) |"
    }

    /// A star or a bar would be Markdown.
    private static func cell(_ text: String) -> String {
        text.map { $0 == "|" || $0 == "*" ? "\\\($0)" : String($0) }.joined()
    }

    private static var introduction: [String] {
        let document = ByteSize.text(ConfigurationLimits.documentBytes)
        let owned = KafkaProperties.ownedNames.map { "`\($0)`" }.joined(separator: ", ")
        let text = """
            <!-- Generated from Sources/NodeConfiguration/ConfigurationKey+Table.swift.
                 UPDATE_REFERENCE=1 swift test --filter NodeConfigurationTests writes it anew. -->

            # Configuration

            A node reads one YAML file, named by the flag `--\(SettingsGatherer.fileFlag)` or the \
            variable `RIVULET_CONFIG`; without one it runs on
            defaults. Each key can be overridden by its variable and by its flag: `server.loops` is
            `RIVULET_SERVER_LOOPS` and `--server.loops=4` or `--server.loops 4`.
            **A flag beats a variable, a variable beats the file, the file beats the default.**

            - A value that replaces another replaces it whole: lists and mappings are not merged.
            - In a variable or a flag a list is `a,b`, `kafka.properties` is \
            `name=value,name=value`, and `channels` and `patterns`
              are YAML.
            - Where the default is `null`, no value is written as `null` in the file and as an \
            empty text in a variable or a flag.
            - A secret is printed as `\(Secret.mask)` everywhere. Its key with `_file` reads it \
            from a file, without the newline at the end;
              so do the secret ones among `kafka.properties`, such as `sasl.password_file`. \
            Others on the machine can see flags, so
              prefer files.
            - Unknown keys, flags and variables that begin with `RIVULET_` are refused. Their value \
            is not shown: it may be a
              misspelt password. Allowed beside the keys are \(allowedVariables) and what \
            Kubernetes sets for services
              (`…_SERVICE_HOST`, `…_SERVICE_PORT…`, `…_PORT=tcp://…`, `…_PORT_<n>_TCP…`).
            - All errors are reported together, also in values that a stronger one replaces.

            A file has at most \(document), \(ConfigurationLimits.depth) levels and \
            \(ConfigurationLimits.nodes) values, where each use of an alias counts in full.
            Tags, merge keys and second documents are refused. What is in effect is printed in the \
            same form, with where each value
            came from.

            Refused among `kafka.properties`, because Rivulet sets them itself: \(owned).
            """
        return [text]
    }

    private static var allowedVariables: String {
        SettingsGatherer.allowedVariables.map { "`\($0)`" }.joined(separator: ", ")
    }

    private static var itemTables: [String] {
        let operations = """

            `one_of`: the field, or an element of it where it is an array, equals one of the \
            comma-separated values. `at_least`: the
            number, or the largest of an array of numbers, is at least the given one. `at_most`: \
            the number, or the smallest of an
            array of numbers, is at most the given one.
            """
        return itemTable("A channel", ItemKeys.channel)
            + itemTable("A pattern", ItemKeys.pattern)
            + itemTable("`event` as a mapping", ItemKeys.event)
            + itemTable("A filter", ItemKeys.filter) + [operations]
            + itemTable("`slow` as a mapping", ItemKeys.slow)
            + itemTable("`retention` as a mapping", ItemKeys.retention)
            + itemTable("`on_limit` as a mapping", ItemKeys.onLimit)
    }

    private static func itemTable(_ title: String, _ keys: [ItemKey]) -> [String] {
        var lines = [
            "", "### \(title)", "", "| key | accepted | default | what it is for |",
            "|---|---|---|---|",
        ]
        for key in keys {
            let fallback = key.defaultText.map { "`\($0)`" } ?? "must be given"
            lines.append(
                "| `\(key.name)` | \(cell(key.accepted)) | \(fallback) | \(key.reason) |")
        }
        return lines
    }

    private static var defaults: [String] {
        [
            "", "## Default channels", "",
            "`channels` and `patterns` are two keys, each with its own default: a file with only"
                + " `channels` keeps the default pattern.",
            "", "```yaml",
        ] + [String(DefaultChannels.document.dropLast())] + ["```"]
    }
}

extension ConfigurationKey {
    /// What is accepted, with what is special about the smallest value.
    package var acceptedText: String {
        special.map { "\(kind.accepted); \($0)" } ?? kind.accepted
    }
}
