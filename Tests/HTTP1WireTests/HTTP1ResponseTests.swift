// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import Testing

private func parse(
    _ text: String,
    to method: HTTPMethod = .get
) throws(HTTP1Error) -> HTTP1ResponseHead? {
    let bytes = Array(text.utf8)
    var parser = HTTP1ResponseParser(method: method)
    guard case .head(let head, _) = try parser.parse(bytes.span) else { return nil }
    return head
}

@Suite("HTTP/1 response")
struct HTTP1ResponseTests {
    @Test("a response is written with the framing of its body")
    func encoding() {
        func encode(_ body: HTTP1ResponseHead.Body, status: Int = 200) -> String {
            var head = HTTP1ResponseHead(status: status, body: body)
            head.headers.append("Content-Type", "text/plain")
            var writer = ByteWriter()
            head.append(to: &writer)
            return String(decoding: writer.bytes, as: UTF8.self)
        }
        let start = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        #expect(encode(.length(5)) == start + "Content-Length: 5\r\n\r\n")
        #expect(encode(.length(0)) == start + "Content-Length: 0\r\n\r\n")
        #expect(encode(.chunked) == start + "Transfer-Encoding: chunked\r\n\r\n")
        #expect(encode(.untilClose) == start + "Connection: close\r\n\r\n")
        #expect(
            encode(.none, status: 799) == "HTTP/1.1 799 \r\nContent-Type: text/plain\r\n\r\n"
        )
    }

    @Test("a value from a peer cannot add a header or a body")
    func injection() throws {
        var head = HTTP1ResponseHead(status: 302, body: .length(0))
        head.headers.append("Location", "/x\r\nSet-Cookie: a=b\r\n\r\n<html>\u{0}")
        var writer = ByteWriter()
        head.append(to: &writer)
        let read = try #require(try parse(String(decoding: writer.bytes, as: UTF8.self)))
        #expect(read.headers.count == 2)
        #expect(read.headers.first("Location") == "/x  Set-Cookie: a=b    <html>")
    }

    @Test("a name that is no token stops the program, for it is one of its constants")
    func badName() async {
        await #expect(processExitsWith: .failure) {
            var headers = HTTPHeaders()
            headers.append("Bad Name", "x")
        }
    }

    @Test("what a server writes is what a client reads")
    func roundTrip() throws {
        for body in [HTTP1ResponseHead.Body.length(3), .chunked, .untilClose] {
            var head = HTTP1ResponseHead(status: 429, body: body, keepAlive: body == .chunked)
            head.headers.append("Retry-After", "3")
            var writer = ByteWriter()
            head.append(to: &writer)
            let read = try #require(try parse(String(decoding: writer.bytes, as: UTF8.self)))
            #expect(read.status == 429)
            #expect(read.body == body)
            #expect(read.keepAlive == head.keepAlive)
            #expect(read.headers.first("retry-after") == "3")
        }
    }

    @Test("an answer to HEAD, an interim one, 204 and 304 have no body, whatever they say")
    func withoutBody() throws {
        let fields = "Content-Length: 9\r\n\r\n"
        #expect(
            try parse("HTTP/1.1 200 OK\r\n" + fields, to: .head)?.body
                == HTTP1ResponseHead.Body.none)
        for status in [100, 101, 204, 304] {
            let head = try #require(try parse("HTTP/1.1 \(status) X\r\n" + fields))
            #expect(head.body == .none)
        }
    }

    @Test(
        "a response that is no HTTP/1 is refused",
        arguments: [
            "HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/1.1 099 X", "HTTP/1.1 600 X",
            "HTTP/2.0 200 OK",
            "HTTP/1.1  200", "ICY 200 OK", "HTTP/1.1 200 O\u{0}K", "http/1.1 200 OK", "",
        ]
    )
    func malformed(line: String) {
        do throws(HTTP1Error) {
            _ = try parse(line + "\r\n\r\n")
            Issue.record("read \(line)")
        } catch {
            #expect(error.code == .statusLineMalformed)
        }
    }

    @Test("a response with two lengths is refused by a client too")
    func smuggling() {
        do throws(HTTP1Error) {
            _ = try parse("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
            Issue.record("read it")
        } catch {
            #expect(error.code == .contentLengthRepeated)
        }
    }

    @Test("every status that an error can have has a phrase")
    func phrases() {
        for code in HTTP1Error.Code.allCases {
            #expect(HTTP1ResponseHead.reason(code.status).utf8CodeUnitCount > 0)
        }
    }
}

@Suite("Chunked body")
struct ChunkedBodyTests {
    private func code(_ text: String, limit: Int? = 1_000) -> HTTP1Error.Code? {
        var decoder = ChunkedBodyDecoder(maximumBodyBytes: limit)
        var body = ByteWriter()
        do throws(HTTP1Error) {
            _ = try decoder.decode(Array(text.utf8).span, into: &body)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("what was written in chunks is read, and the bytes after it are left")
    func roundTrip() throws {
        var writer = ByteWriter()
        let pieces = ["a", "", String(repeating: "b", count: 300), "\r\n0\r\n\r\n"]
        for piece in pieces { HTTP1ResponseHead.appendChunk(Array(piece.utf8).span, to: &writer) }
        HTTP1ResponseHead.appendLastChunk(to: &writer)
        let bytes = writer.bytes + Array("GET".utf8)
        var decoder = ChunkedBodyDecoder(maximumBodyBytes: nil)
        var body = ByteWriter()
        #expect(try decoder.decode(bytes.span, into: &body) == writer.count)
        #expect(decoder.isComplete)
        #expect(String(decoding: body.bytes, as: UTF8.self) == pieces.joined())
        #expect(decoder.bodyBytes == body.count)
        #expect(try decoder.decode(bytes.span, into: &body) == 0)
    }

    @Test("a body larger than its limit is refused by its size line, before its bytes")
    func tooLarge() {
        #expect(code("a\r\n", limit: 10) == nil)
        #expect(code("b\r\n", limit: 10) == .bodyTooLarge)
        #expect(code("a\r\n0123456789\r\n1\r\n", limit: 10) == .bodyTooLarge)
        #expect(code("fffffffffffffff\r\nx", limit: nil) == nil)
        #expect(code("1000000000000000\r\nx", limit: nil) == .chunkMalformed)
    }

    @Test("tiny chunks with long extensions are refused before they cost much")
    func overhead() {
        let tiny = "1;" + String(repeating: "x", count: 200) + "\r\na\r\n"
        #expect(code(String(repeating: tiny, count: 50)) == nil)
        #expect(code(String(repeating: tiny, count: 150)) == .chunkOverheadTooLarge)
        #expect(code(String(repeating: "1\r\na\r\n", count: 900)) == nil)
    }

    @Test("trailers are dropped, and bounded")
    func trailers() throws {
        #expect(code("0\r\nA: b\r\nC:\r\n\r\n") == nil)
        let trailer = "X: " + String(repeating: "y", count: 96) + "\r\n"
        #expect(code("0\r\n" + String(repeating: trailer, count: 41)) == .trailersTooLarge)
    }
}

@Suite("Problem details")
struct ProblemDetailsTests {
    @Test("a problem names the parameter, what was given and what would be accepted")
    func members() {
        let problem = ProblemDetails(
            status: 400,
            detail: "no such channel",
            parameter: "channel",
            given: "\"cameraz\"\r\n",
            accepted: ["cameras", "system"]
        )
        #expect(
            String(decoding: problem.json, as: UTF8.self) == #"""
                {"type":"about:blank","title":"Bad Request","status":400,\#
                "detail":"no such channel",\#
                "parameter":"channel","given":"\"cameraz\"\\u{d}\\u{a}",\#
                "accepted":["cameras","system"]}
                """#
        )
    }

    @Test("an answer stays small, whatever was given")
    func bounded() {
        let long = String(repeating: "\u{0}", count: 1_000_000)
        let problem = ProblemDetails(
            status: 400,
            detail: long,
            parameter: long,
            given: long,
            accepted: Array(repeating: "x", count: 10_000)
        )
        #expect(problem.json.count < 16 * 1024)
    }

    @Test("a refused request becomes a problem")
    func fromError() {
        let problem = ProblemDetails(HTTP1Error(.hostMissing, "a host", parameter: "Host"))
        #expect(problem.status == 400)
        #expect(problem.title == "Bad Request")
        #expect(problem.detail == "a host")
        #expect(problem.parameter == "Host")
    }
}
