// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A content coding of HTTP (RFC 9110, section 8.4.1) that a stream can have.
package enum ContentCoding: String, Sendable, CaseIterable {
    /// Deflate in the gzip format (RFC 1952). Every client that compresses at all knows it.
    case gzip
    /// Zstandard (RFC 8878), each chunk a frame.
    case zstd

    /// The coding that an `Accept-Encoding` value prefers among `offered`, which are in the
    /// server's own order of preference; `nil` for none.
    ///
    /// Weights below 1 count for less; `q=0` forbids; `*` stands for what is not named. A member
    /// that cannot be read is passed over, because compression is a favour and not a duty.
    package static func choose(accepting value: String, among offered: [ContentCoding])
        -> ContentCoding?
    {
        var weights: [String: Double] = [:]
        for member in value.split(separator: ",").prefix(32) {
            let parts = member.split(separator: ";").map { $0.trimmingBlanks.lowercased() }
            guard let name = parts.first, !name.isEmpty else { continue }
            var weight = 1.0
            for part in parts.dropFirst() where part.hasPrefix("q=") {
                weight = Double(part.dropFirst(2)) ?? 0
            }
            weights[name] = weight
        }
        var best: (coding: ContentCoding, weight: Double)?
        for coding in offered {
            let weight = weights[coding.rawValue] ?? weights["*"] ?? 0
            guard weight > 0, weight > best?.weight ?? 0 else { continue }
            best = (coding, weight)
        }
        return best?.coding
    }
}

extension Substring {
    fileprivate var trimmingBlanks: Substring {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
