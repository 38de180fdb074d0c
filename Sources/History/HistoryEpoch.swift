// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire
package import RedisClient

/// A place where Redis went on from before what it had given out, or may have.
///
/// View: cluster. Whenever history goes on in a server that is not the one before (a promoted
/// replica, a restart, an emptied one), the first node to attach ends the epoch: the newest ID that
/// is left is `from`, and the sequence numbers go on after `to`, far beyond anything that can have
/// been given out meanwhile. So of every ID it can be told whether it belongs to what was lost,
/// and none is given twice. See docs/decisions/0013-healing.md.
package struct EpochEnd: Sendable, Hashable {
    /// The newest ID of history that is left.
    package let from: EventID
    /// History goes on after this one. It is the ID of no event.
    package let to: EventID

    package init(from: EventID, to: EventID) {
        self.from = from
        self.to = to
    }

    /// True where `cursor` lies in what was lost: it was given out, or made up, and is not in
    /// history. Times alone are no places in history.
    package func covers(_ cursor: EventID) -> Bool {
        guard cursor.sequence != .max, cursor != to else { return false }
        if cursor.sequence > from.sequence, cursor.sequence < to.sequence { return true }
        // From a history that was longer than this one, and is gone altogether.
        return cursor.sequence >= to.sequence && from < cursor && cursor < to
    }

    static func parse(_ text: String) -> EpochEnd? {
        let parts = text.split(separator: " ")
        guard parts.count == 2, let from = try? EventID.parse(String(parts[0])),
            let to = try? EventID.parse(String(parts[1]))
        else { return nil }
        return EpochEnd(from: from, to: to)
    }
}

extension [EpochEnd] {
    /// The oldest of the ends that `cursor` lies in: what came after its `from` comes again.
    package func covering(_ cursor: EventID) -> EpochEnd? { last { $0.covers(cursor) } }
}

/// What ``HistoryScripts/attach`` answers: history as of one instant.
package struct HistoryState: Sendable, Equatable {
    package let tip: EventID
    /// Changes whenever history goes on from before.
    package let epoch: String
    package let topics: [String]
    /// Newest first.
    package let ends: [EpochEnd]

    package init(tip: EventID, epoch: String, topics: [String], ends: [EpochEnd]) {
        self.tip = tip
        self.epoch = epoch
        self.topics = topics
        self.ends = ends
    }

    static func read(_ result: borrowing Result<RedisReplyView, RedisError>)
        -> Result<HistoryState, RedisError>
    {
        switch result {
        case .failure(let error): .failure(error)
        case .success(let reply): read(reply)
        }
    }

    private static func read(_ reply: RedisReplyView) -> Result<HistoryState, RedisError> {
        guard let ms = reply[0].text.flatMap({ UInt64($0) }),
            let n = reply[1].text.flatMap({ UInt64($0) }), let epoch = reply[2].text
        else {
            return .failure(
                RedisError(.serverReplied, "the attach script answered \(reply.copy())"))
        }
        let topics = (0..<reply[3].count).map { reply[3][$0].text ?? "" }
        let ends = (0..<reply[4].count).compactMap { place in
            reply[4][place].text.flatMap { EpochEnd.parse($0) }
        }
        return .success(
            HistoryState(
                tip: EventID(milliseconds: ms, sequence: n), epoch: epoch, topics: topics,
                ends: ends))
    }
}

extension RedisCommand {
    /// Calls ``HistoryScripts/attach``.
    ///
    /// - Parameter seen: The newest ID that the caller's node has seen.
    package static func attach(_ keys: HistoryKeys, seen: EventID) -> RedisCommand {
        var command = RedisCommand(
            script: HistoryScripts.attach, keys: [keys.sequence, keys.topics, keys.epochEnds])
        command.append(seen.milliseconds)
        command.append(seen.sequence)
        command.append(keys.root)
        return command
    }
}

extension HistoryScripts {
    /// How far the sequence numbers leap when an epoch ends. More than a replica or a dump can
    /// have been behind what any node had seen; small enough for 53 bits to last.
    package static let leap: UInt64 = 1 << 20
    /// How far the milliseconds leap: more than two servers' clocks differ, where somebody looks
    /// after them.
    package static let clockAllowance: UInt64 = 1000

    /// Makes the history that this server holds the one that is gone on with, and says what there
    /// is: `{ms, n, epoch, topics, ends}`. Every node runs it whenever it is connected anew, and
    /// once a second.
    ///
    /// Where the server is not the one of the present epoch, or there is none, the epoch ends: a
    /// loss is noted, from the newest ID there is to one beyond all that were ever given out, and
    /// history goes on after that. Nothing is appended to an epoch that has ended.
    ///
    /// Where the caller has seen an ID that lies beyond what was begun since (its server's clock
    /// was ahead by more than the allowance), what was appended since is taken back: removed, its
    /// high-water offsets too, so that it is appended once more, after that ID. A last resort,
    /// which costs repeats and loses nothing.
    package static let attach = RedisScript(
        name: "attach",
        body: """
            local seq = redis.call('HMGET', KEYS[1], 'ms', 'n', 'epoch', 'server')
            local ms, n = tonumber(seq[1] or '0'), tonumber(seq[2] or '0')
            local seenms, seenn = tonumber(ARGV[1]), tonumber(ARGV[2])
            local server = ''
            for _, part in ipairs({{'server', 'run_id:%x+'}, {'replication', 'master_replid:%x+'}}) do
              local info = redis.pcall('INFO', part[1])
              if type(info) == 'string' then server = server .. (string.match(info, part[2]) or '') end
            end
            local function later(ams, an, bms, bn) return ams > bms or (ams == bms and an > bn) end
            local isNew = not seq[3] or seq[4] ~= server
            local isAhead = later(seenms, seenn, ms, n)
            local fromms, fromn, cut = ms, n, 0
            for place, text in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
              local ams, an, bms, bn = string.match(text, '^(%d+)-(%d+) (%d+)-(%d+)$')
              ams, an, bms, bn = tonumber(ams), tonumber(an), tonumber(bms), tonumber(bn)
              local covers = seenn > an and seenn < bn
              if (covers and later(seenms, seenn, bms, bn))
                or (isAhead and not isNew and (covers or place == 1)) then
                cut, fromms, fromn = place, ams, an
              end
            end
            if isNew or isAhead or cut > 0 then
              if cut > 0 then
                local from = string.format('(%.0f-%.0f', fromms, fromn)
                for _, topic in ipairs(redis.call('SMEMBERS', KEYS[2])) do
                  local window, index = ARGV[3] .. ':window:' .. topic, ARGV[3] .. ':index:' .. topic
                  local marks, floor = ARGV[3] .. ':hw:' .. topic, ARGV[3] .. ':floor:' .. topic
                  local count, got = 0, nil
                  repeat
                    got = redis.call('XRANGE', index, from, '+', 'COUNT', 256)
                    for _, entry in ipairs(got) do
                      local partition, base = entry[2][2], tonumber(entry[2][4])
                      local mark = redis.call('HGET', marks, partition)
                      if mark and base == 0 then
                        redis.call('HDEL', marks, partition)
                      elseif mark and tonumber(mark) >= base then
                        redis.call('HSET', marks, partition, string.format('%.0f', base - 1))
                      end
                      count = count + tonumber(entry[2][6])
                      redis.call('XDEL', window, entry[1])
                      redis.call('XDEL', index, entry[1])
                    end
                  until #got < 256
                  if count > 0 then redis.call('HINCRBY', floor, 'events', -count) end
                end
                redis.call('LTRIM', KEYS[3], cut, -1)
              end
              local time = redis.call('TIME')
              local now = time[1] * 1000 + math.floor(time[2] / 1000)
              ms, n = math.max(ms, now, seenms), math.max(n, seenn)
              if n > 0 then ms, n = ms + \(clockAllowance), n + \(leap) end
              local to = string.format('%.0f-%.0f', ms, n)
              seq[3] = to .. '.' .. time[2]
              redis.call(
                'HSET', KEYS[1], 'ms', string.format('%.0f', ms), 'n', string.format('%.0f', n),
                'epoch', seq[3], 'server', server)
              redis.call('LPUSH', KEYS[3], string.format('%.0f-%.0f ', fromms, fromn) .. to)
              redis.call('LTRIM', KEYS[3], 0, 63)
            end
            return {
              string.format('%.0f', ms), string.format('%.0f', n), seq[3],
              redis.call('SMEMBERS', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1)}
            """)
}
