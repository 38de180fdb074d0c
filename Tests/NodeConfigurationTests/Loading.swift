// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import NodeConfiguration

/// Loads a file's text as if it stood in `rivulet.yaml`.
func load(
    _ document: String,
    environment: [String: String] = [:],
    arguments: [String] = []
) throws(ConfigurationErrors) -> Configuration {
    try load(Array(document.utf8), environment: environment, arguments: arguments)
}

func load(
    _ document: [UInt8],
    environment: [String: String] = [:],
    arguments: [String] = []
) throws(ConfigurationErrors) -> Configuration {
    var gatherer = SettingsGatherer(Configuration.keyReference)
    gatherer.gather(document: document, from: .file(path: "rivulet.yaml"))
    gatherer.gather(environment: environment)
    gatherer.gather(arguments: arguments)
    var loader = ConfigurationLoader(gatherer)
    return try loader.load()
}

/// What is refused, one line each; empty where nothing is.
func refusals(
    _ document: String,
    environment: [String: String] = [:],
    arguments: [String] = []
) -> [String] {
    errors(Array(document.utf8), environment: environment, arguments: arguments)
        .map(\.description)
}

func errors(
    _ document: [UInt8],
    environment: [String: String] = [:],
    arguments: [String] = []
) -> [ConfigurationError] {
    do throws(ConfigurationErrors) {
        _ = try load(document, environment: environment, arguments: arguments)
        return []
    } catch { return error.errors }
}

/// Code and place of each error: `outOfRange rivulet.yaml:2:10 server.loops`.
func places(
    _ document: String,
    environment: [String: String] = [:],
    arguments: [String] = []
) -> [String] {
    errors(Array(document.utf8), environment: environment, arguments: arguments).map {
        "\($0.code) \($0.location) \($0.key)"
    }
}

/// A file that is gone when the value goes.
struct TemporaryFile: ~Copyable {
    let path: String

    init(_ bytes: [UInt8]) throws {
        var template = Array("/tmp/rivulet-configuration-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        try #require(descriptor >= 0)
        let written = unsafe bytes.withUnsafeBytes {
            unsafe write(descriptor, $0.baseAddress, $0.count)
        }
        close(descriptor)
        try #require(written == bytes.count)
        path = String(
            decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    init(_ text: String) throws { try self.init(Array(text.utf8)) }

    deinit { unsafe unlink(path) }
}
