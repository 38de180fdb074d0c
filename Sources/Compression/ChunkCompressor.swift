// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CZlib
import CZstd

/// Why a compressor could not be made.
package struct CompressionError: Error, Sendable, CustomStringConvertible {
    package let detail: String
    package var description: String { "compression: \(detail)" }
}

/// Compresses runs of bytes into chunks that can follow one another in any order.
///
/// View: one thread. A chunk refers to nothing before it, so the same chunk goes to every
/// connection, whatever that received before: deflate is flushed with its history dropped
/// (Z_FULL_FLUSH), Zstandard writes a frame of its own. The same bytes give the same chunk every
/// time, so a connection may remember its place in one as a number of bytes.
@safe
package final class ChunkCompressor {
    package let coding: ContentCoding
    private var deflater = unsafe z_stream()
    private var zstd: OpaquePointer?
    private var output: [UInt8] = []

    /// Below this many bytes deflate's tables cost more than they save; the bytes are stored.
    private static let storedBytesMax = 48
    /// Fast levels: a chunk is compressed once for many connections, but live.
    private static let deflateLevel: Int32 = 3
    private static let zstdLevel: Int32 = 3

    package init(_ coding: ContentCoding) throws(CompressionError) {
        self.coding = coding
        switch coding {
        case .gzip:
            let status = unsafe czlib_deflate_init(&deflater, Self.deflateLevel, -15)
            guard status == Z_OK else { throw CompressionError(detail: "zlib says \(status)") }
        case .zstd:
            unsafe zstd = ZSTD_createCCtx()
            guard unsafe zstd != nil else { throw CompressionError(detail: "zstd has no memory") }
        }
    }

    deinit {
        switch coding {
        case .gzip: unsafe deflateEnd(&deflater)
        case .zstd: unsafe ZSTD_freeCCtx(zstd)
        }
    }

    /// What a stream begins with, before any chunk.
    package var streamHeader: [UInt8] {
        switch coding {
        // Magic, deflate, no flags, no time, no hints, system unknown.
        case .gzip: [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]
        case .zstd: []
        }
    }

    /// Compresses `bytes` into one chunk. Empty bytes give an empty chunk.
    package func chunk(of bytes: [UInt8]) -> [UInt8] {
        guard !bytes.isEmpty else { return [] }
        switch coding {
        case .gzip: return bytes.count <= Self.storedBytesMax ? stored(bytes) : deflated(bytes)
        case .zstd: return framed(bytes)
        }
    }

    /// A stored block that is not the last (RFC 1951, section 3.2.4). It begins at a byte because
    /// every chunk ends at one.
    private func stored(_ bytes: [UInt8]) -> [UInt8] {
        let count = UInt16(bytes.count)
        let low = UInt8(truncatingIfNeeded: count)
        let high = UInt8(truncatingIfNeeded: count >> 8)
        return [0, low, high, ~low, ~high] + bytes
    }

    private func deflated(_ bytes: [UInt8]) -> [UInt8] {
        unsafe deflateReset(&deflater)
        // The bound is for a whole stream; the flush adds an empty stored block.
        let bound = unsafe Int(deflateBound(&deflater, UInt(bytes.count))) + 16
        if output.count < bound { output = [UInt8](repeating: 0, count: bound) }
        var input = bytes
        let written = unsafe input.withUnsafeMutableBufferPointer { source in
            unsafe output.withUnsafeMutableBufferPointer { target in
                unsafe deflater.next_in = source.baseAddress
                unsafe deflater.avail_in = UInt32(source.count)
                unsafe deflater.next_out = target.baseAddress
                unsafe deflater.avail_out = UInt32(target.count)
                let status = unsafe deflate(&deflater, Z_FULL_FLUSH)
                unsafe precondition(
                    status == Z_OK && deflater.avail_in == 0 && deflater.avail_out > 0,
                    "deflate says \(status) with \(bound) bytes of room")
                return unsafe target.count - Int(deflater.avail_out)
            }
        }
        return Array(output[..<written])
    }

    private func framed(_ bytes: [UInt8]) -> [UInt8] {
        let bound = ZSTD_compressBound(bytes.count)
        if output.count < bound { output = [UInt8](repeating: 0, count: bound) }
        let written = unsafe bytes.withUnsafeBytes { source in
            unsafe output.withUnsafeMutableBytes { target in
                unsafe ZSTD_compressCCtx(
                    zstd, target.baseAddress, target.count, source.baseAddress, source.count,
                    Self.zstdLevel)
            }
        }
        precondition(ZSTD_isError(written) == 0, "zstd failed within its own bound")
        return Array(output[..<written])
    }
}
