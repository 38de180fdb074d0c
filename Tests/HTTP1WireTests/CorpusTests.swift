// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import FuzzHTTP1
import HTTP1Wire
import Testing

/// What each file of the corpus that is refused is refused for.
private let refusals: [(HTTP1Error.Code, files: [String])] = [
    (.bareLineFeed, ["bare-lf", "bare-lf-in-header"]),
    (.bareCarriageReturn, ["bare-cr-in-header", "bare-cr-in-target", "bare-cr-in-name"]),
    (.foldedHeader, ["obs-fold", "obs-fold-tab", "blank-before-first-header"]),
    (
        .headerMalformed,
        [
            "space-before-colon", "tab-before-colon", "nul-in-value", "nul-in-name",
            "escape-in-value", "no-colon", "empty-name", "name-not-token",
            "chunked-with-vertical-tab",
        ]
    ),
    (.hostMissing, ["missing-host"]),
    (.hostRepeated, ["two-hosts", "two-equal-hosts"]),
    (.hostMalformed, ["host-list", "host-with-user"]),
    (.contentLengthRepeated, ["conflicting-lengths", "repeated-equal-lengths"]),
    (
        .contentLengthMalformed,
        [
            "length-list", "negative-length", "plus-length", "hex-length", "empty-length",
            "length-overflow", "length-above-int",
        ]
    ),
    (.bodyTooLarge, ["length-above-limit"]),
    (.contentLengthWithTransferEncoding, ["length-and-chunked", "chunked-and-length"]),
    (
        .transferEncodingMalformed,
        [
            "chunked-not-last", "chunked-twice", "chunked-twice-in-two-fields",
            "chunked-then-identity-field", "empty-transfer-encoding", "chunked-over-http10",
        ]
    ),
    (
        .transferEncodingUnsupported,
        ["gzip-chunked", "gzip-alone", "xchunked", "chunked-in-quotes"]
    ),
    (.expectationUnsupported, ["expectation-unknown"]),
    (.versionUnsupported, ["version-2", "version-12"]),
    (.methodTooLong, ["method-long"]),
    (
        .requestLineMalformed,
        [
            "version-09", "version-lowercase", "version-long", "version-trailing-blank",
            "two-blanks", "tab-separated", "target-with-blank", "method-not-token", "tls-hello",
            "two-leading-crlf",
        ]
    ),
    (
        .targetMalformed,
        [
            "target-with-fragment", "target-not-ascii", "target-with-control", "target-relative",
            "target-authority", "target-with-user", "target-without-host", "asterisk-with-get",
            "dot-segments", "dot-segments-escaped", "dot-segment-last", "slash-escaped",
            "nul-escaped", "newline-escaped", "escape-cut", "escape-not-hex", "escape-not-utf8",
            "escape-overlong-utf8",
        ]
    ),
]

/// What a file is refused for after its request's head was accepted.
private let bodyRefusals: [(HTTP1Error.Code, files: [String])] = [
    (
        .chunkMalformed,
        [
            "chunk-size-overflow", "chunk-size-negative", "chunk-size-prefixed",
            "chunk-size-empty", "chunk-size-blank", "chunk-bare-lf", "chunk-extension-bare-lf",
            "chunk-extension-long", "chunk-data-long",
        ]
    ),
    (.bareCarriageReturn, ["chunk-extension-bare-cr"]),
    (.bodyTooLarge, ["chunk-size-huge"]),
    (.headerMalformed, ["chunk-trailer-folded", "chunk-trailer-bare-lf"]),
]

private func pairs(_ table: [(HTTP1Error.Code, files: [String])]) -> [(String, HTTP1Error.Code)] {
    table.flatMap { row in row.files.map { ($0, row.0) } }
}

private func corpus() throws -> [(name: String, bytes: [UInt8])] {
    let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
    return try Corpus.read(tests.joined(separator: "/") + "/Corpora/HTTP1")
}

private func file(_ name: String) throws -> [UInt8] {
    try #require(try corpus().first { $0.name == name }, "no file \(name)").bytes
}

@Suite("HTTP/1 corpus")
struct CorpusTests {
    @Test(
        "a request that two readers could understand differently is refused",
        arguments: pairs(refusals))
    func refused(name: String, code: HTTP1Error.Code) throws {
        let exchange = Exchange.requests(
            in: try file(name),
            pieceBytes: .max,
            limits: HTTP1Limits()
        )
        #expect(exchange.entries == [.failed(code)])
    }

    @Test(
        "a body that two readers could understand differently is refused",
        arguments: pairs(bodyRefusals))
    func refusedBody(name: String, code: HTTP1Error.Code) throws {
        let exchange = Exchange.requests(
            in: try file(name),
            pieceBytes: .max,
            limits: HTTP1Limits()
        )
        guard case .request(let head)? = exchange.entries.first else {
            Issue.record("the head was not read")
            return
        }
        #expect(head.body == .chunked)
        #expect(exchange.entries.last == .failed(code))
    }

    @Test("a well-formed request is read to its end")
    func accepted() throws {
        var requests = 0
        for (name, bytes) in try corpus() where name.hasPrefix("accepted-") {
            for entry in Exchange.requests(in: bytes, pieceBytes: .max, limits: HTTP1Limits())
                .entries
            {
                if case .failed(let code) = entry { Issue.record("\(name): \(code)") }
                if case .request = entry { requests += 1 }
            }
        }
        #expect(requests == 13)
    }

    @Test("every file of the corpus says in a test what becomes of it")
    func complete() throws {
        let named = Set((pairs(refusals) + pairs(bodyRefusals)).map(\.0))
        let files = try corpus().map(\.name)
        for name in files where !name.hasPrefix("accepted-") && !name.hasPrefix("response-") {
            #expect(named.contains(name))
        }
        #expect(files.count > 100)
    }

    @Test("a file gives the same result in one piece, in halves and byte by byte")
    func dribbled() throws {
        for (name, bytes) in try corpus() {
            for limits in [HTTP1Limits(), Exchange.fuzzLimits] {
                let whole = Exchange.requests(in: bytes, pieceBytes: .max, limits: limits)
                for pieceBytes in [1, 2, 3, 5, bytes.count / 2 + 1] {
                    let pieces = Exchange.requests(
                        in: bytes,
                        pieceBytes: pieceBytes,
                        limits: limits
                    )
                    #expect(pieces == whole, "\(name) in pieces of \(pieceBytes)")
                }
            }
            #expect(Invariants.violation(bytes) == nil, "\(name)")
        }
    }

    @Test("mutations of the corpus break no rule", .timeLimit(.minutes(1)))
    func mutated() throws {
        // Most files are refused; more of the others makes more mutations get past the head.
        let files = try corpus()
        let wellFormed = files.filter { $0.name.hasPrefix("accepted-") }
        let corpus = (files + Array(repeating: wellFormed, count: 9).joined()).map(\.bytes)
        var accepted = 0
        var refused: Set<HTTP1Error.Code> = []
        for number in 0..<4_000 {
            var mutator = Mutator(seed: UInt64(number))
            let input = mutator.input(from: corpus)
            #expect(Invariants.violation(input) == nil, "seed \(number)")
            for entry in Exchange.requests(in: input, pieceBytes: .max).entries {
                if case .request = entry { accepted += 1 }
                if case .failed(let code) = entry { refused.insert(code) }
            }
        }
        // Or the mutations would exercise nothing but the first check.
        #expect(accepted > 400)
        #expect(refused.count > 15)
    }
}
