// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CZlib
import CZstd
import Compression
import Testing

@Suite("Compression")
struct CompressionTests {
    private static func text(_ number: Int, padding: Int) -> [UInt8] {
        Array(
            "id: 1-\(number)\ndata: {\"n\":\(number),\"pad\":\"\(String(repeating: "ab", count: padding))\"}\n\n"
                .utf8)
    }

    /// Decodes gzip without an end, as a client of a stream does, in pieces of `step` bytes.
    private static func gunzip(_ bytes: [UInt8], step: Int) -> [UInt8]? {
        var stream = unsafe z_stream()
        guard unsafe czlib_inflate_init(&stream, 15 + 16) == Z_OK else { return nil }
        defer { unsafe inflateEnd(&stream) }
        var result: [UInt8] = []
        var output = [UInt8](repeating: 0, count: 1 << 16)
        var start = 0
        while start < bytes.count {
            var piece = Array(bytes[start..<min(start + step, bytes.count)])
            start += piece.count
            let isGood = unsafe piece.withUnsafeMutableBufferPointer { source in
                unsafe stream.next_in = source.baseAddress
                unsafe stream.avail_in = UInt32(source.count)
                while unsafe stream.avail_in > 0 {
                    let (status, made) = unsafe output.withUnsafeMutableBufferPointer { target in
                        unsafe stream.next_out = target.baseAddress
                        unsafe stream.avail_out = UInt32(target.count)
                        let status = unsafe inflate(&stream, Z_SYNC_FLUSH)
                        return unsafe (status, target.count - Int(stream.avail_out))
                    }
                    result += output[..<made]
                    guard status == Z_OK || (status == Z_BUF_ERROR && made == 0) else {
                        return false
                    }
                }
                return true
            }
            guard isGood else { return nil }
        }
        return result
    }

    private static func unzstd(_ bytes: [UInt8]) -> [UInt8]? {
        let context = unsafe ZSTD_createDStream()
        defer { unsafe ZSTD_freeDStream(context) }
        var result: [UInt8] = []
        var output = [UInt8](repeating: 0, count: 1 << 17)
        let isGood = unsafe bytes.withUnsafeBytes { source in
            var input = unsafe ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
            while unsafe input.pos < input.size {
                let (status, made) = unsafe output.withUnsafeMutableBytes { target in
                    var buffer = unsafe ZSTD_outBuffer(
                        dst: target.baseAddress, size: target.count, pos: 0)
                    let status = unsafe ZSTD_decompressStream(context, &buffer, &input)
                    return unsafe (status, buffer.pos)
                }
                guard ZSTD_isError(status) == 0 else { return false }
                result += output[..<made]
            }
            return true
        }
        return isGood ? result : nil
    }

    @Test("chunks of either coding follow one another in any order", arguments: [1, 7, 4096])
    func anyOrder(step: Int) throws {
        let texts = (0..<20).map { Self.text($0, padding: $0 * $0 * 7) }
        let order = [3, 3, 19, 0, 7, 1, 18, 2, 0]
        let expected = order.flatMap { texts[$0] }
        let gzip = try ChunkCompressor(.gzip)
        let gzipChunks = texts.map { gzip.chunk(of: $0) }
        let stream = gzip.streamHeader + order.flatMap { gzipChunks[$0] }
        #expect(Self.gunzip(stream, step: step) == expected)
        let zstd = try ChunkCompressor(.zstd)
        let zstdChunks = texts.map { zstd.chunk(of: $0) }
        #expect(Self.unzstd(zstd.streamHeader + order.flatMap { zstdChunks[$0] }) == expected)
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
