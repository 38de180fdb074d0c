// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Finds what somebody probably meant.
enum NearMiss {
    /// Names past this many bytes are not compared; no option, command or topic is that long.
    private static let bytesMax = 249
    /// Candidates past this many are not looked at.
    private static let candidatesMax = 10_000

    /// The candidate nearest to `given`, if one is near enough to be meant.
    static func closest(to given: String, among candidates: [String]) -> String? {
        similar(to: given, among: candidates, limit: 1).first
    }

    /// The candidates that `given` may have meant, nearest first.
    static func similar(to given: String, among candidates: [String], limit: Int) -> [String] {
        let wanted = Array(given.lowercased().utf8)
        guard !wanted.isEmpty, wanted.count <= bytesMax else { return [] }
        var found: [(name: String, distance: Int)] = []
        for candidate in candidates.prefix(candidatesMax) {
            let bytes = Array(candidate.lowercased().utf8)
            guard !bytes.isEmpty, bytes.count <= bytesMax else { continue }
            var distance = distance(wanted, bytes)
            // A name cut short, or one that is longer than what was typed.
            let shorter = min(wanted.count, bytes.count)
            if shorter >= 4, wanted.starts(with: bytes.prefix(shorter)) {
                distance = min(distance, 2)
            }
            let longest = max(wanted.count, bytes.count)
            guard distance <= max(1, longest / 3) else { continue }
            found.append((candidate, distance))
        }
        found.sort { ($0.distance, $0.name) < ($1.distance, $1.name) }
        return found.prefix(limit).map(\.name)
    }

    /// How many letters to change, add, leave out or swap with their neighbour (the optimal string
    /// alignment distance).
    static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var beforeLast = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            row.reserveCapacity(b.count + 1)
            for j in b.indices {
                let change = last[j] + (a[i] == b[j] ? 0 : 1)
                var best = min(change, last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    best = min(best, beforeLast[j - 1] + 1)
                }
                row.append(best)
            }
            beforeLast = last
            last = row
        }
        return last[b.count]
    }
}
