// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import Testing

private func parse(
    _ text: String,
    limits: HTTP1Limits = HTTP1Limits()
) throws(HTTP1Error) -> HTTP1RequestHead? {
    let bytes = Array(text.utf8)
    var parser = HTTP1RequestParser(limits: limits)
    guard case .head(let head, let consumed) = try parser.parse(bytes.span) else { return nil }
    #expect(consumed <= bytes.count)
    return head
}

private func head(_ text: String) throws -> HTTP1RequestHead { try #require(try parse(text)) }

private func code(_ text: String, limits: HTTP1Limits = HTTP1Limits()) -> HTTP1Error.Code? {
    do throws(HTTP1Error) {
        _ = try parse(text, limits: limits)
        return nil
    } catch {
        return error.code
    }
}

@Suite("HTTP/1 request")
struct HTTP1RequestTests {
    @Test("a request is taken apart")
    func anatomy() throws {
        let request = try head(
            "GET /api/v1/sse/caf%C3%A9?a=1&b HTTP/1.1\r\nHOST: h:80\r\n"
                + "Accept:  x\t\r\naccept: y\r\n\r\n"
        )
        #expect(request.method == .get)
        #expect(request.target == "/api/v1/sse/caf%C3%A9?a=1&b")
        #expect(request.path == "/api/v1/sse/café")
        #expect(request.query == "a=1&b")
        #expect(request.version == .oneOne)
        #expect(request.authority == "h:80")
        #expect(request.body == .none)
        #expect(request.keepAlive)
        #expect(request.headers.first("Accept") == "x")
        #expect(request.headers.all("ACCEPT") == ["x", "y"])
        #expect(request.headers.first("Accep") == nil)
        #expect(request.headers.count == 3)
    }

    @Test("the bytes after a head are left for the next request")
    func consumed() throws {
        let first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        let bytes = Array((first + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").utf8)
        var parser = HTTP1RequestParser()
        guard case .head(let one, let consumed) = try parser.parse(bytes.span),
            case .head(let two, _) = try parser.parse(
                bytes.span.extracting(consumed..<bytes.count)
            )
        else {
            Issue.record("two requests were not read")
            return
        }
        #expect(consumed == first.utf8.count)
        #expect(one.path == "/1")
        #expect(two.path == "/2")
    }

    @Test("a parser knows whether a request has begun")
    func insideHead() throws {
        var parser = HTTP1RequestParser()
        #expect(try parser.parse([UInt8]().span) == .needMore)
        #expect(!parser.isInsideHead)
        let bytes = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        #expect(try parser.parse(bytes.span.extracting(0..<3)) == .needMore)
        #expect(parser.isInsideHead)
        _ = try parser.parse(bytes.span)
        #expect(!parser.isInsideHead)
    }

    @Test("an absolute target's host counts instead of the Host field")
    func absoluteTarget() throws {
        let request = try head("GET HTTP://[::1]:9?q HTTP/1.1\r\nHost: other\r\n\r\n")
        #expect(request.authority == "[::1]:9")
        #expect(request.path == "/")
        #expect(request.query == "q")
    }

    @Test(
        "a connection is kept as its version and its Connection field say",
        arguments: [
            ("1.1", nil, true), ("1.1", "close", false), ("1.1", "x, CLOSE", false),
            ("1.0", nil, false), ("1.0", "Keep-Alive", true), ("1.0", "keep-alive, close", false),
            ("1.1", "closed", true),
        ] as [(String, String?, Bool)]
    )
    func keepAlive(version: String, connection: String?, expected: Bool) throws {
        let field = connection.map { "Connection: \($0)\r\n" } ?? ""
        let request = try head("GET / HTTP/\(version)\r\nHost: a\r\n\(field)\r\n")
        #expect(request.keepAlive == expected)
    }

    @Test("a body is told by its length or by its chunks, and awaited only where there is one")
    func body() throws {
        let start = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
        let sized = try head(start + "Content-Length: 7\r\n\r\n")
        #expect(sized.body == .length(7))
        #expect(sized.expectsContinue)
        #expect(try head(start + "Transfer-Encoding: Chunked\r\n\r\n").body == .chunked)
        let empty = try head(start + "Content-Length: 0\r\n\r\n")
        #expect(empty.body == .none)
        #expect(!empty.expectsContinue)
    }

    @Test("each limit holds to the byte, and has its status")
    func limits() {
        let limits = HTTP1Limits(
            requestLineBytes: 20,
            headerBytes: 30,
            headerCount: 3,
            bodyBytes: 5
        )
        func header(_ fields: String) -> HTTP1Error.Code? {
            code("GET / HTTP/1.1\r\n\(fields)\r\n", limits: limits)
        }
        let host = "Host: a\r\n"
        #expect(code("GET /1234 HTTP/1.1\r\n\(host)\r\n", limits: limits) == nil)
        #expect(code("GET /12345 HTTP/1.1\r\n\(host)\r\n", limits: limits) == .targetTooLong)
        #expect(code("GET /1234567890123456", limits: limits) == .targetTooLong)
        #expect(header(host + "X: 12345678901234\r\n") == nil)
        #expect(header(host + "X: 123456789012345\r\n") == .headersTooLarge)
        #expect(header(host + "A: \r\nB: \r\n") == nil)
        #expect(header(host + "A: \r\nB: \r\nC: \r\n") == .tooManyHeaders)
        let post = "POST / HTTP/1.1\r\n\(host)Content-Length: "
        let roomy = HTTP1Limits(bodyBytes: 5)
        #expect(code(post + "5\r\n\r\n", limits: roomy) == nil)
        #expect(code(post + "6\r\n\r\n", limits: roomy) == .bodyTooLarge)
        #expect(HTTP1Error.Code.targetTooLong.status == 414)
        #expect(HTTP1Error.Code.headersTooLarge.status == 431)
        #expect(HTTP1Error.Code.tooManyHeaders.status == 431)
        #expect(HTTP1Error.Code.bodyTooLarge.status == 413)
        #expect(HTTP1Error.Code.transferEncodingUnsupported.status == 501)
        #expect(HTTP1Error.Code.versionUnsupported.status == 505)
        #expect(HTTP1Error.Code.contentLengthRepeated.status == 400)
    }

    @Test("a huge header is refused long before it has arrived")
    func hugeHeader() throws {
        let start = Array("GET / HTTP/1.1\r\nHost: a\r\nX: ".utf8)
        var parser = HTTP1RequestParser()
        #expect(try parser.parse(start.span) == .needMore)
        let more = start + [UInt8](repeating: 0x61, count: 17_000)
        do throws(HTTP1Error) {
            _ = try parser.parse(more.span)
            Issue.record("read on")
        } catch {
            #expect(error.code == .headersTooLarge)
        }
    }

    @Test("a request put together by the program gets the same checks")
    func synthetic() throws {
        var headers = HTTPHeaders()
        headers.append("Host", "a")
        let request = try HTTP1RequestHead(method: .get, target: "/x?y=1", headers: headers)
        #expect(request.path == "/x")
        #expect(try request.parameters().first("y") == "1")
        #expect(throws: HTTP1Error.self) {
            try HTTP1RequestHead(method: .get, target: "/../x", headers: headers)
        }
        do throws(HTTP1Error) {
            let (name, value) = (Array("x".utf8), Array("a\nb".utf8))
            try headers.append(received: name.span, value: value.span)
            Issue.record("took a value with a line break")
        } catch {
            #expect(error.parameter == "x")
        }
    }

    @Test("a request written by a client is what a server reads")
    func encoder() throws {
        var headers = HTTPHeaders()
        headers.append("Accept", "text/event-stream")
        var writer = ByteWriter()
        HTTP1RequestEncoder.append(
            method: .post,
            target: "/a b\r\nX: y?q=é#f",
            host: "h:1\r\nEvil: 1",
            headers: headers,
            bodyBytes: 3,
            keepAlive: false,
            to: &writer
        )
        #expect(
            String(decoding: writer.bytes, as: UTF8.self) == """
                POST /a%20b%0D%0AX:%20y?q=%C3%A9%23f HTTP/1.1\r\nHost: h:1  Evil: 1\r
                Content-Length: 3\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n
                """
        )
    }
}

@Suite("Query parameters")
struct QueryParametersTests {
    @Test("names and values come decoded and in order")
    func decoding() throws {
        let query = try QueryParameters("a=1&b=x%20y&b=z+w&&c&=d&e=f=g&%C3%A9=%2b")
        #expect(query.list.map(\.name) == ["a", "b", "b", "c", "", "e", "é"])
        #expect(query.list.map(\.value) == ["1", "x y", "z w", "", "d", "f=g", "+"])
        #expect(query.all("b") == ["x y", "z w"])
        #expect(query.first("b") == "x y")
        #expect(query.first("B") == nil)
        #expect(try QueryParameters("").list.isEmpty)
    }

    @Test(
        "an escape that is incomplete or not UTF-8 is refused, and the parameter named",
        arguments: [
            "a=1&since=%", "since=%4", "since=%zz", "since=%ff", "since=%c0%af", "since=%ed%a0%80",
        ]
    )
    func malformed(text: String) {
        do throws(HTTP1Error) {
            let query = try QueryParameters(text)
            Issue.record("read \(query)")
        } catch {
            #expect(error.code == .parameterMalformed)
            #expect(error.parameter == "since")
            #expect(error.given?.hasPrefix("%") == true)
        }
    }

    @Test("a name that cannot be decoded is quoted as it came")
    func malformedName() {
        do throws(HTTP1Error) {
            _ = try QueryParameters("%ffx=1")
            Issue.record("read it")
        } catch {
            #expect(error.parameter == "%ffx")
        }
    }

    @Test("a query has a limited number of parameters")
    func bounded() throws {
        let hundred = Array(repeating: "a=1", count: 100).joined(separator: "&")
        #expect(try QueryParameters(hundred).list.count == 100)
        do throws(HTTP1Error) {
            _ = try QueryParameters(hundred + "&a=1")
            Issue.record("read 101")
        } catch {
            #expect(error.code == .tooManyParameters)
        }
    }
}
