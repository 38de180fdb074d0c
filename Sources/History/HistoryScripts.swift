// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import RedisClient

/// The Lua scripts that make each step of history atomic.
package enum HistoryScripts {
    /// Appends one batch, or says why not. Safe to repeat: what a batch holds is a pure function
    /// of topic, partition and offset, so whoever sends it again, also a node that no longer owns
    /// the partition, leaves one copy.
    ///
    /// Replies: `{0, hw}` all of it was there; `{1, hw}` its beginning was there, send the rest;
    /// `{2, hw}` Redis has less than the caller knows it had: it lost data; `{3, ms, n}` appended,
    /// and `ms-n` is the ID of its last event.
    ///
    /// A ``HistoryLoss`` is appended like a batch of one event; its field `l` is the last argument.
    ///
    /// The offsets are read as numbers of 53 bits, which Kafka would need 285 years at a million
    /// events a second in one partition to exceed.
    package static let append = RedisScript(
        name: "append",
        body: """
            local hw = tonumber(redis.call('HGET', KEYS[4], ARGV[2]) or '-1')
            local base, last, expected = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
            if last <= hw then return {0, hw} end
            if base <= hw then return {1, hw} end
            if hw < expected then return {2, hw} end
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n')
            local ms, n = tonumber(seq[1] or '0'), tonumber(seq[2] or '0')
            local count = tonumber(ARGV[6])
            if count == 0 then
              redis.call('HSET', KEYS[4], ARGV[2], ARGV[4])
              return {3, ms, n}
            end
            local time = redis.call('TIME')
            local now = time[1] * 1000 + math.floor(time[2] / 1000)
            if now > ms then ms = now end
            n = n + count
            local id = string.format('%.0f-%.0f', ms, n)
            if ARGV[12] ~= '' then
              redis.call('XADD', KEYS[2], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'b', '', 'l', ARGV[12])
            else
              redis.call('XADD', KEYS[2], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'b', ARGV[7])
            end
            if ARGV[12] ~= '' then
              redis.call('XADD', KEYS[3], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'l', ARGV[12])
            elseif ARGV[11] == '' then
              redis.call('XADD', KEYS[3], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6])
            else
              redis.call('XADD', KEYS[3], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'x', ARGV[11])
            end
            -- Only now: a script that fails takes nothing back, and a mark without its events
            -- would be a loss.
            redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'n', string.format('%.0f', n))
            redis.call('HSET', KEYS[4], ARGV[2], ARGV[4])
            if redis.call('SADD', KEYS[6], ARGV[1]) == 1 then
              redis.call('XADD', KEYS[7], '*', 't', ARGV[1])
            end
            local floor = redis.call('HMGET', KEYS[5], 'id', 'events')
            local floorid, events = floor[1] or '0-0', tonumber(floor[2] or '0') + count
            local most, oldest = tonumber(ARGV[8]), now - tonumber(ARGV[9])
            local moved = false
            for step = 1, 64 do
              local entry = redis.call('XRANGE', KEYS[3], '(' .. floorid, '+', 'COUNT', 1)[1]
              if not entry or entry[1] == id then break end
              local entryms = tonumber(string.match(entry[1], '^%d+'))
              if events <= most and entryms >= oldest then break end
              floorid, moved = entry[1], true
              events = events - tonumber(entry[2][6])
            end
            redis.call('HSET', KEYS[5], 'id', floorid, 'events', events)
            if moved then
              local fms, fn = string.match(floorid, '^(%d+)-(%d+)$')
              redis.call('XTRIM', KEYS[2], 'MINID', string.format('%s-%.0f', fms, tonumber(fn) + 1))
              -- Never beyond the floor: what the window still holds is counted by the index.
              local cut = math.min(now - tonumber(ARGV[10]), tonumber(fms))
              redis.call('XTRIM', KEYS[3], 'MINID', '~', string.format('%.0f', cut))
            end
            return {3, ms, n}
            """)

    /// The newest ID and the topics that have history, as of one instant.
    package static let tip = RedisScript(
        name: "tip",
        body: """
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n')
            return {seq[1] or '0', seq[2] or '0', redis.call('SMEMBERS', KEYS[2])}
            """)

    /// One page of the window after a cursor: for each topic the entries, whether more follow, and
    /// the floor where it lies after the cursor, which says that events in between are gone.
    ///
    /// The budget is for each topic; the entry that reaches it is the last one, so a page is no
    /// larger than the budget and one entry a topic. Nothing follows a cursor beyond the tip, and
    /// Redis would refuse the largest of all IDs as a start.
    package static let page = RedisScript(
        name: "page",
        body: """
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n')
            local ms, n = tonumber(ARGV[1]), tonumber(ARGV[2])
            local budget = tonumber(ARGV[3])
            local reply = {seq[1] or '0', seq[2] or '0'}
            local tipms, tipn = tonumber(reply[1]), tonumber(reply[2])
            local beyond = ms > tipms or (ms == tipms and n >= tipn)
            for key = 2, #KEYS, 2 do
              local floor = redis.call('HGET', KEYS[key + 1], 'id') or '0-0'
              local fms, fn = string.match(floor, '^(%d+)-(%d+)$')
              fms, fn = tonumber(fms), tonumber(fn)
              if fms < ms or (fms == ms and fn <= n) then floor = '' end
              local entries, bytes, more = {}, 0, 1
              local start = '(' .. ARGV[1] .. '-' .. ARGV[2]
              if beyond then more, bytes = 0, budget end
              while bytes < budget do
                local got = redis.call('XRANGE', KEYS[key], start, '+', 'COUNT', 16)
                local taken = 0
                for _, entry in ipairs(got) do
                  if bytes >= budget then break end
                  taken = taken + 1
                  entries[#entries + 1] = entry
                  bytes = bytes + #(entry[2][8] or '') + 64
                  start = '(' .. entry[1]
                end
                if taken == #got and taken < 16 then more = 0 break end
              end
              reply[#reply + 1] = {floor, more, entries}
            end
            return reply
            """)

    /// Forgets a high-water offset, if it is still the one the caller saw: the topic was deleted
    /// and made again. Replies 1 where there is none afterwards, 0 where there is another one.
    package static let forgetHighWater = RedisScript(
        name: "forget-high-water",
        body: """
            local mark = redis.call('HGET', KEYS[1], ARGV[1])
            if not mark then return 1 end
            if mark ~= ARGV[2] then return 0 end
            return redis.call('HDEL', KEYS[1], ARGV[1])
            """)
}
