// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import HTTP1Wire
import PosixIO
import Testing

@testable import rivulet

@Suite("URLs")
struct ServerURLTests {
    @Test(
        "the scheme may be left out, and the rest is kept as it is",
        arguments: [
            ("http://h:8080/a/b?c=d#e", "h", 8080, "/a/b?c=d"), ("h:1", "h", 1, ""),
            ("HTTP://h/", "h", 80, "/"), ("h?x=http://y/", "h", 80, "/?x=http://y/"),
            ("[::1]:9/x", "::1", 9, "/x"), ("http://[::1]", "::1", 80, ""),
            ("localhost:8080/a:b@c", "localhost", 8080, "/a:b@c"),
        ])
    func accepted(text: String, host: String, port: Int, target: String) throws {
        let url = try ServerURL.parse(text)
        #expect(url == ServerURL(host: host, port: UInt16(port), target: target))
    }

    @Test(
        "anything else is refused with the reason and an example",
        arguments: [
            ("https://h/", "https is not spoken"), ("ftp://h/", "only http"), ("", "no host"),
            ("http://", "no host"), ("h:0", "no host"), ("h:65536", "no host"), ("h:x", "no host"),
            ("http://u:p@h/", "--header"), ("[::1", "no host"), ("[::1]x", "no host"),
            ("a b:1", "no host"), ("\u{1b}:1", "no host"),
        ])
    func refused(text: String, reason: String) {
        let error = #expect(throws: ProgramError.self) { try ServerURL.parse(text) }
        #expect(error?.detail.contains(reason) == true, "\(error?.detail ?? "")")
        #expect(error?.detail.contains("http://127.0.0.1:8080/") == true)
        #expect(error?.exitStatus == .usage)
    }

    @Test("a redirect may be a path or a whole URL")
    func redirects() throws {
        let url = try ServerURL.parse("h:1/a")
        #expect(try url.following("/b").text == "http://h:1/b")
        #expect(try url.following("http://g:2/c").text == "http://g:2/c")
        #expect(throws: ProgramError.self) { try url.following("https://g/") }
    }

    @Test("the host field leaves out HTTP's own port and keeps brackets")
    func authority() throws {
        #expect(try ServerURL.parse("h").authority == "h")
        #expect(try ServerURL.parse("[::1]:8").authority == "[::1]:8")
    }
}

@Suite("The wait before reconnecting")
struct ReconnectDelayTests {
    /// The same spread each time: none.
    struct Steady: RandomNumberGenerator { mutating func next() -> UInt64 { 0 } }

    @Test("it is what the server asked for, grows while it fails, and starts again")
    func growth() {
        var random = Steady()
        var delay = ReconnectDelay()
        delay.asked(for: .milliseconds(500))
        let waits = (0..<8).map { _ in delay.next(using: &random) }
        #expect(waits.prefix(3) == [.milliseconds(500), .seconds(1), .seconds(2)])
        #expect(waits.last == ReconnectDelay.grownMax)
        delay.succeeded()
        #expect(delay.next(using: &random) == .milliseconds(500))
    }

    @Test("what a server asks for is bounded")
    func bounds() {
        var random = Steady()
        var delay = ReconnectDelay()
        delay.asked(for: .zero)
        #expect(delay.next(using: &random) == .milliseconds(100))
        delay.asked(for: .seconds(1_000_000))
        delay.succeeded()
        #expect(delay.next(using: &random) == .seconds(60))
        let after = ReconnectDelay.after("99999999999", using: &random)
        #expect(after == ReconnectDelay.retryAfterMax)
    }

    @Test("it is never shorter than asked, and clients are spread")
    func spread() {
        var random = SystemRandomNumberGenerator()
        let waits = (0..<100).compactMap { _ in ReconnectDelay.after("10", using: &random) }
        #expect(waits.allSatisfy { $0 >= .seconds(10) && $0 < .seconds(13) })
        #expect(Set(waits).count > 50)
        #expect(ReconnectDelay.after("soon", using: &random) == nil)
        #expect(ReconnectDelay.after("-1", using: &random) == nil)
        #expect(ReconnectDelay.after(nil, using: &random) == nil)
    }
}

@Suite("Events as lines")
struct EventPrinterTests {
    func line(
        _ data: String, event: String = "update", id: String = "1-2", json: Bool,
        colours: Bool = false
    ) throws -> String {
        let printer = try EventPrinter(style: TerminalStyle(isColoured: colours), isJSON: json)
        var output = ByteWriter()
        let lines = data.split(separator: "\n", omittingEmptySubsequences: false)
        let fields = "id: \(id)\nevent: \(event)\n" + lines.map { "data: \($0)\n" }.joined()
        var parser = EventStreamParser()
        let bytes = Array((fields + "\n").utf8)
        let message = try #require(try parser.messages(in: bytes.span).first)
        printer.append(message, received: 1_763_683_200_123, to: &output)
        return String(decoding: output.bytes, as: UTF8.self)
    }

    @Test("for programs, data is JSON where it is JSON, and a string where not")
    func programs() throws {
        let object = try line("{ \"a\" : [ 1,\n 2 ] , \"b\" : \"x y\" }", json: true)
        #expect(
            object == "{\"id\":\"1-2\",\"event\":\"update\","
                + "\"data\":{\"a\":[1,2],\"b\":\"x y\"},\"received_ms\":1763683200123}\n")
        #expect(try line("hello", json: true).contains("\"data\":\"hello\","))
        #expect(try line("12", json: true).contains("\"data\":12,"))
        #expect(try line("{\"a\":", json: true).contains("\"data\":\"{\\\"a\\\":\","))
        #expect(try line("a\nb", json: true).contains("\"data\":\"a\\nb\","))
        #expect(try line("1", id: "", json: true).hasPrefix("{\"id\":null,"))
    }

    @Test("for people, a line has time, event, ID and compact data")
    func people() throws {
        let text = try line("{ \"a\": \"x \\\" y\" }", json: false)
        let words = text.split(separator: " ", maxSplits: 3)
        #expect(words[0].count == 12)
        #expect(words[0].hasSuffix(".123"))
        #expect(words[1...] == ["update", "1-2", "{\"a\":\"x \\\" y\"}\n"])
    }

    @Test("nothing an event holds can command a terminal or forge a line")
    func hostile() throws {
        let text = try line("\u{1b}[2J\nfake", event: "\u{1b}]0;x", id: "\u{7}", json: false)
        #expect(!text.unicodeScalars.contains { $0.value == 0x1b || $0.value == 7 })
        #expect(text.filter { $0 == "\n" }.count == 1)
        let coloured = try line("x", json: false, colours: true)
        #expect(coloured.contains("\u{1b}[36mupdate\u{1b}[0m"))
    }

    @Test("a gap says which events are missing and why")
    func gaps() throws {
        let data = "{\"from\":\"1-1\",\"to\":\"2-9\",\"reason\":\"trimmed\"}"
        let text = try line(data, event: "gap", json: false)
        #expect(text.contains("GAP: events are missing from 1-1 to 2-9: trimmed"))
        let counted = #"{"from":"1-1","to":"1-2","reason":"retention","lost":3246}"#
        #expect(
            try line(counted, event: "gap", json: false)
                .contains(
                    "GAP: events are missing from 1-1 to 1-2: retention, at most 3,246 events"))
        #expect(try line("what", event: "gap", json: false).contains("GAP: events are missing"))
        #expect(try line(data, event: "gap", json: true).contains("\"event\":\"gap\""))
    }
}

@Suite("Small JSON documents")
struct JSONValueTests {
    @Test("a document becomes a tree")
    func tree() throws {
        let text =
            " {\"a\": [1, -2.5e3, true, null, \"x\\n\\u00e9\\ud83d\\ude00\\\"\"], \"b\": {}} "
        let value = try #require(JSONValue.parse(Array(text.utf8)))
        #expect(value["a"]?.elements.count == 5)
        #expect(value["a"]?.elements[1] == .number("-2.5e3"))
        #expect(value["a"]?.elements[2] == .bool(true))
        #expect(value["a"]?.elements[4].text == "x\né😀\"")
        #expect(value["b"] == .object([]))
        #expect(value["c"] == nil)
    }

    @Test(
        "what is not JSON is nothing",
        arguments: ["", " ", "{", "{\"a\":}", "[1,]", "nul", "\"\\ud800\"", "<html>", "{}x"])
    func hostile(text: String) {
        #expect(JSONValue.parse(Array(text.utf8)) == nil)
    }

    @Test("channels are listed, alone or as a member, and anything else is no list")
    func channels() throws {
        let server = try ServerURL.parse("h:1")
        let style = TerminalStyle(isColoured: false)
        func lines(_ text: String) throws -> [String]? {
            let value = try #require(JSONValue.parse(Array(text.utf8)))
            return ChannelListing.lines(value, server: server, style: style)
        }
        let list = """
            [{"name":"cameras","description":"All.","topics":["a","b"],"url":"/s/cameras",
            "filters":[{"parameter":"zones"}]},{"name":"x"}]
            """
        let expected = [
            "cameras  All.", "    topics: a, b", "    filters: zones", "x",
            "\nfollow one: rivulet tail 'http://h:1/s/cameras'",
        ]
        #expect(try lines(list) == expected)
        #expect(try lines("{\"channels\":\(list)}") == expected)
        #expect(try lines("{\"channels\":[]}") == ["http://h:1: no channels"])
        #expect(try lines("{\"a\":1}") == nil)
        #expect(try lines("[1]") == nil)
    }
}

@Suite("Answers that are errors")
struct ProblemReportTests {
    func text(_ status: Int, _ body: String) -> String {
        let head = HTTP1ResponseHead(status: status, body: .untilClose)
        return ProblemReport.text(head, body: Array(body.utf8))
    }

    @Test("problem details become a paragraph")
    func problem() {
        let problem = ProblemDetails(
            status: 400, title: "Invalid parameter", detail: "A confidence is from 0 to 1.",
            parameter: "min_confidence", given: "7", accepted: ["0 to 1"])
        #expect(
            text(400, String(decoding: problem.json, as: UTF8.self)) == """
                400 Bad Request: Invalid parameter
                  A confidence is from 0 to 1.
                  parameter: min_confidence
                  given: 7
                  accepted: 0 to 1
                """)
    }

    @Test("anything else is shown by its first line, harmless")
    func others() {
        #expect(text(404, "") == "404 Not Found")
        #expect(text(502, "bad \u{1b}[2J\r\nmore") == "502 Bad Gateway: bad \\u{1b}[2J")
        #expect(text(418, "{\"a\":1}") == "418")
        #expect(text(404, "{\"title\":\"Not Found\"}") == "404 Not Found")
    }
}

@Suite("What a tail was asked to do")
struct TailSettingsTests {
    func refusal(_ arguments: String...) -> String {
        do {
            let parsed = try ArgumentParser.parse(arguments, for: TailCommand.specification)
            _ = try TailSettings(parsed)
            return "accepted"
        } catch { return error.detail }
    }

    @Test("headers are checked before anything is sent")
    func headers() {
        #expect(refusal("h:1", "-H", "X-A: b", "-H", "Authorization: Bearer x") == "accepted")
        #expect(refusal("h:1", "-H", "nocolon").contains("'Name: value'"))
        #expect(refusal("h:1", "-H", "Host: x").contains("by rivulet itself"))
        #expect(refusal("h:1", "-H", "a b: x").contains("not accepted"))
        #expect(refusal("h:1", "-H", "A: x\r\nB: y").contains("not accepted"))
        #expect(refusal("h:1", "--from", "1\n2").contains("--from"))
        #expect(refusal("h:1", "--count", "0").contains("whole number from 1"))
        #expect(refusal("h:1", "--timeout", "5").contains("a number with ms, s, m or h"))
    }
}

@Suite("The environment")
struct EnvironmentTests {
    @Test("entries without a name or with several equals signs are read as they are meant")
    func entries() {
        let bytes = Array("A=1\0B=x=y\0nothing\0\0C=".utf8)
        #expect(Environment.variables(in: bytes) == ["A": "1", "B": "x=y", "C": ""])
        #expect(Environment.all["PATH"] == Environment.value("PATH"))
    }
}
