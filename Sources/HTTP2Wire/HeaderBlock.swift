// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CNghttp2

/// The fields of an answer, in the form that nghttp2 takes.
struct HeaderBlock {
    /// Names and values, one after the other.
    private var storage: [UInt8] = []
    private var fields: [(name: Range<Int>, value: Range<Int>)] = []

    init(status: Int, _ headers: [(name: String, value: String)]) {
        append(":status", String(max(100, min(status, 999))))
        for (name, value) in headers { append(name, value) }
    }

    /// A value may hold what a peer gave: control characters become blanks, and there are none at
    /// its ends (RFC 9113, section 8.2.1).
    private mutating func append(_ name: String, _ value: String) {
        let nameStart = storage.count
        storage.append(contentsOf: name.utf8)
        let nameEnd = storage.count
        for byte in value.utf8 {
            storage.append((byte >= 0x20 && byte != 0x7f) || byte == 0x09 ? byte : 0x20)
        }
        var start = nameEnd
        var end = storage.count
        while start < end, Self.isBlank(storage[start]) { start += 1 }
        while end > start, Self.isBlank(storage[end - 1]) { end -= 1 }
        fields.append((nameStart..<nameEnd, start..<end))
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    /// Lends the fields. The library copies what it needs before it returns.
    func withFields(_ body: (UnsafePointer<nghttp2_nv>?, Int) -> Void) {
        unsafe storage.withUnsafeBufferPointer { bytes in
            let start = unsafe UnsafeMutablePointer(mutating: bytes.baseAddress!)
            let vectors = unsafe fields.map { field in
                unsafe nghttp2_nv(
                    name: start + field.name.lowerBound, value: start + field.value.lowerBound,
                    namelen: field.name.count, valuelen: field.value.count,
                    flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue))
            }
            unsafe vectors.withUnsafeBufferPointer { unsafe body($0.baseAddress, $0.count) }
        }
    }
}

extension nghttp2_settings_entry {
    init(_ id: nghttp2_settings_id, _ value: Int) {
        self.init(settings_id: Int32(id.rawValue), value: UInt32(clamping: value))
    }
}
