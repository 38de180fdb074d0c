// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import NodeConfiguration

@Suite("What is printed about the configuration")
struct ReferenceTests {
    @Test("the effective configuration reads back as the same configuration")
    func effectiveReadsBack() throws {
        let configuration = try load(
            """
            node: {id: west-1}
            server: {listen: ["[::]:80", "1.2.3.4:5"], retry: 1500ms}
            kafka: {group_id: 'a "b" \\c é', properties: {client.id: "a: b # c", linger.ms: 5}}
            limits: {event_bytes: 1500}
            telemetry: {enabled: false}
            patterns: []
            """,
            environment: ["RIVULET_REDIS_USERNAME": "null"])
        let again = try load(configuration.effective)
        for key in Configuration.keyReference {
            #expect(key.read(again) == key.read(configuration), "\(key.name)")
        }
        #expect(again.redis.username == "null")
    }

    @Test("the effective configuration says where each value came from")
    func origins() throws {
        let lines = try load(
            "log:\n  level: debug\n", environment: ["RIVULET_SERVER_LOOPS": "2"],
            arguments: ["--server.drain=1s"]
        ).effective.split(separator: "\n")
        #expect(lines.contains("  level: debug # rivulet.yaml:2:10"))
        #expect(lines.contains("  loops: 2 # environment RIVULET_SERVER_LOOPS"))
        #expect(lines.contains("  drain: 1s # flag --server.drain"))
        #expect(lines.contains("  format: text # default"))
        #expect(lines.contains("channels: # default"))
    }

    @Test("a file's name cannot add a line to the effective configuration")
    func hostileFileName() throws {
        let configuration = try Configuration.parse(
            Array("server: {loops: 1}".utf8), name: "a\nlog: {level: debug}")
        #expect(!configuration.effective.contains("\nlog: {"))
    }

    @Test("help and the reference page name every key, variable and flag with a reason")
    func everyKeyIsDocumented() {
        for key in Configuration.keyReference {
            #expect(key.reason.hasSuffix("."))
            #expect(Configuration.help.contains("\(key.flag)="))
            #expect(Configuration.help.contains(key.environmentVariable))
            #expect(Configuration.referencePage.contains("| `\(key.name)`"))
            #expect(Configuration.referencePage.contains("`\(key.environmentVariable)`"))
        }
    }

    @Test("the table covers every property of every section")
    func tableIsComplete() {
        let configuration = Configuration()
        let sections: [(String, Any)] = [
            ("node", configuration.node), ("cluster", configuration.cluster),
            ("server", configuration.server),
            ("limits", configuration.limits), ("kafka", configuration.kafka),
            ("redis", configuration.redis), ("history", configuration.history),
            ("log", configuration.log), ("telemetry", configuration.telemetry),
            ("admin", configuration.admin),
        ]
        for (name, section) in sections {
            let keys = Configuration.keyReference.filter { $0.name.hasPrefix("\(name).") }
            #expect(Mirror(reflecting: section).children.count == keys.count, "\(name)")
        }
    }

    @Test("the example of a fleet is a configuration, and re-levels")
    func fleetExample() throws {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        let path = root.joined(separator: "/") + "/docs/operating/fleet.yaml"
        let configuration = try load(try FileBytes.read(path, limit: 1 << 20))
        #expect(configuration.cluster.relevel)
        #expect(configuration.server.drainNotice > .zero)
    }

    @Test("docs/reference/configuration.md is what the table says")
    func pageIsUpToDate() throws {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        let path = root.joined(separator: "/") + "/docs/reference/configuration.md"
        let page = Configuration.referencePage
        if unsafe getenv("UPDATE_REFERENCE") != nil {
            let folders = ["/docs", "/docs/reference"].map { root.joined(separator: "/") + $0 }
            for folder in folders { unsafe mkdir(folder, 0o755) }
            let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
            try #require(descriptor >= 0)
            let written = unsafe Array(page.utf8).withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress, $0.count)
            }
            close(descriptor)
            #expect(written == page.utf8.count)
        }
        let bytes = try? FileBytes.read(path, limit: 1 << 20)
        #expect(
            bytes.map { String(decoding: $0, as: UTF8.self) } == page,
            "write it anew: UPDATE_REFERENCE=1 swift test --filter NodeConfigurationTests")
    }
}
