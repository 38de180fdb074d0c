// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Finds what was probably meant by a name that does not exist.
enum Spelling {
    /// Longer names are not compared: the work is the product of both lengths.
    private static let longest = 64

    /// The closest of `names`, or `nil` where none is close.
    ///
    /// Case and separators do not count, so `headerTimeout` is close to `header_timeout`.
    static func nearest(to name: String, among names: [String]) -> String? {
        let wanted = folded(name)
        guard !wanted.isEmpty, wanted.count <= longest else { return nil }
        var best: (name: String, distance: Int)?
        for candidate in names {
            let letters = folded(candidate)
            guard !letters.isEmpty, letters.count <= longest else { continue }
            var distance = self.distance(wanted, letters)
            if wanted.count >= 3, letters.starts(with: wanted) { distance = min(distance, 1) }
            guard distance <= max(1, min(3, letters.count / 4)) else { continue }
            if best.map({ distance < $0.distance }) ?? true { best = (candidate, distance) }
        }
        return best?.name
    }

    private static func folded(_ name: String) -> [UInt8] {
        name.lowercased().utf8.filter { !$0.isOne(of: "._- ") }
    }

    /// Optimal string alignment: insertions, deletions, replacements and swapped neighbours.
    private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var beforeLast = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1] + [Int](repeating: 0, count: b.count)
            for j in b.indices {
                let replaced = last[j] + (a[i] == b[j] ? 0 : 1)
                row[j + 1] = min(replaced, last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    row[j + 1] = min(row[j + 1], beforeLast[j - 1] + 1)
                }
            }
            beforeLast = last
            last = row
        }
        return last[b.count]
    }
}
