// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import RedisClient

/// The names of the cluster's keys in Redis.
///
/// View: cluster. They carry a hash tag of their own: one script touches them all, and where
/// Redis is itself a cluster, leases do not have to live, or be away, with the history.
///
/// | key | type | what |
/// |---|---|---|
/// | `{prefix:cluster}:ends` | sorted set | node -> when its lease ends, ms by Redis' clock |
/// | `{prefix:cluster}:incarnations` | hash | node -> which process holds the lease |
/// | `{prefix:cluster}:reports` | hash | node -> ``NodeReport/text`` |
/// | `{prefix:cluster}:watch` | hash | `seen`: the last renewal; `trust`: ended leases say something from then on |
/// | `{prefix:cluster}:budget:NAME` | hash | process -> its part of a limit; see ``BudgetScripts`` |
package struct ClusterKeys: Sendable, Hashable {
    package let prefix: String

    package init(prefix: String) { self.prefix = prefix }

    package var ends: String { "{\(prefix):cluster}:ends" }
    package var incarnations: String { "{\(prefix):cluster}:incarnations" }
    package var reports: String { "{\(prefix):cluster}:reports" }
    package var leases: [String] { [ends, incarnations, reports, watch] }
}

/// The Lua scripts of membership. Redis' clock decides; nobody asks the nodes' clocks.
package enum LeaseScripts {
    /// Renews one lease and returns all of them, as of one instant.
    ///
    /// Replies: `{1, now, {id, incarnation, left, report}...}`, `left` in milliseconds and
    /// negative once the lease has ended; or `{0, now, incarnation, left}` where another process
    /// holds a lease of this name that has not ended.
    ///
    /// A process that takes over a name leaves the ended lease of the one before it in sight, as
    /// `id#incarnation`.
    package static let renew = RedisScript(
        name: "renew",
        body: """
            local time = redis.call('TIME')
            local now = time[1] * 1000 + math.floor(time[2] / 1000)
            local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
            local holder = redis.call('HGET', KEYS[2], ARGV[1])
            if holder and holder ~= ARGV[2] and ends > now then
              return {0, now, holder, ends - now}
            end
            if holder and holder ~= ARGV[2] then
              -- The process before this one stays in sight: its partitions are not read yet.
              local before = ARGV[1] .. '#' .. holder
              redis.call('ZADD', KEYS[1], string.format('%.0f', ends), before)
              redis.call('HSET', KEYS[2], before, holder)
              redis.call('HSET', KEYS[3], before, redis.call('HGET', KEYS[3], ARGV[1]) or '')
            end
            local seen = tonumber(redis.call('HGET', KEYS[4], 'seen') or '')
            if not seen or now - seen > tonumber(ARGV[3]) then
              redis.call('HSET', KEYS[4], 'trust', string.format('%.0f', now + ARGV[3]))
            end
            redis.call('HSET', KEYS[4], 'seen', string.format('%.0f', now))
            redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
            redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
            redis.call('HSET', KEYS[3], ARGV[1], ARGV[5])
            local old = string.format('%.0f', now - ARGV[4])
            for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', old)) do
              redis.call('ZREM', KEYS[1], gone)
              redis.call('HDEL', KEYS[2], gone)
              redis.call('HDEL', KEYS[3], gone)
            end
            local reply = {1, now}
            local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
            for place = 1, #all, 2 do
              reply[#reply + 1] = {all[place], redis.call('HGET', KEYS[2], all[place]),
                tonumber(all[place + 1]) - now, redis.call('HGET', KEYS[3], all[place])}
            end
            return reply
            """)

    /// Gives a lease back. Replies 1, or 0 where somebody else holds it.
    package static let leave = RedisScript(
        name: "leave",
        body: """
            if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
            redis.call('ZREM', KEYS[1], ARGV[1])
            redis.call('HDEL', KEYS[2], ARGV[1])
            redis.call('HDEL', KEYS[3], ARGV[1])
            return 1
            """)
}

/// One lease, as Redis tells it.
package struct Lease: Sendable, Equatable {
    package var id: String
    /// Names the process that holds it, so that a node that came back, or another of the same
    /// name, is told from the one before.
    package var incarnation: String
    /// How long it still holds; not positive once it has ended.
    package var left: Duration
    package var report: NodeReport

    package init(id: String, incarnation: String, left: Duration, report: NodeReport) {
        self.id = id
        self.incarnation = incarnation
        self.left = left
        self.report = report
    }
}

/// What Redis said to a renewal.
package enum LeaseAnswer: Sendable, Equatable {
    /// The lease holds; these are all of them. `now` is Redis' clock, ms since 1970.
    case renewed(now: UInt64, [Lease])
    /// Another process holds a lease of this name.
    case refused(holder: String, left: Duration)

    /// `nil` where the reply is none that ``LeaseScripts/renew`` gives.
    package init?(_ reply: RedisReplyView) {
        switch reply[0].integer {
        case 0:
            guard let holder = reply[2].text, let left = reply[3].integer else { return nil }
            self = .refused(holder: holder, left: .milliseconds(left))
        case 1:
            guard let now = reply[1].integer, now > 0 else { return nil }
            var leases: [Lease] = []
            for index in 2..<max(2, reply.count) {
                let entry = reply[index]
                // Redis may have evicted one of the three keys; a lease is all three or none.
                guard let id = entry[0].text, let incarnation = entry[1].text,
                    let left = entry[2].integer, let text = entry[3].text
                else { continue }
                leases.append(
                    Lease(
                        id: id, incarnation: incarnation, left: .milliseconds(left),
                        report: NodeReport(text: text)))
            }
            self = .renewed(now: UInt64(now), leases)
        default: return nil
        }
    }
}
