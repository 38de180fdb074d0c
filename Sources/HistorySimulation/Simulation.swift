// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire
import History
import KafkaClient

/// A cluster in one process on a manual clock: nodes, Kafka, Redis, clients, and everything that
/// can go wrong between them, all of it from one seed.
///
/// What is under test is the product's own code as far as it does no input or output; Redis is the
/// ``HistoryModel``. ``run()`` plays a number of random steps, lets all faults end, and then holds
/// what happened against the rules:
///
/// - history holds every record of Kafka once, in the order of its partition;
/// - no ID was ever given to two events;
/// - each client has exactly what history holds after the place where it began, in its order: no
///   event is missing, none is there twice, on whatever nodes it was.
package struct Simulation {
    /// What is broken on purpose, for the checkers to find.
    package enum Canary: Sendable, CaseIterable {
        case marksIgnored
        case marksFirst
        case epochsIgnored
        case nothingHeldBack
    }

    package let seed: UInt64
    private let canary: Canary?
    private var random: SeededRandom
    private var now: UInt64 = 1_763_683_200_000
    private var kafka: SimulatedKafka
    private var nodes: [SimulatedNode] = []
    private var clients: [SimulatedClient] = []

    // Redis, and what it could fall back to.
    private var redis: HistoryModel
    private var replica: HistoryModel
    private var dump: HistoryModel
    private var server = 1
    /// What this server's clock is ahead of the simulation's.
    private var clockSkew: UInt64 = 0
    private var isReachable = true
    private var lossesLeft: Int
    private var nodesThatDied = 0
    private var nodesStay = false
    /// Appends on their way that their senders have given up.
    private var late: [(request: AppendRequest, epoch: String)] = []
    private let windowEvents: Int
    private let windowBytes: Int
    /// Whose number each ID stands for, over all that was ever in history.
    private var given: [EventID: UInt32] = [:]

    package private(set) var steps = 0
    /// What happened, for the report of a failure.
    package private(set) var trace: [String] = []

    package var tracesClients = false
    private static let stepsMax = 110

    package init(seed: UInt64, canary: Canary? = nil) {
        self.seed = seed
        self.canary = canary
        random = SeededRandom(seed: seed)
        let nodeCount = Int.random(in: 2...3, using: &random)
        kafka = SimulatedKafka(Scene.partitions, nodes: nodeCount)
        let fault: HistoryModel.Fault? =
            switch canary {
            case .marksIgnored: .marksIgnored
            case .marksFirst: .marksFirst
            case .epochsIgnored: .epochsIgnored
            case .nothingHeldBack, nil: nil
            }
        redis = HistoryModel(fault: fault)
        replica = redis
        dump = redis
        lossesLeft = Int.random(in: 0...3, using: &random)
        windowEvents = Int.random(in: 0..<4, using: &random) == 0 ? 12 : .max
        windowBytes = [600, 4000, 1 << 20].randomElement(using: &random)!
        for _ in 0..<nodeCount { nodes.append(newNode()) }
        for number in 0..<4 {
            let topic = number == 0 ? "a" : number == 1 ? "b" : nil
            clients.append(
                SimulatedClient(
                    to: Scene.subscription(to: topic), topics: topic.map { [$0] } ?? Scene.topics))
        }
    }

    private func newNode() -> SimulatedNode {
        SimulatedNode(windowBytes: windowBytes, holdsNothingBack: canary == .nothingHeldBack)
    }

    // MARK: - The run

    /// Plays it to its end.
    ///
    /// - Returns: What rule was broken; `nil` where none was.
    package mutating func run() -> String? {
        for _ in 0..<Self.stepsMax {
            steps += 1
            step()
            if tracesClients {
                for (place, client) in clients.enumerated() {
                    note(
                        "client \(place) on \(client.node ?? -1) at \(client.cursor ?? .zero) has \(client.received.map { "\($0.number)" }.joined(separator: ","))"
                    )
                }
                for (place, node) in nodes.enumerated() {
                    note(
                        "node \(place) \(node.seen) w \(node.window?.coveredAfter ?? .zero)..\(node.window?.lastID ?? .zero) ends \(node.ends)"
                    )
                }
                note("redis \(redis.tip)")
            }
            if let complaint = self.complaint { return complaint }
        }
        settle()
        return complaint ?? verdict()
    }

    private var complaint: String? {
        nodes.lazy.compactMap(\.complaint).first ?? clients.lazy.compactMap(\.complaint).first
    }

    private mutating func step() {
        now += UInt64.random(in: 0...40, using: &random)
        let node = Int.random(in: 0..<nodes.count, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<18: produce()
        case 18..<46: ingest(node)
        case 46..<66: tail(node, atMost: Int.random(in: 1...3, using: &random))
        case 66..<80: client()
        case 80..<83: attach(node)
        case 83..<86: lateArrival()
        case 86..<88: rebalance()
        case 88..<91: replica = redis
        case 91..<92: dump = redis
        case 92..<94: if lossesLeft > 0 { redisFails() }
        case 94..<95: nodeDies(node)
        case 95..<97: nodes[node].disconnect()
        case 97..<98: isReachable.toggle()
        default: commit(node)
        }
    }

    private mutating func note(_ text: String) { trace.append("\(steps): \(text)") }

    private mutating func produce() {
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let partition = Scene.partitions.randomElement(using: &random)!
            kafka.produce(to: partition, afterHole: Int.random(in: 0..<8, using: &random) == 0)
        }
    }

    private var redisNow: UInt64 { now + clockSkew }

    // MARK: - What a node does

    private mutating func attach(_ number: Int) {
        guard isReachable else { return }
        let state = redis.attach(
            seen: nodes[number].seen, server: "server-\(server)", now: redisNow)
        nodes[number].attachIngest(state, redis)
        if nodes[number].merge != nil || Bool.random(using: &random) { attachTail(number) }
    }

    private mutating func attachTail(_ number: Int) {
        let seen = nodes[number].merge?.newestID ?? .zero
        nodes[number].attachTail(
            redis.attach(seen: seen, server: "server-\(server)", now: redisNow))
    }

    private mutating func ingest(_ number: Int) {
        guard isReachable else { return }
        guard nodes[number].isAttached else { return attach(number) }
        for partition in Scene.partitions where kafka.owners[partition] == number {
            nodes[number].own(
                partition, mark: redis.mark(partition.topic, partition.partition),
                committed: kafka.committed[partition])
        }
        // A node that has lost a partition without knowing goes on with it.
        for partition in Scene.partitions {
            guard let reading = nodes[number].readings[partition] else { continue }
            let limit = Int.random(in: 0...5, using: &random)
            nodes[number].collect(
                partition, kafka.read(partition, from: reading.position, atMost: limit))
            append(partition, by: number)
        }
    }

    private mutating func append(_ partition: TopicPartition, by number: Int) {
        guard nodes[number].isAttached, var reading = nodes[number].readings[partition] else {
            return
        }
        if reading.ingest.inFlight == nil { _ = reading.ingest.takeBatch() }
        nodes[number].readings[partition] = reading
        guard let request = reading.ingest.inFlight else { return }
        let epoch = nodes[number].epoch
        switch Int.random(in: 0..<12, using: &random) {
        case 0: return  // Lost on its way.
        case 1: late.append((request, epoch))
        case 2: _ = execute(request, epoch)  // The answer is lost.
        case 3:
            redis.cutsNextAppend = true
            fallthrough
        default:
            guard let outcome = execute(request, epoch) else { return }
            if let next = nodes[number].settle(partition, outcome) {
                nodes[number].committable[partition] = next
            }
        }
    }

    private mutating func execute(_ request: AppendRequest, _ epoch: String) -> AppendOutcome? {
        redis.append(request, epoch: epoch, now: redisNow, windowEvents: windowEvents)
    }

    private mutating func lateArrival() {
        guard isReachable, !late.isEmpty else { return }
        let place = Int.random(in: 0..<late.count, using: &random)
        let (request, epoch) = late.remove(at: place)
        _ = execute(request, epoch)
    }

    private mutating func commit(_ number: Int) {
        for (partition, next) in nodes[number].committable
        where kafka.owners[partition] == number {
            kafka.committed[partition] = next
        }
    }

    private mutating func tail(_ number: Int, atMost count: Int) {
        guard isReachable else { return }
        if nodes[number].wantsToAttach { attachTail(number) }
        nodes[number].tail(redis, atMost: count)
    }

    // MARK: - What clients do

    private mutating func client() {
        let place = Int.random(in: 0..<clients.count, using: &random)
        guard let number = clients[place].node else {
            let number = Int.random(in: 0..<nodes.count, using: &random)
            guard let window = nodes[number].window else { return }
            return clients[place].connect(to: number, window)
        }
        if Int.random(in: 0..<5, using: &random) == 0 {
            clients[place].node = nil
        } else {
            pull(place, from: number, atMost: Int.random(in: 1...6, using: &random))
        }
    }

    private mutating func pull(_ place: Int, from number: Int, atMost steps: Int) {
        let name = "server-\(server)"
        let time = redisNow
        clients[place].pull(
            &nodes[number], &redis, atMost: steps,
            pageEntries: Int.random(in: 1...3, using: &random),
            attach: isReachable ? { $0.attach(seen: $1, server: name, now: time) } : nil)
    }

    // MARK: - What goes wrong

    private mutating func rebalance() {
        let partition = Scene.partitions.randomElement(using: &random)!
        let before = kafka.owners[partition]!
        let number = Int.random(in: 0..<nodes.count, using: &random)
        kafka.give(partition, to: number)
        // One time in three the node that had it does not notice.
        if number != before, Int.random(in: 0..<3, using: &random) > 0 {
            nodes[before].readings[partition] = nil
        }
    }

    private mutating func nodeDies(_ number: Int) {
        guard !nodesStay else { return }
        nodesThatDied += 1
        note("node \(number) dies")
        nodes[number] = newNode()
        for place in clients.indices where clients[place].node == number {
            clients[place].node = nil
        }
    }

    private mutating func redisFails() {
        lossesLeft -= 1
        // The time of IDs is ahead of the clock for a second after a loss. Where the next one comes
        // before that is over, and all who had read are gone, repeats are not told as such.
        nodesStay = nodesStay || redis.tip.milliseconds > redisNow
        switch Int.random(in: 0..<5, using: &random) {
        case 0:
            note("Redis is emptied")
            redis = HistoryModel(fault: redis.fault)
            replica = redis
            dump = redis
            return
        case 1:
            note("Redis starts with an old dump of \(dump.tip)")
            redis = dump
        case 2: note("Redis starts with all it had")
        default:
            note("a replica at \(replica.tip) is promoted, the primary was at \(redis.tip)")
            redis = replica
        }
        // What is older than a loss is not brought back by the next one: see decision 0013.
        replica = redis
        dump = redis
        server += 1
        // They went to the server before, by connections that ended with it.
        late = []
        let skew: UInt64 = [0, 0, 5, 900, 5000].randomElement(using: &random)!
        // A clock that is behind by more than the allowance is made up for by who has seen more;
        // where that node is gone as well, nobody knows.
        let isFarBehind = skew + 900 < clockSkew
        if !isFarBehind || nodesThatDied == 0 { clockSkew = skew }
        nodesStay = nodesStay || isFarBehind
        for number in nodes.indices { nodes[number].disconnect() }
    }

    // MARK: - The end

    /// Lets everything that is under way arrive, without further faults.
    private mutating func settle() {
        isReachable = true
        note("no more faults")
        for number in nodes.indices {
            for partition in Scene.partitions where kafka.owners[partition] != number {
                nodes[number].readings[partition] = nil
            }
        }
        while !late.isEmpty { lateArrival() }
        for place in clients.indices where clients[place].node == nil {
            clients[place].node = Int.random(in: 0..<nodes.count, using: &random)
        }
        var quietRounds = 0
        var rounds = 0
        while quietRounds < 20, rounds < 400 {
            rounds += 1
            now += 20
            let before = redis.tip
            for number in nodes.indices {
                if rounds % 3 == 0 { attach(number) }
                ingest(number)
                tail(number, atMost: 8)
            }
            quietRounds = redis.tip == before && isAllRead ? quietRounds + 1 : 0
        }
        for place in clients.indices {
            let number = clients[place].node!
            if clients[place].cursor == nil, let window = nodes[number].window {
                clients[place].connect(to: number, window)
            }
            pull(place, from: number, atMost: 400)
        }
    }

    private var isAllRead: Bool {
        Scene.partitions.allSatisfy {
            (redis.mark($0.topic, $0.partition) ?? -1) + 1 >= kafka.end(of: $0)
        }
    }

    private func numbers(_ entry: HistoryModel.Entry) -> [(id: EventID, number: UInt32)] {
        var layout = BatchLayout()
        do throws(BatchCodecError) {
            try layout.read(entry.bytes.span, base: entry.base, count: entry.count)
        } catch { preconditionFailure("an entry of our own cannot be read: \(error)") }
        return (0..<entry.count).map { row in
            let value = entry.bytes[layout.values[row]]
            let number = value.enumerated().reduce(UInt32(0)) {
                $0 | UInt32($1.element) << UInt32(8 * $1.offset)
            }
            return (
                EventID(
                    milliseconds: entry.id.milliseconds,
                    sequence: entry.firstID.sequence + UInt64(row)), number
            )
        }
    }

    private mutating func verdict() -> String? {
        var history: [(topic: String, id: EventID, number: UInt32)] = []
        var byPartition: [TopicPartition: [UInt32]] = [:]
        for entry in redis.history {
            for (id, number) in numbers(entry) {
                history.append((entry.topic, id, number))
                byPartition[TopicPartition(entry.topic, entry.partition), default: []].append(
                    number)
            }
        }
        for partition in Scene.partitions {
            let wanted = kafka.records[partition]!.map(\.number)
            let held = byPartition[partition] ?? []
            guard held == wanted else {
                return "history holds \(held) of \(partition), Kafka \(wanted)"
            }
        }
        for (place, client) in clients.enumerated() {
            guard let start = client.start else { continue }
            let wanted = history.filter { $0.id > start && client.topics.contains($0.topic) }
            if let complaint = compare(client, wanted.map { ($0.id, $0.number) }) {
                return "client \(place), from \(start): \(complaint)"
            }
        }
        return nil
    }

    private func compare(_ client: SimulatedClient, _ wanted: [(id: EventID, number: UInt32)])
        -> String?
    {
        var next = client.received[...]
        for event in wanted {
            if let first = next.first, first == event {
                next.removeFirst()
            } else if !client.gaps.contains(where: { $0.from < event.id && event.id <= $0.to }) {
                let found = next.first.map { "\($0.number) as \($0.id)" } ?? "nothing"
                return "event \(event.number) as \(event.id) is missing, \(found) is there"
            }
        }
        return next.first.map { "event \($0.number) as \($0.id) is one too many" }
    }
}

/// A small generator, the same everywhere.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
