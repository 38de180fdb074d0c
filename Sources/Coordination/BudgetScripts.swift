// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import RedisClient

/// Names one limit that the whole cluster shares.
///
/// View: cluster. Threads: any; a value.
package struct BudgetName: Sendable, Hashable, CustomStringConvertible {
    /// What is counted.
    package enum Unit: String, Sendable, CaseIterable {
        /// Open streams and WebSockets: places that somebody holds.
        case connections
        /// Thousandths of an event a second: a speed that a node may deliver at.
        case eventRate = "event_rate"
    }

    package let unit: Unit
    /// Whose budget it is; `nil` is everybody's.
    package let principal: String?

    package init(_ unit: Unit, of principal: String? = nil) {
        self.unit = unit
        self.principal = principal
    }

    /// `connections`, or `connections:198.51.100.7`. A part of a key in Redis.
    package var description: String {
        principal.map { "\(unit.rawValue):\($0)" } ?? unit.rawValue
    }
}

/// A node's part of one limit, or what all nodes have of it.
package struct BudgetShare: Sendable, Equatable {
    package var leased: Int
    /// Of that, what is in use; of a rate nothing is held.
    package var held: Int

    package init(leased: Int, held: Int) {
        self.leased = leased
        self.held = held
    }
}

/// One limit of the cluster, as the node that tells of it heard last.
package struct ClusterLimit: Sendable, Equatable {
    package let name: BudgetName
    /// Connections, or thousandths of an event a second.
    package let maximum: Int
    /// What all nodes have of it.
    package let all: BudgetShare
    package let own: BudgetShare
}

/// What a node tells Redis of its part of one budget.
package struct BudgetAsk: Sendable, Equatable {
    /// Grows with each ask of one process, so that one that comes late changes nothing.
    package var sequence: UInt64
    package var maximum: Int
    /// What it goes on using for now; never more than it was granted.
    package var claim: Int
    /// Of that, what is in use and cannot be given back.
    package var held: Int
    /// What it would use at this moment, what it holds included.
    package var need: Int
    /// What it would like to have at hand beyond that, where nobody else needs it.
    package var spare: Int
}

/// What Redis says of one budget, as of one instant.
package struct BudgetAnswer: Sendable, Equatable {
    /// What the node may use from here on.
    package var granted: Int
    /// What would be its fair part by what all nodes need; it gives back what it has beyond.
    package var target: Int
    /// What nobody has leased.
    package var free: Int
    /// What others have leased and did not use when they last said so.
    package var idleElsewhere: Int
    /// The nodes that have a part, this one included.
    package var nodes: Int
    /// What all of them have leased, and hold.
    package var leased: Int
    package var held: Int

    package init(
        granted: Int, target: Int, free: Int, idleElsewhere: Int, nodes: Int, leased: Int, held: Int
    ) {
        self.granted = granted
        self.target = target
        self.free = free
        self.idleElsewhere = idleElsewhere
        self.nodes = nodes
        self.leased = leased
        self.held = held
    }

    /// `nil` where the reply is none that ``BudgetScripts/share`` gives to an ask that counts.
    package init?(_ reply: RedisReplyView) {
        guard reply[0].integer == 1, reply.count == 8 else { return nil }
        var numbers: [Int] = []
        for index in 1..<8 {
            guard let number = reply[index].integer, number >= 0 else { return nil }
            numbers.append(Int(clamping: number))
        }
        self.init(
            granted: numbers[0], target: numbers[1], free: numbers[2], idleElsewhere: numbers[3],
            nodes: numbers[4], leased: numbers[5], held: numbers[6])
    }
}

extension ClusterKeys {
    /// When leases were last renewed, by Redis' clock; see ``LeaseScripts/renew``.
    package var watch: String { "{\(prefix):cluster}:watch" }

    /// A hash: process -> `sequence leased held need`.
    package func budget(_ name: BudgetName) -> String { "{\(prefix):cluster}:budget:\(name)" }

    /// The keys of ``BudgetScripts/share``.
    package func share(_ name: BudgetName) -> [String] {
        [ends, incarnations, watch, budget(name)]
    }
}

/// The Lua script of leased budgets. Redis' clock decides.
package enum BudgetScripts {
    /// Takes a node's claim to one budget, and grants it more where there is more.
    ///
    /// What all processes together have leased never exceeds the maximum: a part grows only by what
    /// nobody has leased, and it shrinks only by its own claim, which a node lowers after it has
    /// stopped using the rest. The part of a process ends with its lease. Where nobody has renewed
    /// a lease for the length of one, Redis was away or has lost what it held; then for the length
    /// of a lease everybody keeps what they claim and nothing is granted, because those who are
    /// missing may be there all the same.
    ///
    /// Fair is: everybody what they need; where that is too much, equal parts, and what one does
    /// not need of its own goes to the others. Places go to whoever needs them first.
    ///
    /// Keys: ``ClusterKeys/share(_:)``. Arguments: node, incarnation, length of a lease in ms,
    /// sequence, maximum, claim, held, need, spare, how long to keep the key in ms, unit.
    /// Replies: `{1, granted, target, free, idle elsewhere, nodes, leased, held}`, or `{0}` to an
    /// ask that is older than one before it.
    package static let share = RedisScript(
        name: "share",
        body: """
            local time = redis.call('TIME')
            local now = time[1] * 1000 + math.floor(time[2] / 1000)
            local length, maximum = tonumber(ARGV[3]), tonumber(ARGV[5])
            local claim, held = tonumber(ARGV[6]), tonumber(ARGV[7])
            local need, spare = tonumber(ARGV[8]), tonumber(ARGV[9])
            local watch = redis.call('HMGET', KEYS[3], 'seen', 'trust')
            local seen, trust = tonumber(watch[1] or ''), tonumber(watch[2] or '') or 0
            local trusts = seen and now - seen <= length and now >= trust
            local me = ARGV[1] .. '#' .. ARGV[2]
            local all = redis.call('HGETALL', KEYS[4])
            local before, mine
            local leased, holding, idle, nodes, wanted = 0, held, 0, 1, need
            local needs = {need}
            local others = {}
            for place = 1, #all, 2 do
              local part = {}
              for number in string.gmatch(all[place + 1], '%d+') do
                part[#part + 1] = tonumber(number)
              end
              if all[place] == me then
                before, mine = part[1], part[2]
              else
                local node, incarnation = string.match(all[place], '^(.*)#([^#]*)$')
                local ends = tonumber(redis.call('ZSCORE', KEYS[1], node) or '0')
                local gone = ends <= now or redis.call('HGET', KEYS[2], node) ~= incarnation
                if #part < 4 or (gone and trusts) then
                  redis.call('HDEL', KEYS[4], all[place])
                else
                  leased = leased + part[2]
                  holding = holding + part[3]
                  idle = idle + math.max(0, part[2] - part[3])
                  nodes = nodes + 1
                  wanted = wanted + part[4]
                  needs[#needs + 1] = part[4]
                  others[#others + 1] = part
                end
              end
            end
            if before and tonumber(ARGV[4]) <= before then return {0} end
            if mine then mine = math.min(mine, claim)
            elseif trusts then mine = held
            else mine = claim end
            mine = math.max(mine, held)
            local target
            local left, level = maximum, maximum
            if wanted <= maximum then
              target = need + math.min(spare, math.floor((maximum - wanted) / nodes))
            else
              table.sort(needs)
              for place = 1, #needs do
                level = left / (#needs - place + 1)
                if needs[place] > level then break end
                left = left - needs[place]
              end
              target = math.min(need, math.floor(level))
            end
            local free = math.max(0, maximum - leased - mine)
            local goal = target
            local promised = 0
            if ARGV[11] == 'connections' then
              -- A place that somebody waits for does not lie idle for the sake of fairness.
              goal = math.max(target, need)
              for _, part in ipairs(others) do
                promised = promised + math.max(0, math.floor(math.min(part[4], level)) - part[2])
              end
            end
            if trusts and mine < goal then
              local fair = math.max(0, math.min(target - mine, free))
              local more = math.max(fair, math.min(goal - mine, free - promised))
              mine = mine + more
              free = free - more
            end
            if not trusts then free = 1 end
            redis.call('HSET', KEYS[4], me,
              string.format('%s %.0f %.0f %.0f', ARGV[4], mine, held, need))
            redis.call('PEXPIRE', KEYS[4], ARGV[10])
            return {1, mine, target, free, idle, nodes, leased + mine, holding}
            """)
}
