// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import HTTP1Wire

/// What a reader of HTTP/1 makes of a stream of bytes that arrives in pieces.
///
/// Two readings of the same bytes must be equal, however the pieces were cut; that is what is
/// fuzzed.
package struct Exchange: Equatable {
    package enum Entry: Equatable {
        case request(HTTP1RequestHead)
        case response(HTTP1ResponseHead)
        case body([UInt8])
        case failed(HTTP1Error.Code)
    }

    private enum Expected {
        case head
        case length(Int)
        case chunked(ChunkedBodyDecoder)
        case rest
        case nothing
    }

    package private(set) var entries: [Entry] = []

    private var requests: HTTP1RequestParser?
    private var responses: HTTP1ResponseParser?
    private let limits: HTTP1Limits
    private var expected = Expected.head
    private var unread: [UInt8] = []

    /// Small, so that short inputs reach them.
    package static let fuzzLimits = HTTP1Limits(
        requestLineBytes: 200,
        headerBytes: 400,
        headerCount: 8,
        bodyBytes: 100
    )

    private init(limits: HTTP1Limits) { self.limits = limits }

    package static func requests(
        in bytes: [UInt8],
        pieceBytes: Int,
        limits: HTTP1Limits = fuzzLimits
    ) -> Exchange {
        var exchange = Exchange(limits: limits)
        exchange.requests = HTTP1RequestParser(limits: limits)
        exchange.read(bytes, pieceBytes: pieceBytes)
        return exchange
    }

    package static func responses(
        in bytes: [UInt8],
        to method: HTTPMethod,
        pieceBytes: Int,
        limits: HTTP1Limits = fuzzLimits
    ) -> Exchange {
        var exchange = Exchange(limits: limits)
        exchange.responses = HTTP1ResponseParser(method: method, limits: limits)
        exchange.read(bytes, pieceBytes: pieceBytes)
        return exchange
    }

    package static func == (left: Exchange, right: Exchange) -> Bool {
        left.entries == right.entries
    }

    private mutating func read(_ bytes: [UInt8], pieceBytes: Int) {
        var start = 0
        while start < bytes.count {
            let end = start + min(pieceBytes, bytes.count - start)
            unread += bytes[start..<end]
            start = end
            do throws(HTTP1Error) {
                var goesOn = true
                while goesOn { goesOn = try advance() }
            } catch {
                entries.append(.failed(error.code))
                expected = .nothing
            }
        }
    }

    /// - Returns: Whether there may be more to do with what is there.
    private mutating func advance() throws(HTTP1Error) -> Bool {
        guard !unread.isEmpty else { return false }
        switch expected {
        case .nothing:
            unread.removeAll()
            return false
        case .head:
            return try readHead()
        case .rest:
            appendBody(unread)
            unread.removeAll()
            return false
        case .length(let length):
            let taken = min(length, unread.count)
            appendBody(Array(unread[..<taken]))
            unread.removeFirst(taken)
            expected = taken == length ? .head : .length(length - taken)
            return true
        case .chunked(var decoder):
            var body = ByteWriter()
            let consumed: Int
            do throws(HTTP1Error) {
                consumed = try decoder.decode(unread.span, into: &body)
            } catch {
                appendBody(body.bytes)
                throw error
            }
            appendBody(body.bytes)
            unread.removeFirst(consumed)
            expected = decoder.isComplete ? .head : .chunked(decoder)
            return true
        }
    }

    private mutating func readHead() throws(HTTP1Error) -> Bool {
        let input = unread
        if case .head(let head, let consumed)? = try requests?.parse(input.span) {
            entries.append(.request(head))
            unread.removeFirst(consumed)
            expected =
                switch head.body {
                case .none: .head
                case .length(let length): .length(length)
                case .chunked: .chunked(ChunkedBodyDecoder(maximumBodyBytes: limits.bodyBytes))
                }
            return true
        }
        if case .head(let head, let consumed)? = try responses?.parse(input.span) {
            entries.append(.response(head))
            unread.removeFirst(consumed)
            expected =
                switch head.body {
                case .none: .head
                case .length(let length): length > 0 ? .length(length) : .head
                case .chunked: .chunked(ChunkedBodyDecoder(maximumBodyBytes: limits.bodyBytes))
                case .untilClose: .rest
                }
            return true
        }
        return false
    }

    private mutating func appendBody(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        if case .body(let earlier)? = entries.last {
            entries[entries.count - 1] = .body(earlier + bytes)
        } else {
            entries.append(.body(bytes))
        }
    }
}
