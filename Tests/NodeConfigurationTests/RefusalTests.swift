// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("What is refused, and where")
struct RefusalTests {
    @Test("an unknown key is named at its own place, with what was probably meant")
    func unknownKeys() {
        let found = refusals(
            """
            sever:
              loops: 1
            server:
              loop: 1
              headerTimeout: 1s
              bootstrap_servers: [a:1]
              zzzzzz: 1
            loops: 3
            server.loops: 3
            """)
        #expect(
            found == [
                "rivulet.yaml:1:1: sever: there is no such key; did you mean server?",
                "rivulet.yaml:4:3: server.loop: there is no such key; did you mean server.loops?",
                "rivulet.yaml:5:3: server.headerTimeout: there is no such key; "
                    + "did you mean server.header_timeout?",
                "rivulet.yaml:6:3: server.bootstrap_servers: there is no such key; "
                    + "did you mean kafka.bootstrap_servers?",
                "rivulet.yaml:7:3: server.zzzzzz: there is no such key",
                "rivulet.yaml:8:1: loops: there is no such key; did you mean server.loops?",
                "rivulet.yaml:9:1: server.loops: a dot does not nest in YAML; accepted: the "
                    + "section, and its key indented below it",
            ])
    }

    @Test("an unknown variable or flag is named, with what was probably meant")
    func unknownOverrides() {
        let found = refusals(
            "", environment: ["RIVULET_SERVER_LOOP": "1", "RIVULET_NONSENSE_X": "1"],
            arguments: ["--server-loops=1", "--kafka.group", "x", "--verbose"])
        #expect(
            found == [
                "environment RIVULET_NONSENSE_X: no key has this variable",
                "environment RIVULET_SERVER_LOOP: no key has this variable; "
                    + "did you mean RIVULET_SERVER_LOOPS?",
                "flag --server-loops: there is no such flag; did you mean --server.loops?",
                "flag --kafka.group: there is no such flag; did you mean --kafka.group_id?",
                "flag --verbose: there is no such flag",
            ])
    }

    @Test("a flag needs a value, comes once, and nothing else stands among the flags")
    func malformedArguments() {
        let found = refusals(
            "",
            arguments: [
                "--server.loops", "--log.level=info", "--log.level=debug", "redis.timeout=1s", "--",
                "--log.format",
            ])
        #expect(
            found == [
                "flag --server.loops: server.loops: has no value; accepted: --server.loops=value",
                "flag --log.level: log.level: given again",
                "argument 4: is no flag; accepted: --section.key=value; "
                    + "did you mean --redis.timeout?",
                "argument 5: is no flag; accepted: --section.key=value",
                "flag --log.format: log.format: has no value; accepted: --log.format=value",
            ])
    }

    @Test("a wrong type says what was given and what is accepted, at the value's place")
    func wrongTypes() {
        let found = refusals(
            """
            server:
              loops: "4"
              backlog: many
              listen: 127.0.0.1:80
              heartbeat: [15s]
              retry:
            telemetry: {enabled: yes}
            log: loud
            """)
        #expect(
            found == [
                #"rivulet.yaml:2:10: server.loops: "4": is a text in quotes; accepted: "#
                    + "an integer from 0 to 256",
                #"rivulet.yaml:3:12: server.backlog: "many": is no integer; accepted: "#
                    + "an integer from 1 to 65535",
                "rivulet.yaml:4:11: server.listen: a single value: is no list; accepted: a list "
                    + "of 0 to 16, each a numeric address and a port, such as 0.0.0.0:8080 or "
                    + "[::]:8080",
                "rivulet.yaml:5:14: server.heartbeat: a list: is no duration; accepted: a whole "
                    + "number with ms, s, m, h or d, from 100ms to 10m",
                "rivulet.yaml:6:9: server.retry: nothing: is no duration; accepted: a whole "
                    + "number with ms, s, m, h or d, from 100ms to 5m",
                #"rivulet.yaml:7:22: telemetry.enabled: "yes": is no boolean; accepted: "#
                    + "true or false; did you mean true?",
                "rivulet.yaml:8:6: log: a single value: is no section; accepted: a mapping of the "
                    + "section's keys",
            ])
    }

    @Test(
        "numbers that are none, or too large for anything, are refused as such",
        arguments: [
            ("server.loops", "257", "outOfRange"), ("server.loops", "-1", "outOfRange"),
            ("server.loops", "99999999999999999999999999", "outOfRange"),
            ("server.loops", "1e3", "wrongType"), ("server.loops", "0x10", "wrongType"),
            ("server.loops", "010", "wrongType"), ("server.loops", "1.0", "wrongType"),
            ("server.loops", ".nan", "wrongType"), ("server.loops", "--", "wrongType"),
            ("server.loops", "٣", "wrongType"), ("server.retry", "NaN", "wrongType"),
            ("server.retry", ".inf", "wrongType"), ("server.retry", "NaNs", "wrongType"),
            ("server.retry", "-5s", "wrongType"), ("server.retry", "5", "wrongType"),
            ("server.retry", "1.5s", "wrongType"), ("server.retry", "s", "wrongType"),
            ("server.retry", "99999999999999999999s", "outOfRange"),
            ("server.retry", "9223372036854775807d", "outOfRange"),
            ("server.retry", "99ms", "outOfRange"), ("server.retry", "301s", "outOfRange"),
            ("limits.event_bytes", "1KB", "wrongType"),
            ("limits.event_bytes", "1023", "outOfRange"),
            ("limits.event_bytes", "9223372036854775807GiB", "outOfRange"),
            ("limits.event_bytes", "17MiB", "outOfRange"), ("log.level", "loud", "refused"),
        ])
    func badNumbers(key: String, value: String, code: String) {
        #expect(places("", arguments: ["--\(key)=\(value)"]) == ["\(code) flag --\(key) \(key)"])
        let parts = key.split(separator: ".")
        let column = parts[1].count + 5
        #expect(
            places("\(parts[0]):\n  \(parts[1]): \(value)\n") == [
                "\(code) rivulet.yaml:2:\(column) \(key)"
            ])
    }

    @Test(
        "a unit that other programs use is understood well enough to correct it",
        arguments: [
            ("server.retry", "5sec", "5s"), ("server.retry", "2min", "2m"),
            ("server.retry", "3", "3s"), ("limits.event_bytes", "64KB", "64KiB"),
            ("limits.event_bytes", "1m", "1MiB"), ("log.level", "warn", "warning"),
            ("kafka.auto_offset_reset", "earlyest", "earliest"),
            ("telemetry.enabled", "off", "false"),
        ])
    func corrections(key: String, value: String, meant: String) {
        let found = errors([], arguments: ["--\(key)=\(value)"])
        #expect(found.map(\.suggestion) == [meant])
    }

    @Test("a list is refused item by item")
    func lists() {
        #expect(
            places(
                """
                server:
                  listen: [localhost:80, 127.0.0.1:80, 127.0.0.1:80, "[::]:70000", 1.2.3.4, {}]
                kafka:
                  bootstrap_servers: []
                """) == [
                    "refused rivulet.yaml:2:12 server.listen[0]",
                    "refused rivulet.yaml:2:40 server.listen[2]",
                    "refused rivulet.yaml:2:54 server.listen[3]",
                    "refused rivulet.yaml:2:68 server.listen[4]",
                    "wrongType rivulet.yaml:2:77 server.listen[5]",
                    "outOfRange rivulet.yaml:4:22 kafka.bootstrap_servers",
                ])
    }

    @Test("properties that Rivulet must own are refused, with the key to use")
    func ownedProperties() {
        let found = refusals(
            """
            kafka:
              properties:
                client.id: a
                group.id: b
                enable.auto.commit: true
                "bad name": c
                linger.ms: [1]
            """)
        #expect(
            found == [
                "rivulet.yaml:4:15: kafka.properties.group.id: is set by Rivulet from "
                    + "kafka.group_id",
                "rivulet.yaml:5:25: kafka.properties.enable.auto.commit: is set by Rivulet, whose "
                    + "promise to lose and repeat nothing depends on it",
                "rivulet.yaml:6:17: kafka.properties.bad…: holds an illegal character; "
                    + "accepted: a property of librdkafka such as client.id",
                "rivulet.yaml:7:16: kafka.properties.linger.ms: a list: is no text; accepted: "
                    + "text, a number or a boolean",
            ])
        let owned = [
            "enable.auto.commit", "enable.auto.offset.store", "partition.assignment.strategy",
            "group.id", "bootstrap.servers", "auto.offset.reset", "isolation.level",
        ]
        for name in owned {
            #expect(
                places("", environment: ["RIVULET_KAFKA_PROPERTIES": "\(name)=x"]) == [
                    "refused environment RIVULET_KAFKA_PROPERTIES kafka.properties.\(name)"
                ])
        }
    }

    @Test(
        "a Redis URL is refused with what is wrong with it",
        arguments: [
            ("rediss://u@redis:6379/0", "holds credentials"), ("rediss://", "has no valid host"),
            ("http://redis", "has a scheme other than"), ("redis://", "has no valid host"),
            ("redis://h:0", "has no valid host and port"), ("redis://h:1/x", "database"),
            ("redis://h/70000", "database"), ("redis://[::1", "has no valid host"),
            ("unix://relative", "no absolute path"), ("unix:///a?database=1", "other than db="),
            ("unix:///" + String(repeating: "a", count: 108), "at most 107 bytes"),
            ("redis://h?db=1", "holds a query"), ("", "is empty"),
        ])
    func redisURLs(url: String, reason: String) throws {
        let found = errors([], arguments: ["--redis.url=\(url)"])
        #expect(found.map(\.code) == [.refused])
        #expect(try #require(found.first).detail.contains(reason))
    }

    @Test("Redis is found under each form of its URL")
    func redisEndpoints() throws {
        #expect(try RedisEndpoint(url: "redis://h") == .tcp(host: "h", port: 6379, database: 0))
        #expect(
            try RedisEndpoint(url: "redis://[::1]:7/2") == .tcp(host: "::1", port: 7, database: 2))
        #expect(
            try RedisEndpoint(url: "redis://[::1]/") == .tcp(host: "::1", port: 6379, database: 0))
        #expect(
            try RedisEndpoint(url: "rediss://h:7/1") == .tls(host: "h", port: 7, database: 1))
        #expect(try RedisEndpoint(url: "unix:///a") == .unix(path: "/a", database: 0))
    }

    @Test("TLS without what it needs is refused, and so is a node without an address")
    func incompleteTLS() {
        func details(_ text: String) -> [String] { errors(Array(text.utf8)).map(\.detail) }
        let missing = details("server: {tls_listen: ['[::]:8443'], tls_key: /k}")
        #expect(missing.count == 1 && missing[0].hasPrefix("needs server.tls_certificate"))
        #expect(details("server: {tls_listen: ['[::]:8443']}").count == 2)
        let authority = details("server: {tls_client_certificates: required}")
        #expect(authority.count == 1 && authority[0].hasPrefix("needs server.tls_client_authority"))
        #expect(details("server: {listen: []}").count == 1)
        let whole = "{listen: [], tls_listen: ['[::]:8443'], tls_key: /k, tls_certificate: /c}"
        #expect(details("server: \(whole)") == [])
        #expect(
            errors(Array("server: {tls_minimum_version: '1.1'}".utf8)).map(\.code) == [.refused])
    }

    @Test("settings that do not go together are refused at the one that was given")
    func conflicts() {
        #expect(
            refusals("kafka:\n  heartbeat_interval: 4s\n") == [
                "rivulet.yaml:2:23: kafka.heartbeat_interval: 4s: is more than a third of the "
                    + "session timeout of 10s (kafka.session_timeout from built-in default)"
            ])
        #expect(
            places("kafka:\n  session_timeout: 2s\n") == [
                "conflict rivulet.yaml:2:20 kafka.heartbeat_interval"
            ])
        #expect(places("kafka: {session_timeout: 3s}") == [])
        #expect(
            places("history: {index_age: 1m}", arguments: ["--history.window_age=2m"]) == [
                "conflict rivulet.yaml:1:22 history.index_age"
            ])
        #expect(
            places("limits: {event_bytes: 2MiB, hot_window_bytes: 1MiB}") == [
                "conflict rivulet.yaml:1:23 limits.event_bytes"
            ])
        #expect(
            places("", environment: ["RIVULET_TELEMETRY_TOPIC": "rivulet.dead-letter"]) == [
                "conflict environment RIVULET_TELEMETRY_TOPIC telemetry.topic"
            ])
    }

    @Test("a setting with an error of its own is not also said to be in conflict")
    func noFollowingErrors() {
        #expect(
            places("kafka: {heartbeat_interval: 4s, session_timeout: soon}") == [
                "wrongType rivulet.yaml:1:50 kafka.session_timeout"
            ])
    }

    @Test("a value that a stronger one replaces is still checked")
    func replacedValue() {
        #expect(
            places("server: {loops: x}", arguments: ["--server.loops=1"]) == [
                "wrongType rivulet.yaml:1:17 server.loops"
            ])
    }

    @Test("errors of all sources come together, the file's from top to bottom")
    func allTogether() {
        let found = places(
            """
            log: {level: loud}
            server: {loops: x, backlog: 0}
            nonsense: 1
            channels: [{name: A, topics: [ok]}]
            """,
            environment: ["RIVULET_LOG_FORMAT": "xml", "RIVULET_X": "1"],
            arguments: ["--redis.timeout=0s", "--y=1"])
        #expect(
            found == [
                "refused rivulet.yaml:1:14 log.level", "wrongType rivulet.yaml:2:17 server.loops",
                "outOfRange rivulet.yaml:2:29 server.backlog",
                "unknownKey rivulet.yaml:3:1 nonsense",
                "refused rivulet.yaml:4:19 channels[0].name",
                "unknownVariable environment RIVULET_X ",
                "refused environment RIVULET_LOG_FORMAT log.format", "unknownFlag flag --y ",
                "outOfRange flag --redis.timeout redis.timeout",
            ])
    }

    @Test("more errors than anyone reads are counted")
    func manyErrors() {
        let lines = (0..<150).map { "key\($0): 1\n" }.joined()
        do throws(ConfigurationErrors) {
            _ = try load(lines)
            Issue.record("it was taken")
        } catch {
            #expect(error.errors.count == 100)
            #expect(error.omitted == 50)
            #expect(error.description.hasSuffix("\nand 50 more"))
        }
    }

    @Test("what is given cannot forge a line of the report")
    func escapedExcerpts() {
        let found = refusals("", arguments: ["--log.level=a\nb\u{1b}[31m\u{202e}c"])
        #expect(found.count == 1)
        #expect(found[0].contains(#""a\u{a}b\u{1b}[31m\u{202e}c""#))
        let long = refusals("", arguments: ["--log.level=" + String(repeating: "x", count: 5000)])
        #expect(long[0].utf8.count < 250)
    }
}
