// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// What a Redis server's state means for the shared history.
enum RedisRules {
    /// The tail notices a lost event only by IDs; a clock that jumps by this much shows in them.
    private static let clockSkewMilliseconds: Int64 = 500
    /// Scripts and streams as Rivulet uses them came with this version.
    private static let versionLeast = [6, 2]
    /// A window may be this share of `maxmemory` before it is said that little is left.
    private static let memoryShare = 0.8

    static func findings(_ facts: RedisFacts, _ configuration: Configuration) -> [Finding] {
        [
            version(facts), role(facts), eviction(facts), persistence(facts), lastSave(facts),
            memory(facts), outputLimit(facts), idleTimeout(facts), clock(facts),
        ].compactMap { $0 }
    }

    static func unreachable(_ detail: String) -> Finding {
        Finding(
            .danger, .redis, "Redis cannot be asked: \(detail)",
            consequence: "nothing is appended; nodes answer 503 until it is there",
            remedy: "start it, or correct redis.url, redis.username and redis.password")
    }

    private static func version(_ facts: RedisFacts) -> Finding {
        let text = facts.info["redis_version"] ?? "unknown"
        let parts = text.split(separator: ".").prefix(2).map { Int($0) ?? 0 }
        guard parts.lexicographicallyPrecedes(versionLeast) else {
            return Finding(.ok, .redis, "version \(text)")
        }
        return Finding(
            .danger, .redis, "version \(text)",
            consequence: "the scripts need XTRIM MINID, which came with 6.2",
            remedy: "upgrade Redis")
    }

    private static func role(_ facts: RedisFacts) -> Finding {
        let role = facts.info["role"] ?? "unknown"
        guard role == "master" else {
            return Finding(
                .danger, .redis, "its role is \(role)",
                consequence: "a replica takes no appends", remedy: "name the primary in redis.url")
        }
        let replicas = facts.info["connected_slaves"].flatMap { Int($0) } ?? 0
        guard replicas > 0 else {
            return Finding(
                .note, .redis, "a primary without replicas",
                consequence: "when its machine is lost, the history since the last save is read "
                    + "again from Kafka, which clients see as repeats",
                remedy: "add a replica where a failover has to take seconds")
        }
        return Finding(.ok, .redis, "a primary with \(Tabulation.count(replicas, "replica"))")
    }

    /// What is evicted is gone without a word, whichever policy it was.
    private static func eviction(_ facts: RedisFacts) -> Finding? {
        let policy = facts.settings?["maxmemory-policy"] ?? facts.info["maxmemory_policy"]
        guard let policy else { return unreadable("maxmemory-policy") }
        let most = facts.number("maxmemory") ?? 0
        let found = "maxmemory-policy is \(policy)"
        guard policy != "noeviction" else { return Finding(.ok, .redis, found) }
        return Finding(
            most > 0 ? .danger : .warning, .redis, found,
            consequence: "when memory is full Redis throws away high-water offsets and whole "
                + "windows: events are lost or appended twice",
            remedy: "CONFIG SET maxmemory-policy noeviction")
    }

    private static func persistence(_ facts: RedisFacts) -> Finding? {
        guard let settings = facts.settings else { return unreadable("appendonly and save") }
        let appends = settings["appendonly"] == "yes"
        let saves = !(settings["save"] ?? "").isEmpty
        if appends {
            let sync = settings["appendfsync"] ?? "unknown"
            return Finding(
                sync == "no" ? .note : .ok, .redis, "appendonly yes, appendfsync \(sync)",
                consequence: sync == "no"
                    ? "a machine that fails takes up to half a minute of history with it, which "
                        + "is read again from Kafka" : "",
                remedy: sync == "no" ? "CONFIG SET appendfsync everysec" : "")
        }
        return Finding(
            .note, .redis, saves ? "snapshots only (save \(settings["save"]!))" : "no persistence",
            consequence: "after a restart the history since "
                + (saves ? "the last snapshot" : "the beginning")
                + " is read again from Kafka, under new IDs",
            remedy: "appendonly yes keeps it")
    }

    private static func lastSave(_ facts: RedisFacts) -> Finding? {
        for name in ["rdb_last_bgsave_status", "aof_last_write_status"] {
            guard let status = facts.info[name], status != "ok" else { continue }
            return Finding(
                .danger, .redis, "\(name) is \(status)",
                consequence: "by default Redis refuses to write after a failed save",
                remedy: "look into its log: a full disk, or no memory to fork")
        }
        return nil
    }

    private static func memory(_ facts: RedisFacts) -> Finding? {
        guard let used = facts.info["used_memory"].flatMap({ Int($0) }) else { return nil }
        guard let most = facts.number("maxmemory"), most > 0 else {
            return Finding(
                .warning, .redis, "\(Tabulation.bytes(used)) used, and maxmemory is not set",
                consequence: "a window that grows ends with the kernel killing Redis",
                remedy: "set maxmemory to what the machine can spare, with noeviction")
        }
        let found = "\(Tabulation.bytes(used)) of \(Tabulation.bytes(most)) used"
        guard Double(used) > Double(most) * memoryShare else { return Finding(.ok, .redis, found) }
        return Finding(
            .warning, .redis, found, consequence: "a full Redis takes no appends",
            remedy: "raise maxmemory, or lower history.window_events and history.window_age")
    }

    /// `normal HARD SOFT SECONDS slave …`: a node that reads a large page is a normal client.
    private static func outputLimit(_ facts: RedisFacts) -> Finding? {
        guard let text = facts.settings?["client-output-buffer-limit"] else { return nil }
        let words = text.split(separator: " ")
        guard let place = words.firstIndex(of: "normal"), words.count > place + 3,
            let hard = Int(words[place + 1]), let soft = Int(words[place + 2])
        else { return nil }
        let least = 64 << 20
        guard (hard > 0 && hard < least) || (soft > 0 && soft < least) else { return nil }
        return Finding(
            .warning, .redis, "client-output-buffer-limit normal is \(hard) \(soft)",
            consequence: "a node that reads a large page of history is disconnected",
            remedy: "CONFIG SET client-output-buffer-limit \"normal 0 0 0\"")
    }

    private static func idleTimeout(_ facts: RedisFacts) -> Finding? {
        guard let seconds = facts.number("timeout"), seconds > 0, seconds < 10 else { return nil }
        return Finding(
            .warning, .redis, "timeout is \(seconds) s",
            consequence: "quiet connections of nodes are cut again and again",
            remedy: "CONFIG SET timeout 0")
    }

    private static func clock(_ facts: RedisFacts) -> Finding {
        let ahead = facts.clockAheadMilliseconds
        let found =
            "its clock is \(ahead.magnitude) ms \(ahead < 0 ? "behind" : "ahead of") this "
            + "machine's (±\(facts.clockUncertaintyMilliseconds) ms)"
        guard Int64(ahead.magnitude) - facts.clockUncertaintyMilliseconds > clockSkewMilliseconds
        else { return Finding(.ok, .redis, found) }
        return Finding(
            .warning, .redis, found,
            consequence: "event IDs carry Redis' time: latencies are measured wrong, and a cursor "
                + "that is a time is off by as much",
            remedy: "run NTP on both machines")
    }

    private static func unreadable(_ what: String) -> Finding {
        Finding(
            .note, .redis, "\(what) cannot be read: this user may not ask for settings",
            consequence: "it could not be checked",
            remedy: "look it up with the provider: noeviction, and persistence as wanted")
    }
}
