// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("Precedence and overrides")
struct PrecedenceTests {
    @Test("a flag beats the environment, which beats the file, which beats the default")
    func precedence() throws {
        let file = "server: {loops: 2}"
        let variable = ["RIVULET_SERVER_LOOPS": "3"]
        #expect(try load("").server.loops == 0)
        #expect(try load(file).server.loops == 2)
        #expect(try load(file, environment: variable).server.loops == 3)
        let flagged = try load(file, environment: variable, arguments: ["--server.loops=4"])
        #expect(flagged.server.loops == 4)
        #expect(flagged.origin(of: "server.loops")?.description == "flag --server.loops")
        #expect(flagged.origin(of: "server.backlog") == nil)
    }

    @Test("each key has a variable and a flag of its own, and no variable is a service link")
    func everyKeyHasOverrides() {
        let keys = Configuration.keyReference
        #expect(Set(keys.map(\.environmentVariable)).count == keys.count)
        #expect(Set(keys.map(\.flag)).count == keys.count)
        for key in keys {
            #expect(!SettingsGatherer.isServiceLink(key.environmentVariable, "tcp://10.0.0.1:80"))
        }
    }

    @Test("each key takes its own default from its variable and from its flag", arguments: keys)
    func defaultsAsOverrides(name: String) throws {
        let key = try #require(Configuration.keyReference.first { $0.name == name })
        let value = key.read(Configuration())
        let text: String
        switch value {
        case .none: text = ""
        case .text(let plain): text = plain
        case .list(let items): text = items.joined(separator: ", ")
        case .properties: text = ""
        case .channels(let channels): text = SettingText.lines(channels).joined(separator: "\n")
        case .patterns(let patterns): text = SettingText.lines(patterns).joined(separator: "\n")
        default: text = try #require(key.defaultText)
        }
        let variable = try load("", environment: [key.environmentVariable: text])
        #expect(key.read(variable) == value)
        #expect(variable.origin(of: name) != nil)
        let flag = try load("", arguments: ["\(key.flag)=\(text)"])
        #expect(key.read(flag) == value)
        #expect(try load("", arguments: [key.flag, text]).origin(of: name) != nil)
    }

    @Test("lists, properties and channels can be given outside the file")
    func structuredOverrides() throws {
        let configuration = try load(
            "kafka: {properties: {client.id: file}}",
            environment: [
                "RIVULET_KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2",
                "RIVULET_KAFKA_PROPERTIES": "security.protocol=ssl,linger.ms=5",
                "RIVULET_CHANNELS": "[{name: one, topics: [first], event: update}]",
            ],
            arguments: ["--server.listen", "0.0.0.0:80,[::1]:81"])
        #expect(configuration.kafka.bootstrapServers == ["a:1", "b:2"])
        #expect(
            configuration.kafka.properties == ["security.protocol": "ssl", "linger.ms": "5"])
        #expect(configuration.server.listen == ["0.0.0.0:80", "[::1]:81"])
        #expect(
            configuration.channels == [
                ChannelConfiguration(name: "one", topics: ["first"], event: .fixed("update"))
            ])
    }

    @Test("every kind of value is read as what it says")
    func kinds() throws {
        let configuration = try load(
            """
            server: {heartbeat: 250ms, drain: 0s, idle_timeout: "5m"}
            limits: {event_bytes: 64KiB, body_bytes: 4096, hot_window_bytes: 1GiB}
            history: {window_age: 1h, index_age: 365d}
            kafka: {auto_offset_reset: latest}
            log: {level: warning, format: json}
            telemetry: {enabled: false}
            redis: {username: app, url: "unix:///run/redis.sock?db=3"}
            """)
        #expect(configuration.server.heartbeat == .milliseconds(250))
        #expect(configuration.server.drain == .zero)
        #expect(configuration.server.idleTimeout == .seconds(300))
        #expect(configuration.limits.eventBytes == 65_536)
        #expect(configuration.limits.bodyBytes == 4096)
        #expect(configuration.limits.hotWindowBytes == 1 << 30)
        #expect(configuration.history.indexAge == .seconds(31_536_000))
        #expect(configuration.kafka.autoOffsetReset == .latest)
        #expect(configuration.log.level == .warning)
        #expect(configuration.log.format == .json)
        #expect(!configuration.telemetry.enabled)
        #expect(configuration.redis.username == "app")
        #expect(configuration.redis.endpoint == .unix(path: "/run/redis.sock", database: 3))
    }

    @Test("the file is named by the caller, then the flag, then the variable")
    func fileNames() throws {
        let one = try TemporaryFile("server: {loops: 1}")
        let two = try TemporaryFile("server: {loops: 2}")
        let three = try TemporaryFile("server: {loops: 3}")
        let variable = ["RIVULET_CONFIG": three.path]
        let flag = ["--config=\(two.path)"]
        let loops = { (file: String?, arguments: [String]) in
            try Configuration.load(file: file, environment: variable, arguments: arguments)
                .server.loops
        }
        #expect(try loops(one.path, flag) == 1)
        #expect(try loops(nil, flag) == 2)
        #expect(try loops(nil, []) == 3)
    }

    @Test("a file that is not there is refused by its name, beside the other errors")
    func missingFile() {
        do throws(ConfigurationErrors) {
            _ = try Configuration.load(
                file: "/nonexistent/rivulet.yaml", environment: ["RIVULET_SERVER_LOOPS": "x"],
                arguments: ["--log.level=loud"])
            Issue.record("it was taken")
        } catch {
            #expect(error.errors.map(\.code) == [.fileUnreadable, .wrongType, .refused])
            #expect(error.errors[0].location.description == "/nonexistent/rivulet.yaml")
            #expect(error.description.contains("No such file or directory"))
        }
    }

    @Test("what Kubernetes sets for a service called rivulet is no mistake")
    func serviceLinks() throws {
        _ = try load(
            "",
            environment: [
                "RIVULET_SERVICE_HOST": "10.0.0.1", "RIVULET_SERVICE_PORT": "80",
                "RIVULET_SERVICE_PORT_HTTP": "80", "RIVULET_PORT": "tcp://10.0.0.1:80",
                "RIVULET_PORT_80_TCP": "tcp://10.0.0.1:80", "RIVULET_PORT_80_TCP_PROTO": "tcp",
                "RIVULET_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2", "PATH": "/bin",
                "RIVULET_CONFIG": "",
            ])
        #expect(
            places("", environment: ["RIVULET_SERVER_PORT": "9000"]) == [
                "unknownVariable environment RIVULET_SERVER_PORT "
            ])
    }

    static let keys = Configuration.keyReference.map(\.name)
}
