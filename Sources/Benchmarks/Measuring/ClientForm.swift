// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor

/// What clients speak.
enum ClientForm: String, Sendable, CaseIterable {
    /// HTTP/1.1, plain.
    case plain
    case gzip
    case zstd
    /// HTTP/1.1 over TLS.
    case tls
    /// HTTP/2 with prior knowledge, many streams on a connection.
    case http2

    /// Streams that one connection carries.
    var streamsPerConnection: Int { self == .http2 ? Self.http2Streams : 1 }

    /// Below what the node allows at once.
    static let http2Streams = 200

    var acceptEncoding: String? {
        switch self {
        case .gzip: "gzip"
        case .zstd: "zstd"
        case .plain, .tls, .http2: nil
        }
    }
}

/// Decodes one stream under a content coding.
@safe
final class StreamDecompressor {
    private let decoder: OpaquePointer

    /// `nil` where the form has no coding.
    init?(_ form: ClientForm) {
        let coding: Int
        switch form {
        case .gzip: coding = BENCHFLOOR_GZIP
        case .zstd: coding = BENCHFLOOR_ZSTD
        case .plain, .tls, .http2: return nil
        }
        guard let decoder = unsafe benchfloor_decoder_new(CInt(coding)) else { return nil }
        unsafe self.decoder = decoder
    }

    deinit { unsafe benchfloor_decoder_free(decoder) }

    /// Calls `body` with what `coded` decodes to, in pieces that lie in `room`; false where it is
    /// not of the coding.
    func decode(
        _ coded: UnsafeRawBufferPointer, in room: UnsafeMutableRawBufferPointer,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        var rest = unsafe coded
        while true {
            var used = 0
            let made = unsafe benchfloor_decode(
                decoder, rest.baseAddress, rest.count, &used, room.baseAddress, room.count)
            guard made >= 0 else { return false }
            unsafe body(UnsafeRawBufferPointer(rebasing: room[..<made]))
            unsafe rest = UnsafeRawBufferPointer(rebasing: rest[used...])
            // A full room may hide more behind it.
            if unsafe rest.isEmpty, made < room.count { return true }
            if used == 0, made == 0 { return true }
        }
    }
}
