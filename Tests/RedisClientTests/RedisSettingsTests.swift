// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import RedisClient
import Testing

@Suite("Redis settings")
struct RedisSettingsTests {
    @Test("a URL names the address, the user, the password and the database")
    func accepted() throws {
        let full = try RedisURL("redis://app:s%40cret%2F@redis.example:6380/5")
        #expect(full.address == .tcp(host: "redis.example", port: 6380))
        #expect(full.username == "app")
        #expect(full.password == "s@cret/")
        #expect(full.database == 5)

        let bare = try RedisURL("redis://localhost")
        #expect(bare.address == .tcp(host: "localhost", port: 6379))
        #expect(bare.username == nil)
        #expect(bare.password == nil)
        #expect(bare.database == 0)

        #expect(!full.usesTLS)
        let encrypted = try RedisURL("rediss://u:p@h:6390/1")
        #expect(encrypted.usesTLS && encrypted.database == 1)
        #expect(encrypted.address == .tcp(host: "h", port: 6390))
        #expect(RedisSettings(url: encrypted).usesTLS)

        #expect(try RedisURL("REDIS://[::1]:7/").address == .tcp(host: "::1", port: 7))
        #expect(try RedisURL("redis://:only@h").password == "only")
        #expect(try RedisURL("redis://:only@h").username == nil)
        #expect(try RedisURL("redis://u:a:b@h").password == "a:b")
        #expect(try RedisURL("redis://u:p/w@x@h/3").password == "p/w@x")
        #expect(try RedisURL("unix:///run/redis.sock").address == .unix(path: "/run/redis.sock"))
        #expect(try RedisURL("unix:///run/redis.sock?db=9").database == 9)
    }

    @Test(
        "a URL that cannot be meant says what is wrong, and never shows the password",
        arguments: [
            ("localhost:6379", "no scheme"), ("http://h", "\"http\""), ("", "no scheme"),
            ("rediss://u:hunter2@h:x", "\"x\""), ("rediss://", "names no host"),
            ("redis://", "names no host"), ("redis://u:hunter2@", "names no host"),
            ("redis://h:0", "\"0\""), ("redis://h:65536", "\"65536\""), ("redis://h:", "port \"\""),
            ("redis://u:hunter2@h:x", "\"x\""), ("redis://::1", "brackets"),
            ("redis://[::1", "no ]"), ("redis://[::1]7", "\"7\""), ("redis://h/x", "\"x\""),
            ("redis://h/-1", "\"-1\""), ("redis://h/99999999999", "\"99999999999\""),
            ("redis://h?a=b", "query"), ("redis://user@h", "without a password"),
            ("redis://u:hunter2%zz@h", "hex"), ("redis://u:hunter2%ff@h", "UTF-8"),
            ("redis://a b", "\"a b\""), ("unix://relative", "\"relative\""), ("unix:///", "\"/\""),
            ("unix:///s?x=1", "\"x=1\""), ("unix:///s?db=", "\"\""),
        ])
    func refused(url: String, part: String) throws {
        let error = #expect(throws: RedisError.self) { try RedisURL(url) }
        #expect(error?.code == .settingInvalid)
        let text = try #require(error?.description)
        #expect(text.contains(part), "\(text)")
        #expect(!text.contains("hunter2"))
    }

    @Test("no description of the settings shows the password")
    func secret() throws {
        let url = try RedisURL("redis://u:hunter2@h")
        let settings = RedisSettings(url: url)
        #expect(settings.password == "hunter2")
        let texts = [
            "\(settings)", String(reflecting: settings), "\(url)", String(reflecting: url),
        ]
        for text in texts { #expect(!text.contains("hunter2")) }
    }

    @Test("the pause before a reconnect grows from its minimum to its bound, with jitter")
    func backoff() {
        var random = SeededRandom(seed: 1)
        var backoff = ReconnectBackoff(shortest: .milliseconds(50), longest: .seconds(2))
        for bound in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = backoff.next(using: &random)
            #expect(pause >= .milliseconds(50))
            #expect(pause <= .milliseconds(bound))
        }
        let late = (0..<200).map { _ in backoff.next(using: &random) }
        #expect(late.contains { $0 < .milliseconds(500) })
        #expect(late.contains { $0 > .milliseconds(1500) })
        backoff.reset()
        #expect(backoff.next(using: &random) <= .milliseconds(100))
    }

    @Test(
        "an error reply is told by its first word",
        arguments: [
            ("LOADING Redis is loading", RedisError.Code.loading, true),
            ("MASTERDOWN Link", .masterDown, true), ("READONLY You can't", .readOnly, true),
            ("NOAUTH Authentication", .noAuthentication, false),
            ("WRONGPASS invalid", .wrongPassword, false), ("NOPERM this", .noPermission, false),
            ("OOM command", .outOfMemory, true), ("ERR unknown", .serverReplied, false),
            ("", .serverReplied, false),
        ])
    func errorReplies(text: String, code: RedisError.Code, isRetriable: Bool) throws {
        let server = try ScriptedServer { side in
            side.answerHandshake()
            _ = side.readCommand()
            side.send("-\(text)\r\n")
            side.waitForHangUp()
        }
        let client = try Client(server.settings)
        #expect(client.becomesReady())
        let error = try #require(client.send(RedisCommand("GET").add("k")).error)
        #expect(error.code == code)
        #expect(error.detail == text)
        #expect(error.isRetriable == isRetriable)
        #expect(!error.mayHaveExecuted)
    }
}
