// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Compression
import Testing

@Suite("Compression")
struct CompressionTests {
    private static func text(_ number: Int, padding: Int) -> [UInt8] {
        Array(
            "id: 1-\(number)\ndata: {\"n\":\(number),\"pad\":\"\(String(repeating: "ab", count: padding))\"}\n\n"
                .utf8)
    }

    @Test("chunks of either coding follow one another in any order", arguments: [1, 7, 4096])
    func anyOrder(step: Int) throws {
        let texts = (0..<20).map { Self.text($0, padding: $0 * $0 * 7) }
        let order = [3, 3, 19, 0, 7, 1, 18, 2, 0]
        let expected = order.flatMap { texts[$0] }
        let gzip = try ChunkCompressor(.gzip)
        let gzipChunks = texts.map { gzip.chunk(of: $0) }
        let stream = gzip.streamHeader + order.flatMap { gzipChunks[$0] }
        #expect(StreamDecoder.gunzip(stream, step: step) == expected)
        let zstd = try ChunkCompressor(.zstd)
        let zstdChunks = texts.map { zstd.chunk(of: $0) }
        #expect(
            StreamDecoder.unzstd(zstd.streamHeader + order.flatMap { zstdChunks[$0] }) == expected)
    }

    @Test(
        "the same bytes give the same chunk, whatever came before",
        arguments: ContentCoding.allCases)
    func deterministic(coding: ContentCoding) throws {
        let first = try ChunkCompressor(coding)
        let second = try ChunkCompressor(coding)
        _ = second.chunk(of: Self.text(99, padding: 5000))
        let bytes = Self.text(1, padding: 800)
        #expect(first.chunk(of: bytes) == second.chunk(of: bytes))
        #expect(first.chunk(of: []) == [])
    }

    @Test(
        "repetitive events shrink, tiny ones grow by a few bytes at most",
        arguments: ContentCoding.allCases)
    func sizes(coding: ContentCoding) throws {
        let compressor = try ChunkCompressor(coding)
        #expect(compressor.chunk(of: Self.text(1, padding: 500)).count < 200)
        #expect(compressor.chunk(of: Array(":\n".utf8)).count <= 16)
        let noise = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) }
        #expect(compressor.chunk(of: noise).count < noise.count + 200)
    }

    @Test("Accept-Encoding is read with its weights")
    func accept() {
        let both: [ContentCoding] = [.gzip, .zstd]
        let cases: [(String, ContentCoding?)] = [
            ("gzip, deflate, br, zstd", .gzip), ("zstd", .zstd), ("gzip;q=0.5, zstd;q=0.8", .zstd),
            ("gzip;q=0", nil), ("*", .gzip), ("identity", nil), ("", nil), ("gzip;q=0, *", .zstd),
            ("GZIP", .gzip), ("gzip;q=nonsense", nil), (";;,,gzip ; q=1", .gzip), ("br", nil),
        ]
        for (value, expected) in cases {
            #expect(ContentCoding.choose(accepting: value, among: both) == expected, "\(value)")
        }
        #expect(ContentCoding.choose(accepting: "gzip, zstd", among: [.zstd]) == .zstd)
        #expect(ContentCoding.choose(accepting: "gzip", among: []) == nil)
    }
}
