// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CZlib
import CZstd

/// Decodes compressed streams that have no end, as clients do.
package enum StreamDecoder {
    /// Decodes gzip in pieces of `step` bytes; `nil` where it is none.
    package static func gunzip(_ bytes: [UInt8], step: Int = 4096) -> [UInt8]? {
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
                    let isIdle = status == Z_BUF_ERROR && made == 0
                    guard status == Z_OK || isIdle else { return false }
                }
                return true
            }
            guard isGood else { return nil }
        }
        return result
    }

    /// Decodes any number of Zstandard frames, the last one perhaps cut; `nil` where they are none.
    package static func unzstd(_ bytes: [UInt8]) -> [UInt8]? {
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
}
