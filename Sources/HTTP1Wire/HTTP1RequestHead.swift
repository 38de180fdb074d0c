// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A request up to its body, checked against RFC 9112.
package struct HTTP1RequestHead: Sendable, Hashable {
    package enum Body: Sendable, Hashable {
        case none
        /// So many bytes follow; never zero.
        case length(Int)
        /// Chunks follow, for a ``ChunkedBodyDecoder``.
        case chunked
    }

    package let method: HTTPMethod
    package let version: HTTPVersion
    package let headers: HTTPHeaders

    /// Whether the peer is willing to send another request over this connection.
    package let keepAlive: Bool

    /// Whether the peer waits for `100 Continue` before it sends the body.
    package let expectsContinue: Bool

    package let body: Body

    /// The host and port that the request is for; empty where an HTTP/1.0 request names none.
    package let authority: String

    private let requestTarget: RequestTarget

    /// Puts a request together, with the checks that a request from the wire gets.
    package init(
        method: HTTPMethod,
        target: String,
        headers: HTTPHeaders,
        version: HTTPVersion = .oneOne,
        limits: HTTP1Limits = HTTP1Limits()
    ) throws(HTTP1Error) {
        let bytes = Array(target.utf8)
        try self.init(
            method: method,
            target: try RequestTarget(bytes.span, 0..<bytes.count, method: method),
            headers: headers,
            version: version,
            limits: limits
        )
    }

    init(
        method: HTTPMethod,
        target: RequestTarget,
        headers: HTTPHeaders,
        version: HTTPVersion,
        limits: HTTP1Limits
    ) throws(HTTP1Error) {
        let rules = try MessageRules(headers, version: version)
        guard rules.host != nil || version == .oneZero else {
            throw HTTP1Error(.hostMissing, "an HTTP/1.1 request has a Host", parameter: "Host")
        }
        let length = rules.contentLength ?? 0
        guard length <= limits.bodyBytes else {
            throw HTTP1Error(
                .bodyTooLarge,
                "a body has at most \(limits.bodyBytes) bytes",
                parameter: "Content-Length",
                given: String(length)
            )
        }
        self.method = method
        self.version = version
        self.headers = headers
        requestTarget = target
        authority = target.authority ?? rules.host.map(headers.text) ?? ""
        keepAlive = rules.keepAlive(version)
        body = rules.isChunked ? .chunked : (length > 0 ? .length(length) : .none)
        expectsContinue = rules.expectsContinue && version == .oneOne && body != .none
    }

    /// The target as it was sent.
    package var target: String { requestTarget.text }

    /// The decoded path. It begins with a slash, or is `*`; it has no control character, and no
    /// segment that is `.` or `..`.
    package var path: String { requestTarget.path }

    /// What follows the question mark, not decoded; `nil` without one.
    package var query: String? { requestTarget.query }

    /// The decoded query. Its errors answer this request only; the connection is in order.
    package func parameters() throws(HTTP1Error) -> QueryParameters {
        try QueryParameters(query ?? "")
    }
}
