// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import rivulet

@Suite("The program tail", .timeLimit(.minutes(2)))
struct TailProgramTests {
    /// Answers as short as they can be wait a tenth of a second before the next attempt.
    static let retry = "retry: 100\n\n"

    func event(_ id: Int, _ data: String = "{}") -> String {
        "id: 1-\(id)\nevent: update\ndata: \(data)\n\n"
    }

    func tail(_ server: ScriptedServer, _ arguments: String...) throws -> Child {
        try Child(["tail", "http://\(server.address)/s?a=b", "--json"] + arguments)
    }

    @Test("events are printed as they come, and the count ends it")
    func count() throws {
        let server = try ScriptedServer([
            .stream(event(1, "{ \"a\": 1 }") + event(2, "plain") + event(3), staysOpen: true)
        ])
        let tail = try tail(server, "-n", "2")
        #expect(tail.exit() == 0)
        let lines = tail.output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasPrefix("{\"id\":\"1-1\",\"event\":\"update\",\"data\":{\"a\":1},"))
        #expect(lines[1].hasPrefix("{\"id\":\"1-2\",\"event\":\"update\",\"data\":\"plain\","))
        let request = server.requests[0]
        #expect(request.hasPrefix("GET /s?a=b HTTP/1.1\r\nHost: \(server.address)\r\n"))
        #expect(request.contains("\r\nAccept: text/event-stream\r\n"))
        #expect(!request.lowercased().contains("accept-encoding"))
        #expect(!request.contains("Last-Event-ID"))
    }

    @Test("it resumes after the last event, over any kind of body, and says so")
    func resumes() throws {
        let chunk = event(2)
        let size = String(chunk.utf8.count, radix: 16)
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        let server = try ScriptedServer([
            .stream(Self.retry + event(1) + "id: 1-9\ndata: cut of"),
            .init(
                text: head + "Transfer-Encoding: chunked\r\n\r\n\(size)\r\n\(chunk)\r\n0\r\n\r\n"),
            .init(text: head + "Content-Length: \(chunk.utf8.count)\r\n\r\n\(event(3))"),
            .init(text: head + "Content-Length: 1000\r\n\r\n\(event(4))"),
            .stream(event(5), staysOpen: true),
        ])
        let tail = try tail(server, "-n", "5", "--from", "1-0", "-H", "X-Key: secret")
        #expect(tail.exit() == 0, "\(tail.errors)")
        let ids = tail.output.split(separator: "\n").map { $0.prefix { $0 != "," } }
        #expect(ids == (1...5).map { "{\"id\":\"1-\($0)\"" })
        for (index, request) in server.requests.enumerated() {
            #expect(request.contains("\r\nLast-Event-ID: 1-\(index)\r\n"))
            #expect(request.contains("\r\nX-Key: secret\r\n"))
        }
        #expect(
            tail.errors.contains("the server ended the stream; reconnecting in 0.1 s after 1-1"))
        #expect(tail.errors.contains("cut in the middle"))
    }

    @Test("a gap is shown loudly and does not count")
    func gap() throws {
        let gap =
            "id: 1-5\nevent: gap\n"
            + "data: {\"from\":\"1-1\",\"to\":\"1-5\",\"reason\":\"trimmed\"}\n\n"
        let answer = ScriptedServer.Answer.stream(gap + event(6), staysOpen: true)
        let server = try ScriptedServer([answer, answer])
        let machine = try tail(server, "-n", "1")
        #expect(machine.exit() == 0)
        #expect(machine.output.contains("\"event\":\"gap\""))
        #expect(machine.output.contains("\"id\":\"1-6\""))
        #expect(machine.errors.contains("GAP: events are missing from 1-1 to 1-5: trimmed"))
        let people = try Child(["tail", "http://\(server.address)/s", "-n", "1"])
        #expect(people.exit() == 0)
        #expect(people.output.contains(" GAP: events are missing from 1-1 to 1-5: trimmed\n"))
        #expect(people.output.contains(" update 1-6 {}\n"))
        #expect(!people.output.contains("\u{1b}"))
    }

    private static let end =
        "id: 1-18446744073709551615\nevent: end\n"
        + "data: {\"reason\":\"until\",\"until\":\"2026-11-27T09:00:00.000Z\",\"count\":2}\n\n"

    @Test("the end of a bounded stream is shown and ends it, and an event of that name does not")
    func bounded() throws {
        let own = "id: 1-3\nevent: end\ndata: {}\n\n"
        let server = try ScriptedServer([
            .stream(Self.retry + event(2)),
            .stream(own + Self.end + event(4), staysOpen: true),
            .stream(event(2) + Self.end, staysOpen: true),
            .stream(event(2) + Self.end, staysOpen: true),
        ])
        let machine = try tail(server, "--since", "2026-11-27T08:00:00+00:00", "--until", "5m")
        #expect(machine.exit() == 0, "\(machine.errors)")
        let names = machine.output.split(separator: "\n").map { $0.split(separator: "\"")[7] }
        #expect(names == ["update", "end", "end"])
        #expect(machine.errors.contains("the stream is over before 2026-11-27T09:00:00.000Z"))
        // What the options said stays in the URL when it comes back; the ID wins over --since.
        for request in server.requests {
            let query = "GET /s?a=b&since=2026-11-27T08%3A00%3A00%2B00%3A00&until=5m HTTP/1.1\r\n"
            #expect(request.hasPrefix(query), "\(request)")
        }
        #expect(server.requests[1].contains("\r\nLast-Event-ID: 1-2\r\n"))
        let people = try Child(["tail", "http://\(server.address)/s", "--history", "2"])
        #expect(people.exit() == 0)
        #expect(
            people.output.contains(
                " END: the stream is over before 2026-11-27T09:00:00.000Z, after 2 events\n"))
        let counted = try tail(server, "-n", "2", "--until", "5m")
        #expect(counted.exit() == 1)
        #expect(counted.errors.contains("the stream is over after 1 of 2 events"))
    }

    @Test(
        "options that contradict the URL or each other are refused",
        arguments: [
            (["h/s?since=5m", "--since", "5m"], "the URL has the parameter since already"),
            (
                ["h/s", "--from", "1-1", "--history", "3"],
                "--from and --history are two beginnings"
            ),
            (["h:80", "--until", "5m"], "--until needs a stream"),
        ])
    func contradictions(_ arguments: [String], _ reason: String) throws {
        let child = try Child(["tail"] + arguments)
        #expect(child.exit() == 64)
        #expect(child.errors.contains(reason), "\(child.errors)")
    }

    @Test("a refusal is explained and ends it")
    func refused() throws {
        let problem =
            "{\"title\":\"Unknown parameter\",\"detail\":\"No such filter.\","
            + "\"parameter\":\"camra\",\"accepted\":[\"camera_ids\",\"zones\"]}"
        let server = try ScriptedServer([
            .status("400 Bad Request", "Content-Type: application/problem+json\r\n", body: problem)
        ])
        let tail = try tail(server)
        #expect(tail.exit() == 1)
        #expect(tail.errors.contains("400 Bad Request: Unknown parameter\n  No such filter.\n"))
        #expect(tail.errors.contains("  parameter: camra\n  accepted: camera_ids, zones\n"))
        #expect(server.requests.count == 1)
    }

    @Test("a server at its limit is asked again when it said so")
    func retryAfter() throws {
        let server = try ScriptedServer([
            .status("503 Service Unavailable", "Retry-After: 1\r\n", body: "{\"title\":\"Full\"}"),
            .status("429 Too Many Requests", "Retry-After: 0\r\n"),
            .stream(event(1), staysOpen: true),
        ])
        let tail = try tail(server, "-n", "1")
        #expect(tail.exit() == 0, "\(tail.errors)")
        #expect(tail.errors.contains("503 Service Unavailable: Full; reconnecting in 1"))
        #expect(tail.errors.contains("429 Too Many Requests; reconnecting in 0 s"))
    }

    @Test("redirects are followed, but not for ever")
    func redirects() throws {
        let server = try ScriptedServer([
            .status("307 Temporary Redirect", "Location: /t\r\n"),
            .stream(event(1), staysOpen: true),
        ])
        #expect(try tail(server, "-n", "1").exit() == 0)
        #expect(server.requests[1].hasPrefix("GET /t HTTP/1.1"))
        let circle = try ScriptedServer(
            [ScriptedServer.Answer](
                repeating: .status("302 Found", "Location: /s\r\n"), count: 10))
        let lost = try tail(circle)
        #expect(lost.exit() == 1)
        #expect(lost.errors.contains("more than 5 redirects"))
    }

    @Test("what is no event stream, or no HTTP, is named as such")
    func notAStream() throws {
        let page = try ScriptedServer([
            .status("200 OK", "Content-Type: text/html\r\n", body: "<html>")
        ])
        let html = try tail(page)
        #expect(html.exit() == 1)
        #expect(html.errors.contains("is no event stream: it answers with text/html"))
        let other = try ScriptedServer([.init(text: "SSH-2.0-OpenSSH_9\r\n\r\n")])
        let strange = try tail(other)
        #expect(strange.exit() == 1)
        #expect(strange.errors.contains("does not answer in HTTP"))
    }

    @Test("a server that ends the stream for good is not asked again")
    func noContent() throws {
        let server = try ScriptedServer([.init(text: "HTTP/1.1 204 No Content\r\n\r\n")])
        let tail = try tail(server)
        #expect(tail.exit() == 0)
        #expect(tail.errors.contains("(204)"))
    }

    @Test("without reconnecting, the end of the stream is the end")
    func noReconnect() throws {
        let server = try ScriptedServer([.stream(event(1)), .stream(event(1))])
        #expect(try tail(server, "--no-reconnect").exit() == 0)
        #expect(try tail(server, "--no-reconnect", "-n", "2").exit() == 1)
        let nobody = try Child.run(["tail", "127.0.0.1:1/s", "--no-reconnect"])
        #expect(nobody.exit() == 69)
        #expect(nobody.errors.contains("cannot connect to 127.0.0.1:1: Connection refused"))
    }

    @Test("time limits: one for all, one for silence")
    func timeouts() throws {
        let server = try ScriptedServer([
            .stream(event(1), staysOpen: true), .stream(event(1), staysOpen: true),
            .stream(Self.retry + event(1), staysOpen: true), .stream(event(2), staysOpen: true),
        ])
        let enough = try tail(server, "--timeout", "300ms")
        #expect(enough.exit() == 0)
        let few = try tail(server, "--timeout", "2s", "-n", "2")
        #expect(few.exit() == 1)
        #expect(few.errors.contains("after 1 of 2 events"))
        let silent = try tail(server, "--idle-timeout", "200ms", "-n", "2")
        #expect(silent.exit() == 0, "\(silent.errors)")
        #expect(silent.errors.contains("not even a heartbeat for 200ms; reconnecting"))
    }

    @Test("a signal ends it cleanly, while it waits for events or for the next attempt")
    func interrupted() throws {
        let server = try ScriptedServer([.stream(event(1), staysOpen: true)])
        let waiting = try tail(server)
        #expect(waiting.wait { $0.output.contains("1-1") })
        waiting.signal(SIGINT)
        #expect(waiting.exit() == 130)
        #expect(waiting.errors.isEmpty)
        let retrying = try Child(["tail", "127.0.0.1:1/s"])
        #expect(retrying.wait { $0.errors.contains("reconnecting in") })
        retrying.signal(SIGTERM)
        #expect(retrying.exit() == 143)
    }

    @Test("a reader that goes away ends it quietly, even where nothing more comes")
    func brokenPipe() throws {
        let server = try ScriptedServer([.stream(event(1), staysOpen: true)])
        let tail = try tail(server)
        #expect(tail.wait { $0.output.contains("1-1") })
        tail.closeOutput()
        #expect(tail.exit() == 0)
        #expect(tail.errors.isEmpty)
    }

    @Test("with only a server it lists the channels")
    func channels() throws {
        let body = "{\"channels\":[{\"name\":\"cameras\",\"description\":\"All of them.\"}]}"
        let answer = ScriptedServer.Answer.status(
            "200 OK", "Content-Type: application/json\r\n", body: body)
        let server = try ScriptedServer([answer, answer, .status("404 Not Found")])
        let list = try Child.run(["tail", server.address])
        #expect(list.exit() == 0)
        #expect(list.output.hasPrefix("cameras  All of them.\n"))
        #expect(server.requests[0].hasPrefix("GET /api/v1/channels HTTP/1.1\r\n"))
        #expect(try Child.run(["tail", server.address, "--json"]).output == body + "\n")
        #expect(try Child.run(["tail", server.address]).exit() == 1)
    }
}

@Suite("The program health", .timeLimit(.minutes(1)))
struct HealthProgramTests {
    @Test("it exits by the status and prints the answer")
    func status() throws {
        let server = try ScriptedServer([
            .status("200 OK", body: "{\"status\":\"degraded\"}\n"),
            .status("503 Service Unavailable", body: "{\"title\":\"starting\"}"),
            .status("200 OK"),
        ])
        let ready = try Child.run(["health", server.address])
        #expect(ready.exit() == 0)
        #expect(ready.output == "{\"status\":\"degraded\"}\n")
        #expect(server.requests[0].hasPrefix("GET /readyz HTTP/1.1\r\n"))
        let starting = try Child.run(["health", server.address])
        #expect(starting.exit() == 1)
        #expect(starting.errors.contains("503 Service Unavailable: starting"))
        let quiet = try Child.run(["health", "-q", "http://\(server.address)/healthz"])
        #expect(quiet.exit() == 0)
        #expect(quiet.output.isEmpty)
        #expect(server.requests[2].hasPrefix("GET /healthz "))
    }

    @Test("a node that is silent or not there is not ready")
    func absent() throws {
        let server = try ScriptedServer([.init(text: "", staysOpen: true)])
        let silent = try Child.run(["health", server.address, "--timeout", "200ms"])
        #expect(silent.exit() == 1)
        #expect(silent.errors.contains("does not answer"))
        #expect(try Child.run(["health", "127.0.0.1:1"]).exit() == 1)
    }
}
