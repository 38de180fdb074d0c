// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A value that somebody gave for a key, before it is read.
struct GivenValue {
    enum Form {
        case node(YAMLNode)
        /// From a variable or a flag.
        case text(String)
    }

    let form: Form
    let location: ConfigurationLocation
    /// True for `<key>_file`: the value is the path of a file that holds the secret.
    var isFile = false
}

/// Which names exist, for finding and for suggesting.
struct KeyNames {
    /// The row of each name, `<key>_file` included.
    private let rows: [String: (row: Int, isFile: Bool)]
    private let names: [String]
    private let variables: [String: String]
    let sections: [String]

    init(_ keys: [ConfigurationKey]) {
        var rows: [String: (row: Int, isFile: Bool)] = [:]
        var names: [String] = []
        var sections: [String] = []
        for (row, key) in keys.enumerated() {
            rows[key.name] = (row, false)
            names.append(key.name)
            if let fileName = key.fileName {
                rows[fileName] = (row, true)
                names.append(fileName)
            }
            let parts = key.name.split(separator: ".")
            if parts.count > 1, sections.last != String(parts[0]) {
                sections.append(String(parts[0]))
            }
        }
        self.rows = rows
        self.names = names
        self.sections = sections
        variables = Dictionary(
            uniqueKeysWithValues: names.map { (ConfigurationKey.variable(of: $0), $0) })
    }

    func row(of name: String) -> (row: Int, isFile: Bool)? { rows[name] }

    func name(ofVariable variable: String) -> String? { variables[variable] }

    /// The name that was probably meant by `name`, a full one or the last part of one.
    func nearest(to name: String) -> String? {
        if let near = Spelling.nearest(to: name, among: names) { return near }
        let last = name.split(separator: ".").last.map(String.init) ?? name
        return names.first { $0.hasSuffix("." + last) }
    }

    func nearestSection(to name: String) -> String? {
        Spelling.nearest(to: name, among: sections + ["channels", "patterns"])
    }

    func nearestVariable(to variable: String) -> String? {
        let rest = variable.dropFirst(ConfigurationKey.variablePrefix.count)
        return nearest(to: String(rest)).map(ConfigurationKey.variable)
    }
}
