// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How much memory Redis may take, and what it does when that is used up.
///
/// View: cluster. Read from `INFO memory`, which an access list allows where it forbids `CONFIG`.
package struct RedisMemory: Sendable, Equatable {
    /// In bytes; 0 is no limit.
    package let limit: Int
    package let policy: String

    package init(limit: Int, policy: String) {
        self.limit = limit
        self.policy = policy
    }

    /// `nil` where the text does not say it.
    package init?(info: String) {
        var limit: Int?
        var policy: String?
        for line in info.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            switch parts[0] {
            case "maxmemory": limit = Int(parts[1])
            case "maxmemory_policy": policy = String(parts[1].prefix(32))
            default: break
            }
        }
        guard let limit, limit >= 0, let policy else { return nil }
        self.init(limit: limit, policy: policy)
    }

    /// What endangers history, in a sentence; `nil` where nothing does. Whatever Redis evicts by
    /// itself leaves a hole that nobody is told of, or ends the lease of a node that lives.
    package var danger: String? {
        guard limit > 0, policy != "noeviction" else { return nil }
        return
            "maxmemory-policy is \(policy): a full Redis would delete parts of history or leases, "
            + "and nobody would be told which; CONFIG SET maxmemory-policy noeviction"
    }

    /// What is worth a thought, in a sentence.
    package var hint: String? {
        guard limit == 0 else { return nil }
        return
            "maxmemory is not set: set it, with noeviction, and a Redis that is full lets go of the "
            + "oldest of its window; without it the kernel may end Redis"
    }
}
