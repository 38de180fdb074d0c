// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire
import HTTP1Wire
import PosixIO

/// What `rivulet tail` was asked to do.
struct TailSettings: Sendable {
    static let headersMax = 64
    /// Written by the program itself.
    private static let ownHeaders = [
        "host", "connection", "content-length", "transfer-encoding", "accept-encoding",
        "last-event-id",
    ]

    let url: ServerURL
    let isJSON: Bool
    /// The cursor to start from; empty for none.
    let from: [UInt8]
    let reconnects: Bool
    /// Events after which it is done.
    let count: Int?
    /// Time after which it is done.
    let timeout: Duration?
    /// A stream that is silent for this long, heartbeats included, is taken for dead.
    let idleTimeout: Duration
    let headers: HTTPHeaders

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        url = try Self.url(arguments)
        isJSON = arguments.has("json")
        from = Array((arguments.value("from") ?? "").utf8)
        guard from.count <= 1_024, from.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            throw arguments.refusal(
                "from", accepted: "an event ID as it was received, of up to 1024 bytes")
        }
        reconnects = !arguments.has("no-reconnect")
        count = try arguments.integer("count", in: 1...Int.max)
        timeout = try arguments.duration("timeout", in: .milliseconds(1)...(.seconds(31_536_000)))
        idleTimeout =
            try arguments.duration("idle-timeout", in: .milliseconds(100)...(.seconds(86_400)))
            ?? .seconds(60)
        headers = try Self.headers(arguments)
    }

    /// Options that are parameters of the request: the server knows what they may be.
    static let parameters = ["since", "history", "until", "speed"]

    /// The operand, with the options that belong into its query.
    private static func url(_ arguments: ParsedArguments) throws(ProgramError) -> ServerURL {
        var url = try ServerURL.parse(arguments.operands[0])
        let given = parameters.compactMap { name in arguments.value(name).map { (name, $0) } }
        if arguments.has("from"), let (name, _) = given.first(where: { $0.0 != "until" }),
            name != "speed"
        {
            throw arguments.refuse("--from and --\(name) are two beginnings; give one of them")
        }
        guard !given.isEmpty else { return url }
        guard !url.isServerOnly else {
            throw arguments.refuse("--\(given[0].0) needs a stream; the URL has only a server")
        }
        for (name, value) in given {
            guard !url.hasParameter(name) else {
                throw arguments.refuse("the URL has the parameter \(name) already")
            }
            guard value.utf8.count <= 128 else {
                throw arguments.refuse("--\(name) is too long")
            }
            let separator = url.target.contains("?") ? "&" : "?"
            url = url.with(
                target: url.target + separator + "\(name)=\(PercentCoding.encode(value))")
        }
        return url
    }

    /// Reads `Name: value` options.
    static func headers(_ arguments: ParsedArguments) throws(ProgramError) -> HTTPHeaders {
        let given = arguments.values("header")
        guard given.count <= headersMax else {
            throw arguments.refuse("\(given.count) headers; at most \(headersMax)")
        }
        var headers = HTTPHeaders()
        for text in given {
            let shown = ArgumentParser.shown(text)
            guard let colon = text.firstIndex(of: ":") else {
                throw arguments.refuse("--header \"\(shown)\" is not accepted; write 'Name: value'")
            }
            guard !ownHeaders.contains(text[..<colon].lowercased()) else {
                throw arguments.refuse("--header \"\(shown)\" is written by rivulet itself")
            }
            let name = Array(text[..<colon].utf8)
            let value = Array(text[colon...].dropFirst().drop { $0 == " " }.utf8)
            do {
                try headers.append(received: name.span, value: value.span)
            } catch {
                throw arguments.refuse("--header \"\(shown)\" is not accepted: \(error.detail)")
            }
        }
        return headers
    }
}
