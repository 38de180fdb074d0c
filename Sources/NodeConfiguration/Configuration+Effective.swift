// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

extension Configuration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The settings as YAML that reads back as they are, each with where it was given. Secrets
    /// are masked, so what is printed here can be shown.
    package var effective: String {
        var lines: [String] = []
        var section = ""
        for key in Self.keyReference {
            let value = key.read(self)
            let origin = " # " + (origins[key.name].map(\.description) ?? "default")
            let parts = key.name.split(separator: ".")
            if parts.count > 1, section != parts[0] {
                section = String(parts[0])
                lines.append("\(section):")
            }
            let indent = parts.count > 1 ? "  " : ""
            let name = parts.last.map(String.init) ?? key.name
            switch value {
            case .channels(let channels) where !channels.isEmpty:
                lines.append("\(name):\(origin)")
                lines += SettingText.lines(channels)
            case .patterns(let patterns) where !patterns.isEmpty:
                lines.append("\(name):\(origin)")
                lines += SettingText.lines(patterns)
            default:
                let text = SettingText.inline(value, kind: key.kind) ?? "[]"
                lines.append("\(indent)\(name): \(text)\(origin)")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Where the value of the key `name` was given; `nil` where it has its default.
    package func origin(of name: String) -> ConfigurationLocation? { origins[name] }

    package var description: String { effective }
    package var debugDescription: String { effective }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
