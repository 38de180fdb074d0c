// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Checks of the tree itself: what a reviewer would otherwise have to look for by eye.
@Suite("Tidy")
struct TidyTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    private static func swiftFiles(in folder: String) throws -> [(name: String, text: String)] {
        let base = root.appending(path: folder)
        let walk = try #require(FileManager.default.enumerator(atPath: base.path))
        return try walk.compactMap { item in
            guard let name = item as? String, name.hasSuffix(".swift") else { return nil }
            let text = try String(contentsOf: base.appending(path: name), encoding: .utf8)
            return ("\(folder)/\(name)", text)
        }
    }

    @Test("each source file begins with the licence", arguments: ["Sources", "Tests"])
    func licence(folder: String) throws {
        for file in try Self.swiftFiles(in: folder) {
            let isLicensed = file.text.contains("SPDX-License-Identifier: Apache-2.0")
            #expect(isLicensed, "\(file.name)")
        }
    }

    @Test("no source file is a house of its own: 700 lines at most")
    func length() throws {
        for file in try Self.swiftFiles(in: "Sources") {
            let lines = file.text.split(separator: "\n", omittingEmptySubsequences: false).count
            #expect(lines <= 700, "\(file.name) has \(lines) lines")
        }
    }

    @Test("nothing is left for later in the sources")
    func leftovers() throws {
        for file in try Self.swiftFiles(in: "Sources") {
            for word in ["TO" + "DO", "FIX" + "ME", "XX" + "X"] {
                #expect(!file.text.contains(word), "\(file.name) holds \(word)")
            }
        }
    }

    @Test("each unchecked Sendable says why it is right")
    func uncheckedSendable() throws {
        for file in try Self.swiftFiles(in: "Sources")
        where file.text.contains("@unchecked Sendable") {
            #expect(file.text.contains("// @unchecked:"), "\(file.name)")
        }
    }

    @Test("the lower floors do without Foundation")
    func foundation() throws {
        for file in try Self.swiftFiles(in: "Sources") {
            #expect(!file.text.contains("import Foundation"), "\(file.name)")
        }
    }

    @Test("the manifest names no package")
    func noPackages() throws {
        let manifest = try String(
            contentsOf: Self.root.appending(path: "Package.swift"), encoding: .utf8)
        #expect(!manifest.contains(".package("))
    }
}
