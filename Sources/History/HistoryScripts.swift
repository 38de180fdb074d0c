// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import RedisClient

/// The Lua scripts that make each step of history atomic.
package enum HistoryScripts {
    /// What of a topic's window and index is let go, as a function of the scripts below.
    ///
    /// The window keeps the newest entries within a number of events, a number of bytes and an age,
    /// whichever is reached first; the entry `spared` stays whatever its size. The floor is moved
    /// before anything is deleted, and says what is gone. Bounded, so that Redis is not busy for
    /// long: what is left over goes with the next call.
    private static let trimming = """
        local function size(fields)
          for place = 7, #fields, 2 do
            if fields[place] == 'b' then return tonumber(fields[place + 1]) or 0 end
          end
          return 0
        end
        local function after(id)
          local ms, n = string.match(id, '^(%d+)-(%d+)$')
          return string.format('%s-%.0f', ms, tonumber(n) + 1)
        end
        local function trim(window, index, floorkey, keep)
          local floor = redis.call('HMGET', floorkey, 'id', 'events', 'bytes')
          local floorid = floor[1] or '0-0'
          local events = tonumber(floor[2] or '0')
          local bytes = tonumber(floor[3] or '0')
          local oldest, moved = keep.now - keep.age, false
          for step = 1, 64 do
            local entry = redis.call('XRANGE', index, '(' .. floorid, '+', 'COUNT', 1)[1]
            if not entry or entry[1] == keep.spared then break end
            local ms = tonumber(string.match(entry[1], '^%d+'))
            if events <= keep.events and bytes <= keep.bytes and ms >= oldest then break end
            floorid, moved = entry[1], true
            events = events - tonumber(entry[2][6])
            bytes = math.max(0, bytes - size(entry[2]))
          end
          if moved then
            redis.call('HSET', floorkey, 'id', floorid, 'events', events, 'bytes', bytes)
            redis.call('XTRIM', window, 'MINID', after(floorid))
          end
          if floorid == '0-0' or not (moved or keep.idle) then return moved end
          -- The index, by age and by number. Never up to the floor: what the window still
          -- holds is counted by the index, and the floor's own entry says that it is whole.
          local cut, surplus = keep.now - keep.indexage, redis.call('XLEN', index) - keep.indexbatches
          local function isPast(entry, place)
            return place <= surplus or tonumber(string.match(entry[1], '^%d+')) < cut
          end
          local first = redis.call('XRANGE', index, '-', '(' .. floorid, 'COUNT', 1)[1]
          if first and isPast(first, 1) then
            local last
            for place, entry in ipairs(redis.call('XRANGE', index, '-', '(' .. floorid, 'COUNT', 64)) do
              if not isPast(entry, place) then break end
              last = entry[1]
            end
            redis.call('XTRIM', index, 'MINID', after(last))
            redis.call('HSET', floorkey, 'index', last)
          end
          return moved
        end

        """

    /// Lets go of what has become too old in a topic that gets no events. Replies 1 where there may
    /// be more of it.
    package static let trim = RedisScript(
        name: "trim",
        body: trimming + """
            local time = redis.call('TIME')
            local moved = trim(KEYS[1], KEYS[2], KEYS[3], {
              spared = '', idle = true,
              now = time[1] * 1000 + math.floor(time[2] / 1000),
              events = tonumber(ARGV[1]), age = tonumber(ARGV[2]), bytes = tonumber(ARGV[3]),
              indexage = tonumber(ARGV[4]), indexbatches = tonumber(ARGV[5])})
            return moved and 1 or 0
            """)

    /// Makes room in a Redis that is full: lets go of the oldest window entries, whatever the topic,
    /// until about so many bytes are free. What is younger than so many milliseconds stays, because
    /// the nodes may still have to read it. Keys are the window, the index and the floor of each
    /// topic. Replies with the numbers of entries, events and bytes.
    ///
    /// Runs although Redis is over its limit, for which it has to say so: Redis 7 or newer.
    package static let shed = RedisScript(
        name: "shed",
        body: "#!lua flags=allow-oom\n" + trimming + """
            local time = redis.call('TIME')
            local newest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
            local wanted, entries, events, freed = tonumber(ARGV[1]), 0, 0, 0
            local topics = {}
            local function advance(topic)
              local entry = redis.call('XRANGE', topic.index, '(' .. topic.floorid, '+', 'COUNT', 1)[1]
              topic.entry, topic.ms = entry, nil
              if entry then topic.ms = tonumber(string.match(entry[1], '^%d+')) end
            end
            for key = 1, #KEYS, 3 do
              local floor = redis.call('HMGET', KEYS[key + 2], 'id', 'events', 'bytes')
              local topic = {
                window = KEYS[key], index = KEYS[key + 1], floor = KEYS[key + 2], floorid = floor[1] or '0-0',
                events = tonumber(floor[2] or '0'), bytes = tonumber(floor[3] or '0'), moved = false}
              advance(topic)
              topics[#topics + 1] = topic
            end
            while freed < wanted and entries < 512 do
              local oldest
              for _, topic in ipairs(topics) do
                if topic.ms and topic.ms < newest and (not oldest or topic.ms < oldest.ms) then
                  oldest = topic
                end
              end
              if not oldest then break end
              local fields = oldest.entry[2]
              oldest.floorid, oldest.moved = oldest.entry[1], true
              oldest.events = oldest.events - tonumber(fields[6])
              oldest.bytes = math.max(0, oldest.bytes - size(fields))
              entries, events, freed = entries + 1, events + tonumber(fields[6]), freed + size(fields) + 64
              advance(oldest)
            end
            for _, topic in ipairs(topics) do
              if topic.moved then
                redis.call('HSET', topic.floor, 'id', topic.floorid, 'events', topic.events, 'bytes', topic.bytes)
                redis.call('XTRIM', topic.window, 'MINID', after(topic.floorid))
              end
            end
            return {entries, events, freed}
            """)

    /// Appends one batch, or says why not. Safe to repeat: what a batch holds is a pure function
    /// of topic, partition and offset, so whoever sends it again, also a node that no longer owns
    /// the partition, leaves one copy.
    ///
    /// Replies: `{0, hw}` all of it was there; `{1, hw}` its beginning was there, send the rest;
    /// `{2, hw}` Redis has less than the caller knows it had: it lost data; `{3, ms, n}` appended,
    /// and `ms-n` is the ID of its last event; `{4, -1}` the caller is attached to another epoch of
    /// history than there is: it has to run ``attach`` first. Without an epoch that is not looked at.
    ///
    /// A ``HistoryLoss`` is appended like a batch of one event; its field `l` is the last argument.
    ///
    /// The offsets are read as numbers of 53 bits, which Kafka would need 285 years at a million
    /// events a second in one partition to exceed.
    package static let append = RedisScript(
        name: "append",
        body: trimming + """
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n', 'epoch')
            if ARGV[14] ~= '' and seq[3] ~= ARGV[14] then return {4, -1} end
            local hw = tonumber(redis.call('HGET', KEYS[4], ARGV[2]) or '-1')
            local base, last, expected = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
            if last <= hw then return {0, hw} end
            if base <= hw then return {1, hw} end
            if hw < expected then return {2, hw} end
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
              redis.call('XADD', KEYS[3], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'b', #ARGV[7])
            else
              redis.call('XADD', KEYS[3], id, 'p', ARGV[2], 'o', ARGV[3], 'c', ARGV[6], 'b', #ARGV[7], 'x', ARGV[11])
            end
            -- Only now: a script that fails takes nothing back, and a mark without its events
            -- would be a loss.
            redis.call('HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'n', string.format('%.0f', n))
            redis.call('HSET', KEYS[4], ARGV[2], ARGV[4])
            if redis.call('SADD', KEYS[6], ARGV[1]) == 1 then
              redis.call('XADD', KEYS[7], '*', 't', ARGV[1])
            end
            local events = redis.call('HINCRBY', KEYS[5], 'events', count)
            local bytes = redis.call('HINCRBY', KEYS[5], 'bytes', #ARGV[7])
            -- Every node waits for this script: what is too old can wait for one in eight.
            if events <= tonumber(ARGV[8]) and bytes <= tonumber(ARGV[15]) and now % 8 > 0 then
              return {3, ms, n}
            end
            trim(KEYS[2], KEYS[3], KEYS[5], {
              spared = id, now = now,
              events = tonumber(ARGV[8]), age = tonumber(ARGV[9]), bytes = tonumber(ARGV[15]),
              indexage = tonumber(ARGV[10]), indexbatches = tonumber(ARGV[13])})
            return {3, ms, n}
            """)

    /// One page after a cursor: for each topic the floor where it lies after the cursor, whether
    /// more entries follow, the entries, and what kind they are: 0 of the window, 1 of the index;
    /// then the newest entry of the index that it let go, the entry of the index at or before
    /// the cursor, and, of an index, the partitions that were made anew with the IDs at that time.
    ///
    /// A topic whose floor lies after the cursor is served from its index, up to the floor; where
    /// the first of those parts ends, the page ends. The others are served from their window. The
    /// budget of bytes is for each topic and the entry that reaches it is the last one, so a page
    /// is no larger than the budget and one entry a topic; of the index it is a number of events.
    /// Nothing follows a cursor beyond the tip, and Redis would refuse the largest of all IDs as a
    /// start.
    package static let page = RedisScript(
        name: "page",
        body: """
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n')
            local time = redis.call('TIME')
            local ms, n = tonumber(ARGV[1]), tonumber(ARGV[2])
            local budget, most = tonumber(ARGV[3]), tonumber(ARGV[4])
            local reply = {
              seq[1] or '0', seq[2] or '0', time[1] .. string.format('%03d', math.floor(time[2] / 1000)),
              redis.call('LINDEX', KEYS[#KEYS], 0) or ''}
            local tipms, tipn = tonumber(reply[1]), tonumber(reply[2])
            local beyond = ms > tipms or (ms == tipms and n >= tipn)
            local start = '(' .. ARGV[1] .. '-' .. ARGV[2]
            local function parse(id)
              local a, b = string.match(id, '^(%d+)-(%d+)$')
              return tonumber(a), tonumber(b)
            end
            local parts, stop, stopms, stopn = {}, '+', nil, nil
            for key = 2, #KEYS - 1, 3 do
              local mark = redis.call('HMGET', KEYS[key + 1], 'id', 'index')
              local floor, indexfloor = mark[1] or '0-0', mark[2] or '0-0'
              local fms, fn = parse(floor)
              if not beyond and (fms > ms or (fms == ms and fn > n)) then
                local entries, events, more, from = {}, 0, 1, start
                while events < most do
                  local got = redis.call('XRANGE', KEYS[key + 2], from, floor, 'COUNT', 64)
                  local taken = 0
                  for _, entry in ipairs(got) do
                    if events >= most then break end
                    taken = taken + 1
                    entries[#entries + 1] = entry
                    events = events + (tonumber(entry[2][6] or '1') or 1)
                    from = '(' .. entry[1]
                  end
                  if taken == #got and taken < 64 then more = 0 break end
                end
                local last = floor
                if more == 1 then last = entries[#entries][1] end
                local lms, ln = parse(last)
                if not stopms or lms < stopms or (lms == stopms and ln < stopn) then
                  stop, stopms, stopn = last, lms, ln
                end
                -- Partitions that were made anew, and when.
                local anew, fields = {}, redis.call('HGETALL', KEYS[key + 1])
                for place = 1, #fields, 2 do
                  local partition = string.match(fields[place], '^anew:(%d+)$')
                  if partition then
                    anew[#anew + 1] = partition
                    anew[#anew + 1] = fields[place + 1]
                  end
                end
                parts[key] = {floor, more, entries, 1, indexfloor, '', anew}
              end
            end
            for key = 2, #KEYS - 1, 3 do
              if not parts[key] then
                local entries, bytes, more, from = {}, 0, 1, start
                if beyond then more, bytes = 0, budget end
                while bytes < budget do
                  local got = redis.call('XRANGE', KEYS[key], from, stop, 'COUNT', 16)
                  local taken = 0
                  for _, entry in ipairs(got) do
                    if bytes >= budget then break end
                    taken = taken + 1
                    entries[#entries + 1] = entry
                    bytes = bytes + #(entry[2][8] or '') + 64
                    from = '(' .. entry[1]
                  end
                  if taken == #got and taken < 16 then more = 0 break end
                end
                parts[key] = {'', more, entries, 0, ''}
              end
              local before = ''
              if not beyond and n > 0 and n < 9e15 then
                local at = redis.call('XREVRANGE', KEYS[key + 2], ARGV[1] .. '-' .. ARGV[2], '-', 'COUNT', 1)[1]
                if at then before = at[1] end
              end
              parts[key][6] = before
              reply[#reply + 1] = parts[key]
            end
            return reply
            """)

    /// Forgets a high-water offset, if it is still the one the caller saw: the topic was deleted
    /// and made again. What the index has of the partition up to here speaks of records that are
    /// gone, and of offsets that others have now; the floor remembers that. Replies 1 where there is
    /// no mark afterwards, 0 where there is another one.
    package static let forgetHighWater = RedisScript(
        name: "forget-high-water",
        body: """
            local mark = redis.call('HGET', KEYS[1], ARGV[1])
            if not mark then return 1 end
            if mark ~= ARGV[2] then return 0 end
            local seq = redis.call('HMGET', KEYS[2], 'ms', 'n')
            redis.call('HSET', KEYS[3], 'anew:' .. ARGV[1], (seq[1] or '0') .. '-' .. (seq[2] or '0'))
            return redis.call('HDEL', KEYS[1], ARGV[1])
            """)
}
