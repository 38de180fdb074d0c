// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NodeConfiguration

@Suite("Secrets")
struct SecretTests {
    @Test("a secret prints as stars whichever way it is printed")
    func printing() {
        let secret = Secret("hunter2")
        var dumped = ""
        dump(["a": secret], to: &dumped)
        for text in ["\(secret)", String(reflecting: secret), dumped, "\([secret])"] {
            #expect(!text.contains("hunter2"))
        }
        #expect("\(secret)" == "***")
        #expect(secret.reveal() == "hunter2")
    }

    @Test("a loaded configuration shows no secret in any form, and still has them")
    func wholeConfiguration() throws {
        let file = try TemporaryFile("hunter4\n")
        let configuration = try load(
            """
            redis: {password: hunter2}
            kafka:
              properties:
                client.id: shown
                sasl.password: hunter3
                ssl.key.password_file: \(file.path)
            """)
        #expect(configuration.redis.password?.reveal() == "hunter2")
        #expect(configuration.kafka.properties["sasl.password"] == "hunter3")
        #expect(configuration.kafka.properties["ssl.key.password"] == "hunter4")
        var dumped = ""
        dump(configuration, to: &dumped)
        dump(configuration.redis, to: &dumped)
        dump(configuration.kafka, to: &dumped)
        let forms = [
            configuration.effective, "\(configuration)", String(reflecting: configuration), dumped,
            "\(configuration.redis)", "\(configuration.kafka)",
            String(reflecting: configuration.kafka),
        ]
        for form in forms { #expect(!form.contains("hunter")) }
        #expect(configuration.effective.contains(#"password: "***" # rivulet.yaml:1:19"#))
        #expect(configuration.effective.contains(#""client.id": "shown""#))
        #expect(configuration.effective.contains(#""sasl.password": "***""#))
    }

    @Test(
        "no error shows a secret, even one in the wrong place",
        arguments: [
            "redis: {password: [hunter2]}", "redis: {password: {a: hunter2}}",
            "redis: {password: \"hunter2\\n\"}", "redis: {pasword: hunter2}",
            "redis: {password_file: hunter2}", "redis: {url: 'redis://app:hunter2@h:1/0'}",
            "redis: {url: 'http://app:hunter2@h:1/0'}", "redis: {url: 'redis://h/0?p=hunter2'}",
            "redis: hunter2", "kafka: {properties: hunter2}", "hunter: {password: hunter2}",
            "kafka: {properties: {sasl.password: [hunter2]}}",
            "kafka: {properties: {sasl.password: \"hunter2\\0\"}}",
            "kafka: {properties: {sasl.password_file: hunter2}}",
            "kafka: {properties: {group.id: hunter2}}",
            "kafka: {properties: {sasl.password: a, sasl.password: hunter2}}",
            "kafka: {bootstrap_servers: ['sasl://app:hunter2@h:1']}",
            "redis: {password: a, password: hunter2}",
            "redis: {password: a, password_file: hunter2}",
            "redis: {password: 'hunter2", "redis: {password: *hunter2}",
            "redis: {password: !hunter2}",
            "redis: {password: {hunter2", "redis: {password: [{hunter2: 1, hunter2: 2}]}",
            "redis: {pasword: {hunter2: a, hunter2: b}}", "redis: {password:hunter2}",
            "redis: {password: \"\\hunter2\"}", "redis: {password: @hunter2}",
            "kafka: {properties: {sasl.password:hunter2}}",
            "kafka: {properties: {sasl.password: {hunter2: a, hunter2: b}}}",
            "redis: {password: !secret hunter2}",
        ])
    func errorsInFiles(document: String) {
        let found = refusals(document)
        #expect(!found.isEmpty)
        for line in found { #expect(!line.contains("hunter2")) }
    }

    @Test(
        "no error shows a secret that was given as a flag",
        arguments: [
            ["--redis.pasword=hunter2"], ["--redis.pasword", "hunter2"],
            ["--redis.password=a", "hunter2"], ["redis.password=hunter2"], ["hunter2"],
            ["--redis.password=a", "--redis.password=hunter2"],
            ["--redis.password=hunter2\u{7}"], ["--redis.password_file=hunter2"],
            ["--kafka.properties=sasl.password=a,hunter2"], ["-redis.password=hunter2"],
            ["--redis.password:hunter2"],
            ["--kafka.properties=sasl.password:hunter2=a"],
            ["--kafka.properties=sasl.password=hunter2\u{0}"],
        ])
    func errorsInArguments(arguments: [String]) {
        let found = refusals("", arguments: arguments)
        #expect(!found.isEmpty)
        for line in found { #expect(!line.contains("hunter2")) }
    }

    @Test("no error shows a secret that was given as a variable")
    func errorsInEnvironment() {
        let found = refusals(
            "",
            environment: [
                "RIVULET_REDIS_PASWORD": "hunter2", "RIVULET_REDIS_PASSWORD": "hunter2\n",
                "RIVULET_KAFKA_PROPERTIES": "hunter2", "RIVULET_REDIS_URL": "redis://:hunter2@h",
            ])
        #expect(found.count == 4)
        for line in found { #expect(!line.contains("hunter2")) }
    }

    @Test(
        "a secret is read from a file without the newline at its end",
        arguments: [
            ("hunter2", "hunter2"), ("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"),
            (" spaced \n", " spaced "),
        ])
    func files(content: String, secret: String) throws {
        let file = try TemporaryFile(content)
        #expect(
            try load("redis: {password_file: \(file.path)}").redis.password?.reveal() == secret)
        #expect(
            try load("", environment: ["RIVULET_REDIS_PASSWORD_FILE": file.path]).redis.password
                == Secret(secret))
        #expect(
            try load("", arguments: ["--redis.password_file", file.path]).redis.password
                == Secret(secret))
    }

    @Test("a secret's file that is empty, too large, of several lines or no text is refused")
    func badFiles() throws {
        let contents: [([UInt8], ConfigurationError.Code)] = [
            ([], .refused), (Array("\n".utf8), .refused), (Array("a\nb\n".utf8), .refused),
            ([0xff, 0xfe], .fileUnreadable),
            (Array(repeating: 0x61, count: 70_000), .fileUnreadable),
            (Array(repeating: 0x61, count: 5000), .refused),
        ]
        for (bytes, code) in contents {
            let file = try TemporaryFile(bytes)
            let found = errors([], arguments: ["--redis.password_file=\(file.path)"])
            #expect(found.map(\.code) == [code])
            #expect(found.map(\.key) == ["redis.password_file"])
        }
        #expect(errors([], arguments: ["--redis.password_file=/tmp"]).count == 1)
        #expect(errors([], arguments: ["--redis.password_file="]).count == 1)
    }

    @Test("a secret and its file in one place are refused; in two places the stronger counts")
    func secretAndFile() throws {
        #expect(
            places("redis:\n  password: a\n  password_file: /b\n").first
                == "conflict rivulet.yaml:3:18 redis.password_file")
        let stronger = try load(
            "redis: {password_file: /nonexistent}",
            environment: ["RIVULET_REDIS_PASSWORD": "b"])
        #expect(stronger.redis.password == Secret("b"))
    }
}
