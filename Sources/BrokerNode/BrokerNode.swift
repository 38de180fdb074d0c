// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Coordination
import Dependability
import EventStreamWire
import Glibc
import HTTPServer
import History
import JSONFields
import KafkaClient
package import NodeConfiguration
package import Observability
package import PosixIO
import Reactor
import RedisClient
import TLSEngine

/// Why a node could not start.
package struct BrokerNodeError: Error, Sendable, CustomStringConvertible {
    package let detail: String
    package var description: String { detail }
}

/// One node of the cluster: reads its share of Kafka, tails the whole of history, serves clients.
///
/// View: node. Threads: ``start()``, ``stop()`` and the initialiser belong to one thread, usually
/// the program's main one; the work is done on loops of the node's own (see
/// docs/internals/ARCHITECTURE.md): `ingest`, `tail`, and one `serve` loop a core.
package final class BrokerNode {
    private let context: NodeContext
    private let log: Logger
    private let serving: [EventLoop]
    private let ingestLoop: EventLoop
    private let tailLoop: EventLoop
    private let clusterLoop: EventLoop
    private var shards: [LoopBound<NodeShard>] = []
    private var ingestParts: LoopBound<IngestParts>?
    private var tailParts: LoopBound<TailParts>?
    private var cluster: LoopBound<NodeCluster>?
    private var keeper: LoopKeeper?

    /// What lives on the ingest loop.
    private final class IngestParts {
        let connection: RedisConnection
        let ingest: Ingest
        let orphans: Ingest
        let telemetry: Telemetry?
        let canary: CanarySender?
        let producer: ProducerKeeper

        init(
            connection: RedisConnection, ingest: Ingest, orphans: Ingest, telemetry: Telemetry?,
            canary: CanarySender?, producer: ProducerKeeper
        ) {
            self.connection = connection
            self.ingest = ingest
            self.orphans = orphans
            self.telemetry = telemetry
            self.canary = canary
            self.producer = producer
        }
    }

    /// What lives on the tail loop.
    private final class TailParts {
        let connections: [RedisConnection]
        var tail: HistoryTail?
        var replay: HistoryReplay?
        var readers: KafkaPageReaders?
        var watch: LoopTimer?

        init(connections: [RedisConnection]) { self.connections = connections }
    }

    /// Descriptors kept for everything that is no client: listeners, Redis, Kafka's brokers, logs.
    private static let reservedDescriptors = 128

    /// - Throws: Where the configuration asks for what cannot be had.
    package init(configuration: Configuration, log: Logger) throws(BrokerNodeError) {
        self.log = log
        do {
            let directory = try ChannelDirectory(
                channels: configuration.channels, patterns: configuration.patterns,
                limits: configuration.limits)
            let descriptors = ProcessUsage.raiseDescriptorLimit()
            let possible = max(1, descriptors - Self.reservedDescriptors)
            let wanted = configuration.limits.connections
            let connectionsMax = wanted == 0 ? possible : min(wanted, possible)
            if wanted > possible {
                log.warning(
                    "limits.connections is more than the descriptor limit allows",
                    LogField("wanted", wanted), LogField("admitted", possible))
            }
            context = try NodeContext(
                configuration: configuration, directory: directory,
                connectionsMax: connectionsMax, log: log)
            let loops = configuration.server.loops
            let count = loops == 0 ? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) : loops
            var serving: [EventLoop] = []
            for index in 0..<count { serving.append(try EventLoop(name: "serve-\(index)")) }
            self.serving = serving
            ingestLoop = try EventLoop(name: "ingest")
            tailLoop = try EventLoop(name: "tail")
            clusterLoop = try EventLoop(name: "cluster")
            log.info(
                "starting", LogField("version", Rivulet.version),
                LogField("node", configuration.node.id), LogField("loops", count),
                LogField("connections", connectionsMax), LogField("descriptors", descriptors))
        } catch {
            throw BrokerNodeError(detail: "\(error)")
        }
    }

    package var status: NodeStatus { context.status }

    // MARK: - Start

    /// Listens, and begins to look for Redis and Kafka. Returns at once: a node whose servers are
    /// away waits for them and says so in its log and on `/readyz`.
    package func start() throws(BrokerNodeError) {
        let server = context.configuration.server
        let wanted =
            try listenAddresses(server.listen, "server.listen", speakTLS: false)
            + listenAddresses(server.tlsListen, "server.tls_listen", speakTLS: true)
        for loop in serving + [ingestLoop, tailLoop, clusterLoop] { loop.start() }
        try startServing(wanted)
        let redis = try redisSettings()
        try startTail(redis)
        try startCluster(redis)
        try startIngest(redis)
        keeper = LoopKeeper(
            serving + [ingestLoop, tailLoop, clusterLoop], supervisor: context.supervisor)
        log.notice(
            "listening", LogField("addresses", addresses.map(\.description).joined(separator: ",")),
            LogField("tls", encryptedAddresses.map(\.description).joined(separator: ",")))
    }

    /// - Parameter key: Names the setting that `texts` come from.
    private func listenAddresses(
        _ texts: [String], _ key: String, speakTLS: Bool
    ) throws(BrokerNodeError) -> [ListenAddress] {
        var addresses: [SocketAddress] = []
        for text in texts {
            guard let colon = text.lastIndex(of: ":"),
                let port = UInt16(text[text.index(after: colon)...])
            else { throw BrokerNodeError(detail: "\(key) \"\(text)\" is no host:port") }
            let host = String(text[..<colon]).trimmingBrackets
            do {
                addresses += try SocketAddress.resolve(host: host, port: port).prefix(1)
                // Listeners share their port between loops, so the kernel would let another node
                // share it too. One listener that does not share finds out whether it is free.
                let probe = try StreamSocket.listen(
                    on: addresses[addresses.count - 1], backlog: 1, sharesPort: false)
                try probe.close()
            } catch let error as Errno where error.code == EADDRINUSE {
                throw BrokerNodeError(
                    detail: "\(text) is in use by another process; choose another \(key)")
            } catch {
                throw BrokerNodeError(detail: "cannot listen on \(text): \(error)")
            }
        }
        return addresses.map { ListenAddress($0, speaksTLS: speakTLS) }
    }

    /// Where the node listens, once started. A port that was 0 is the one the kernel chose.
    package private(set) var addresses: [SocketAddress] = []
    /// The same for TLS.
    package private(set) var encryptedAddresses: [SocketAddress] = []

    private func startServing(_ wanted: [ListenAddress]) throws(BrokerNodeError) {
        var addresses = wanted
        for loop in serving {
            let context = context
            let shard = LoopBound(NodeShard(loop: loop, context: context), on: loop)
            shards.append(shard)
            let asked = addresses
            // The first loop finds out what port 0 means; the others share it.
            addresses = try Self.furnish(loop) { () throws(BrokerNodeError) in
                do throws(HTTPServerError) {
                    return try shard.value.listen(on: asked)
                } catch { throw BrokerNodeError(detail: error.detail) }
            }
        }
        self.addresses = addresses.filter { !$0.speaksTLS }.map(\.address)
        encryptedAddresses = addresses.filter(\.speaksTLS).map(\.address)
    }

    private func redisSettings() throws(BrokerNodeError) -> RedisSettings {
        let section = context.configuration.redis
        do throws(RedisError) {
            let settings = try RedisSettings(
                section, clientName: "rivulet-\(context.configuration.node.id)")
            if settings.usesTLS, !section.tlsVerify {
                log.warning("redis.tls_verify is off: anybody in between can read and change all")
            }
            return settings
        } catch {
            throw BrokerNodeError(detail: "redis.url: \(error.detail)")
        }
    }

    // MARK: - Tail

    private func startTail(_ redis: RedisSettings) throws(BrokerNodeError) {
        let context = context
        let loop = tailLoop
        let shards = shards
        let log = log
        tailParts = try Self.furnish(loop) { () throws(BrokerNodeError) in
            let purposes = ["tail", "commands", "replay"]
            let scripts = [HistoryScripts.attach, HistoryScripts.page, HistoryScripts.lookback]
            let connections = purposes.map { purpose in
                RedisConnection(
                    loop: loop, settings: redis, purpose: purpose, scripts: scripts,
                    log: log.named("redis"), metrics: context.redisMetrics,
                    dependency: context.redisDependency)
            }
            let parts = TailParts(connections: connections)
            do throws(JSONFieldsError) {
                try Self.furnish(parts, context: context, loop: loop, shards: shards, log: log)
            } catch { throw BrokerNodeError(detail: error.description) }
            for connection in connections { connection.start() }
            return LoopBound(parts, on: loop)
        }
    }

    /// Makes something on a loop, which is where it will live.
    private static func furnish<Value: Sendable>(
        _ loop: EventLoop, _ make: @escaping @Sendable () throws(BrokerNodeError) -> Value
    ) throws(BrokerNodeError) -> Value {
        let made: Result<Value, BrokerNodeError>? = loop.answer {
            do throws(BrokerNodeError) {
                return .success(try make())
            } catch { return .failure(error) }
        }
        guard let made else { throw BrokerNodeError(detail: "loop \(loop.name) has stopped") }
        return try made.get()
    }

    private static func furnish(
        _ parts: TailParts, context: NodeContext, loop: EventLoop,
        shards: [LoopBound<NodeShard>], log: Logger
    ) throws(JSONFieldsError) {
        let keys = HistoryKeys(prefix: context.configuration.redis.keyPrefix)
        let limits = context.configuration.limits
        let account = ReplayAccount()
        let readers = KafkaPageReaders(
            count: limits.replayReaders, pageBytes: limits.replayPageBytes,
            equipment: context.replayEquipment(account), log: log.named("replay"))
        parts.readers = readers
        let replay = HistoryReplay(
            loop: loop, connection: parts.connections[2], keys: keys,
            directory: context.directory,
            encoder: try BatchEncoder(
                directory: context.directory, eventBytesMax: limits.eventBytes, account: account),
            readers: readers, account: account, limits: context.replayLimits,
            metrics: context.replayMetrics, gaps: context.gapMetrics, log: log.named("replay"),
            knownTopics: { [weak parts] in parts?.tail?.knownTopics ?? [] },
            newestID: { [weak parts] in parts?.tail?.newestID ?? .zero },
            kafkaIsAway: { context.kafka.dependency.status().breaker != .closed })
        let history = HistoryLookback(
            loop: loop, connection: parts.connections[2], keys: keys,
            directory: context.directory, pages: replay, metrics: context.lookbackMetrics,
            log: log.named("lookback"),
            knownTopics: { [weak parts] in parts?.tail?.knownTopics ?? [] })
        let tail = HistoryTail(
            loop: loop,
            connections: .init(blocking: parts.connections[0], commands: parts.connections[1]),
            keys: keys, directory: context.directory,
            encoder: try BatchEncoder(
                directory: context.directory, eventBytesMax: limits.eventBytes),
            metrics: context.tailMetrics, gaps: context.gapMetrics, log: log.named("tail"),
            began: { tip in
                for shard in shards {
                    shard.loop.post { shard.value.begin(after: tip, replay: history) }
                }
                context.status.becomeUp()
            },
            deliver: { batches in
                for shard in shards { shard.loop.post { shard.value.hub?.publish(batches) } }
            })
        if let canary = context.canary, let json = Canary.reader() {
            tail.canaryTopic = context.configuration.canary.topic
            tail.onCanary = { id, value in
                guard let one = Canary(value.span, json) else { return }
                canary.arrived(one, as: id)
            }
        }
        parts.tail = tail
        parts.replay = replay
        for connection in parts.connections.prefix(2) {
            connection.onStateChange = { [weak tail] state in
                if state == .ready { tail?.proceed() }
            }
        }
        let keeper = TailKeeper(
            loop: loop, component: context.supervisor.supervise("tail"),
            redis: context.redisDependency, connections: Array(parts.connections.prefix(2)))
        let watch = LoopTimer { [weak parts] in
            guard let parts, let tail = parts.tail else { return }
            keeper.look(isFollowing: tail.isFollowing, at: .now)
            context.status.isFollowing = tail.isFollowing
            context.status.redisIsReady = parts.connections.allSatisfy { $0.state == .ready }
            if let watch = parts.watch { loop.schedule(watch, after: .milliseconds(250)) }
        }
        parts.watch = watch
        loop.schedule(watch, after: .milliseconds(50))
    }

    // MARK: - Cluster

    private func startCluster(_ redis: RedisSettings) throws(BrokerNodeError) {
        let context = context
        let loop = clusterLoop
        let address = advertisedAddress
        let shards = shards
        cluster = try Self.furnish(loop) { () throws(BrokerNodeError) in
            let cluster = NodeCluster(
                loop: loop, context: context, redis: redis, address: address, shards: shards)
            cluster.start()
            return LoopBound(cluster, on: loop)
        }
    }

    /// Where others reach this node.
    private var advertisedAddress: String {
        if let given = context.configuration.node.address { return given }
        guard let first = addresses.first ?? encryptedAddresses.first else { return "" }
        // Where it listens on every address, none of them is one to call it by.
        guard ["0.0.0.0", "::"].contains(first.host), let port = first.port else {
            return first.description
        }
        return "\(NodeSection.hostName):\(port)"
    }

    // MARK: - Ingest

    private func startIngest(_ redis: RedisSettings) throws(BrokerNodeError) {
        let context = context
        let loop = ingestLoop
        let log = log
        let cluster = cluster
        let makeProducer = { @Sendable () throws(KafkaError) in
            try KafkaProducer(
                settings: context.kafkaSettings, producer: context.producerSettings,
                log: log.named("kafka"), onBrokers: { context.kafka.take($0) })
        }
        let producer: KafkaProducer
        do throws(KafkaError) { producer = try makeProducer() } catch {
            throw BrokerNodeError(detail: "kafka: \(error)")
        }
        ingestParts = try Self.furnish(loop) { () throws(BrokerNodeError) in
            let connection = RedisConnection(
                loop: loop, settings: redis, purpose: "append",
                scripts: [
                    HistoryScripts.attach, HistoryScripts.append, HistoryScripts.forgetHighWater,
                    HistoryScripts.trim, HistoryScripts.shed,
                ],
                log: log.named("redis"), metrics: context.redisMetrics,
                dependency: context.redisDependency)
            // One for each ingest: it knows the epoch that its ingest has compared marks with.
            let appenders = (0..<2).map { _ in
                HistoryAppender(
                    connection: connection,
                    keys: HistoryKeys(prefix: context.configuration.redis.keyPrefix),
                    retention: context.retention)
            }
            if context.canary != nil {
                for each in appenders {
                    each.windowOnlyTopic = context.configuration.canary.topic
                }
            }
            do throws(JSONFieldsError) {
                let tailProgress = { @Sendable in
                    TailProgress(
                        newestID: context.tailMetrics.newestID,
                        isFollowing: context.status.isFollowing)
                }
                let ingest = try Ingest(
                    loop: loop, settings: context.ingestSettings, connection: connection,
                    appender: appenders[0], producer: producer, metrics: context.ingestMetrics,
                    log: log.named("ingest"), tailProgress: tailProgress)
                let orphans = try Ingest(
                    loop: loop, settings: context.orphanSettings, connection: connection,
                    appender: appenders[1], producer: producer, metrics: context.orphanMetrics,
                    log: log.named("orphans"), tailProgress: tailProgress)
                orphans.onPartitionsChange = { context.status.orphans = $0 }
                let telemetry =
                    context.configuration.telemetry.enabled
                    ? Telemetry(loop: loop, context: context, producer: producer) : nil
                ingest.onErrorChange = { context.status.ingestError = $0 }
                for each in [ingest, orphans] {
                    each.onKafkaError = { context.kafka.consumerFailed($0) }
                }
                context.supervisor.supervise("ingest").keep(ingest, on: loop)
                context.supervisor.supervise("orphans").keep(orphans, on: loop)
                let canary = context.canary.map {
                    CanarySender(loop: loop, context: context, ledger: $0, producer: producer)
                }
                let keeper = ProducerKeeper(
                    loop: loop, component: context.supervisor.supervise("producer"),
                    producer: producer, make: makeProducer,
                    replaced: { [weak ingest, weak orphans, weak telemetry, weak canary] producer in
                        ingest?.producer = producer
                        orphans?.producer = producer
                        telemetry?.producer = producer
                        canary?.producer = producer
                    }, log: log.named("kafka"))
                ingest.onPartitionsChange = { partitions in
                    context.status.partitions = partitions
                    cluster?.loop.post { cluster?.value.renewSoon() }
                }
                connection.onStateChange = { [weak ingest, weak orphans, weak connection] state in
                    guard state == .ready else { return }
                    ingest?.redisIsReady()
                    orphans?.redisIsReady()
                    if let connection { Self.checkMemory(connection, context, log) }
                }
                connection.start()
                ingest.start()
                orphans.start()
                let bound = LoopBound(orphans, on: loop)
                cluster?.loop.post { cluster?.value.readOrphans(with: bound) }
                telemetry?.start()
                canary?.start()
                return LoopBound(
                    IngestParts(
                        connection: connection, ingest: ingest, orphans: orphans,
                        telemetry: telemetry, canary: canary, producer: keeper), on: loop)
            } catch { throw BrokerNodeError(detail: error.description) }
        }
    }

    /// Asks the server that was just connected to what it does when its memory is used up.
    private static func checkMemory(
        _ connection: RedisConnection, _ context: NodeContext, _ log: Logger
    ) {
        connection.send(RedisCommand("INFO").add("memory")) { result in
            guard case .success(let reply) = result, let text = reply.text,
                let memory = RedisMemory(info: text)
            else { return log.notice("Redis does not tell how much memory it may take") }
            context.status.redisDanger = memory.danger
            if let danger = memory.danger { log.error(danger) }
            if let hint = memory.hint { log.notice(hint) }
        }
    }

    // MARK: - Reload

    /// Reads again what may change while the node runs: the TLS certificate and its key. Live
    /// connections go on as they are. Any thread may call it, one at a time.
    package func reload() {
        guard let tls = context.tls else {
            return log.notice("nothing to reload: no address speaks TLS")
        }
        tls.reload()
    }

    // MARK: - Stop

    /// Has `body` called, on some thread, where a request asks for ``stop()``: once at most.
    package func whenAskedToStop(_ body: @escaping @Sendable () -> Void) {
        context.stopRequest.withLock { $0 = body }
    }

    /// Drains and ends: says that the node stops, hands its partitions over, sends the clients away
    /// over the configured time, leaves the cluster, and returns when all of it is done.
    package func stop() {
        _ = context.status.beginDraining()
        keeper?.stop()
        let drain = NodeDrain(context: context, shards: shards, cluster: cluster)
        var handOver = HandOver(ingestParts, within: .seconds(5))
        drain.run { handOver.proceed() }
        leaveCluster()
        for shard in shards { shard.loop.answer { shard.value.stop() } }
        if let tailParts {
            tailLoop.answer {
                tailParts.value.watch = nil
                tailParts.value.readers?.stop(within: .seconds(1))
                for connection in tailParts.value.connections { connection.stop() }
            }
        }
        if let cluster { clusterLoop.answer { cluster.value.stop() } }
        _ = handOver.producer?.close(within: .seconds(2))
        for loop in serving + [ingestLoop, tailLoop, clusterLoop] {
            loop.stop()
            if !loop.join(within: .seconds(2)) {
                log.warning("a loop did not end in time", LogField("loop", loop.name))
            }
        }
        log.notice("stopped", LogField("clients", drain.sentAway))
    }

    /// Handed over and without clients: from here on this node's end is nobody's loss.
    private func leaveCluster() {
        guard let cluster else { return }
        let hasLeft = Lock(false)
        clusterLoop.post { cluster.value.leave { hasLeft.withLock { $0 = true } } }
        let deadline = MonotonicTime.now + .seconds(1)
        while !hasLeft.withLock({ $0 }), MonotonicTime.now < deadline { usleep(5000) }
    }

    /// Gives the partitions back, in steps, so that whoever waits for it can do something else.
    private struct HandOver {
        private enum Step { case reading, appending, leaving, done }

        private let parts: LoopBound<IngestParts>?
        private var began = MonotonicTime.now
        private let limit: Duration
        private let result = Lock<(isDone: Bool, producer: KafkaProducer?)>((false, nil))
        private var step = Step.reading

        /// What was taken from Kafka is appended within this at most; the next reader reads the
        /// rest again.
        private static let appendsWithin: Duration = .seconds(2)

        init(_ parts: LoopBound<IngestParts>?, within limit: Duration) {
            self.parts = parts
            self.limit = limit
            if parts == nil { step = .done }
        }

        /// What published for the node; the caller closes it.
        var producer: KafkaProducer? { result.withLock { $0.producer } }

        /// Goes on. True once the group has been left.
        mutating func proceed() -> Bool {
            guard let parts else { return true }
            switch step {
            case .reading:
                began = .now
                parts.loop.post {
                    parts.value.telemetry?.stop()
                    parts.value.canary?.stop()
                    parts.value.ingest.stopReading()
                    parts.value.orphans.stopReading()
                }
                step = .appending
            case .appending:
                let isAppended = parts.loop.answer {
                    parts.value.ingest.isAppended && parts.value.orphans.isAppended
                }
                let elapsed = MonotonicTime.now - began
                guard isAppended ?? true || elapsed > Self.appendsWithin else { break }
                let left = max(.seconds(1), limit - elapsed)
                parts.loop.post { [result] in
                    let producer = parts.value.producer.stop()
                    parts.value.orphans.stop(within: .seconds(1))
                    parts.value.ingest.stop(within: left)
                    parts.value.connection.stop()
                    result.withLock { $0 = (true, producer) }
                }
                step = .leaving
            case .leaving: if result.withLock({ $0.isDone }) { step = .done }
            case .done: break
            }
            return step == .done
        }
    }
}
