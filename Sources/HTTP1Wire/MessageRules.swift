// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// What the header fields of a message say about its body and its connection (RFC 9112, sections
/// 6 and 9).
///
/// Everything two readers could understand differently is refused, because that difference is
/// what request smuggling lives on.
struct MessageRules {
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    private(set) var host: Range<Int>?
    private(set) var closes = false
    private(set) var keepsAlive = false
    private(set) var expectsContinue = false
    private var hasTransferEncoding = false
    private var chunkedIsLast = false
    private var otherCoding: Range<Int>?

    init(_ headers: HTTPHeaders, version: HTTPVersion) throws(HTTP1Error) {
        for field in headers.fields {
            // The length tells the few names that count apart, nearly always.
            switch field.name.count {
            case 4 where headers.matches(field.name, "host"):
                try readHost(field, headers)
            case 6 where headers.matches(field.name, "expect"):
                try readExpectation(field, headers)
            case 10 where headers.matches(field.name, "connection"):
                readConnection(field, headers)
            case 14 where headers.matches(field.name, "content-length"):
                try readContentLength(field, headers)
            case 17 where headers.matches(field.name, "transfer-encoding"):
                try readTransferEncoding(field, headers, version)
            default:
                continue
            }
        }
        guard hasTransferEncoding else { return }
        guard contentLength == nil else {
            throw HTTP1Error(
                .contentLengthWithTransferEncoding,
                "a message has Content-Length or Transfer-Encoding, not both"
            )
        }
        if let otherCoding {
            throw HTTP1Error(
                .transferEncodingUnsupported,
                "chunked is the only transfer coding",
                parameter: "Transfer-Encoding",
                given: headers.display(otherCoding)
            )
        }
        isChunked = true
    }

    private mutating func readHost(
        _ field: HTTPHeaders.Field,
        _ headers: HTTPHeaders
    ) throws(HTTP1Error) {
        guard host == nil else {
            throw HTTP1Error(.hostRepeated, "a request has one Host", parameter: "Host")
        }
        try Self.checkAuthority(headers, field.value)
        host = field.value
    }

    private static func checkAuthority(
        _ headers: HTTPHeaders,
        _ range: Range<Int>
    ) throws(HTTP1Error) {
        for index in range where !RequestTarget.isAuthority(headers.byte(index)) {
            throw HTTP1Error(
                .hostMalformed,
                "a host is a name or an address, with a port if need be",
                parameter: "Host",
                given: headers.display(range)
            )
        }
    }

    private mutating func readExpectation(
        _ field: HTTPHeaders.Field,
        _ headers: HTTPHeaders
    ) throws(HTTP1Error) {
        guard headers.matches(field.value, "100-continue") else {
            throw HTTP1Error(
                .expectationUnsupported,
                "100-continue is the only expectation",
                parameter: "Expect",
                given: headers.display(field.value)
            )
        }
        expectsContinue = true
    }

    private mutating func readConnection(_ field: HTTPHeaders.Field, _ headers: HTTPHeaders) {
        headers.forEachElement(of: field) { element in
            if headers.matches(element, "close") { closes = true }
            if headers.matches(element, "keep-alive") { keepsAlive = true }
        }
    }

    private mutating func readContentLength(
        _ field: HTTPHeaders.Field,
        _ headers: HTTPHeaders
    ) throws(HTTP1Error) {
        guard contentLength == nil else {
            throw HTTP1Error(
                .contentLengthRepeated,
                "a message has one Content-Length",
                parameter: "Content-Length",
                given: headers.display(field.value)
            )
        }
        guard let length = headers.decimal(field.value).flatMap({ Int(exactly: $0) }) else {
            throw HTTP1Error(
                .contentLengthMalformed,
                "a length is decimal digits, at most \(Int.max)",
                parameter: "Content-Length",
                given: headers.display(field.value)
            )
        }
        contentLength = length
    }

    private mutating func readTransferEncoding(
        _ field: HTTPHeaders.Field,
        _ headers: HTTPHeaders,
        _ version: HTTPVersion
    ) throws(HTTP1Error) {
        hasTransferEncoding = true
        // Also true over several fields: nothing may follow "chunked", not even itself.
        var isMalformed = version == .oneZero
        headers.forEachElement(of: field) { element in
            isMalformed = isMalformed || chunkedIsLast || element.isEmpty
            if headers.matches(element, "chunked") {
                chunkedIsLast = true
            } else {
                otherCoding = element
            }
        }
        guard !isMalformed else {
            throw HTTP1Error(
                .transferEncodingMalformed,
                "HTTP/1.1 ends the list of transfer codings with one chunked, HTTP/1.0 has none",
                parameter: "Transfer-Encoding",
                given: headers.display(field.value)
            )
        }
    }

    func keepAlive(_ version: HTTPVersion) -> Bool {
        !closes && (version == .oneOne || keepsAlive)
    }
}
