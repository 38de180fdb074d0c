// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire
package import JSONFields
package import KafkaClient
package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// What ingest needs to know, from the configuration.
package struct IngestSettings: Sendable {
    package var topics: [String]
    package var patterns: [String]
    package var kafka: KafkaSettings
    package var group: KafkaGroupSettings
    package var limits: PartitionIngest.Limits
    package var eventBytesMax: Int
    package var deadLetterTopic: String
    /// Where a partition starts that neither history nor the group knows.
    package var startsAtEnd: Bool
    /// How many events this node may append beyond what its own tail has read. A node that cannot
    /// follow history any faster must not write it any faster: the window would let events go
    /// before every node has seen them.
    package var eventsAheadOfTailMax: Int
    /// Bytes collected or under way before Kafka is left to be the buffer: what a burst, or a
    /// Redis that is slow for a moment, may take of this node's memory.
    package var heldBytesMax: Int
    /// False for one that reads what it is told to, outside the group; see
    /// ``Ingest/read(orphans:)``. It commits nothing.
    package var joinsGroup = true

    package init(
        topics: [String], patterns: [String], kafka: KafkaSettings, group: KafkaGroupSettings,
        limits: PartitionIngest.Limits, eventBytesMax: Int, deadLetterTopic: String,
        startsAtEnd: Bool, eventsAheadOfTailMax: Int = .max, heldBytesMax: Int = 256 << 20
    ) {
        self.topics = topics
        self.patterns = patterns
        self.kafka = kafka
        self.group = group
        self.limits = limits
        self.eventBytesMax = eventBytesMax
        self.deadLetterTopic = deadLetterTopic
        self.startsAtEnd = startsAtEnd
        self.eventsAheadOfTailMax = eventsAheadOfTailMax
        self.heldBytesMax = heldBytesMax
    }

    /// Records taken from librdkafka in one go, so that answers from Redis are not kept waiting.
    static let recordsPerTurn = 4096
    /// How long Kafka's queue is simply left alone before the partitions are paused. A pause
    /// throws away what librdkafka has fetched, so it is for a Redis that is away, not for one
    /// that is busy. Without it the group would miss this member after `max.poll.interval.ms`, and
    /// a rebalance waits for a member that holds, so it is not for long.
    static let holdBeforePause: Duration = .seconds(5)
    static let commitInterval: Duration = .seconds(1)
    /// How often this node's topics are looked at for what has become too old while nothing came.
    static let trimInterval: Duration = .seconds(5)
    /// Headers kept of one record; what is beyond is left out, so that a record cannot grow an
    /// event without limit.
    static let headersMax = 32
    /// The value, and the key, that a dead letter holds whole. Both together stay below the
    /// megabyte that brokers take by default.
    static let deadLetterBytesMax = 400 << 10
    /// What is kept of a larger one.
    static let deadLetterSample = 1024
}

/// How far this node's own tail has come.
package struct TailProgress: Sendable {
    /// The newest ID it has given out.
    package var newestID: EventID
    package var isFollowing: Bool

    package init(newestID: EventID = .zero, isFollowing: Bool = false) {
        self.newestID = newestID
        self.isFollowing = isFollowing
    }
}

/// Reads this node's share of the partitions and appends it to history.
///
/// View: node. Threads: its loop's; nothing else runs there but the append connection. The
/// position of truth is the high-water offset in Redis: a partition is read from there, and what
/// two nodes read twice is appended once.
package final class Ingest: ReadinessHandler {
    let loop: EventLoop
    let settings: IngestSettings
    let connection: RedisConnection
    let appender: HistoryAppender
    /// For dead letters; another one takes its place where it has failed for good.
    package var producer: KafkaProducer
    let validator: JSONFieldExtractor
    let metrics: IngestMetrics
    let log: Logger

    /// The ingest of one assigned partition. The generation tells a late answer for an earlier
    /// assignment from one for this.
    final class Slot {
        let partition: TopicPartition
        let generation: Int
        var ingest: PartitionIngest
        var isDirty = false
        var isUnderWay = false
        var isSuspect = false
        /// The offset that Kafka does not hold, where reading has stopped.
        var stoppedAt: Int64?

        init(_ partition: TopicPartition, generation: Int, ingest: PartitionIngest) {
            self.partition = partition
            self.generation = generation
            self.ingest = ingest
        }
    }

    private struct RecordKey: Hashable {
        let topicHandle: UInt
        let partition: Int32
    }

    var consumer: KafkaConsumer?
    var slots: [TopicPartition: Slot] = [:]
    private var byRecord: [RecordKey: Slot] = [:]
    private var dirty: [Slot] = []
    private var generation = 0
    private var registration: Registration?
    /// Partitions the group has given and that wait for their high-water offsets.
    var awaitingStart: [TopicPartition]?
    /// What an ingest without a group is told to read.
    var orphans: Set<TopicPartition> = []
    var heldBytes = 0
    /// Partitions of which Kafka is to be asked what it holds.
    var suspects: [Slot] = []
    var isAskingAboutSuspects = false
    lazy var suspectTimer = LoopTimer { [weak self] in self?.askAboutSuspects() }
    private var isHolding = false
    private var isPaused = false
    /// A consumer that is beyond repair is about to be closed.
    private var isFailing = false
    var isStopped = false
    /// True once no more records are wanted from Kafka.
    private var isReadingStopped = false
    /// What has been said about topics that do not exist; bounded by the subscription.
    private var unknownTopics: Set<String> = []
    /// What last went wrong and has not gone right since; `nil` when all is well.
    package internal(set) var lastError: String? {
        didSet { if lastError != oldValue { onErrorChange?(lastError) } }
    }
    package var onErrorChange: ((String?) -> Void)?
    /// Gets what Kafka told this consumer, fatal or not.
    package var onKafkaError: ((KafkaError) -> Void)?
    /// Told whenever the group has given this member its share, perhaps an empty one; without a
    /// group, when the consumer has come to be.
    package var onUp: (() -> Void)?
    /// Told when the consumer has failed for good, or could not be made: it is for the owner to
    /// call ``restart()``. Without an owner who listens, ingest does so itself after a second.
    package var onFailure: ((String) -> Void)?
    /// Gets the partitions that this node reads whenever they have changed, in their order.
    package var onPartitionsChange: (([TopicPartition]) -> Void)?
    private lazy var commitTimer = LoopTimer { [weak self] in self?.commit() }
    private lazy var pauseTimer = LoopTimer { [weak self] in self?.pauseAll() }
    private lazy var restartTimer = LoopTimer { [weak self] in self?.startConsumer() }
    lazy var startRetryTimer = LoopTimer { [weak self] in self?.findStarts() }
    /// The ID of the newest event that this node appended in the present epoch of history.
    var appendedID = EventID.zero
    let tailProgress: @Sendable () -> TailProgress
    /// True while this connection's server is known to hold the history that is appended to.
    var isAttached = false
    var isAttaching = false
    /// The epoch has changed, and what Redis holds of each partition has not been asked yet.
    var marksAreOld = false
    lazy var attachTimer = LoopTimer { [weak self] in self?.attach() }
    private lazy var paceTimer = LoopTimer { [weak self] in self?.dispatch() }
    lazy var resendTimer = LoopTimer { [weak self] in self?.resend() }
    lazy var trimTimer = LoopTimer { [weak self] in self?.trimIdleTopics() }
    /// Redis is full, and is being made to let go of what is oldest; `nil` while it is not.
    var shedding: Shedding?

    /// Made on the loop.
    package init(
        loop: EventLoop, settings: IngestSettings, connection: RedisConnection,
        appender: HistoryAppender, producer: KafkaProducer, metrics: IngestMetrics, log: Logger,
        tailProgress: @escaping @Sendable () -> TailProgress = { TailProgress() }
    ) throws(JSONFieldsError) {
        self.tailProgress = tailProgress
        self.loop = loop
        self.settings = settings
        self.connection = connection
        self.appender = appender
        self.producer = producer
        self.metrics = metrics
        self.log = log
        validator = try JSONFieldExtractor(
            paths: JSONFieldPaths([]), eventBytesMax: settings.eventBytesMax)
    }

    // MARK: - Lifecycle

    package func start() {
        loop.schedule(commitTimer, after: IngestSettings.commitInterval)
        loop.schedule(trimTimer, after: IngestSettings.trimInterval)
        startConsumer()
    }

    /// Leaves the group. What is under way to Redis may still arrive there; the next owner starts
    /// after it.
    package func stop(within limit: Duration) {
        guard !isStopped else { return }
        isStopped = true
        for timer in [
            commitTimer, pauseTimer, restartTimer, startRetryTimer, resendTimer, paceTimer,
            suspectTimer, attachTimer, trimTimer,
        ] { loop.cancel(timer) }
        closeConsumer(within: limit)
    }

    /// Takes no more records from Kafka; what was taken is still appended. To be followed by
    /// ``stop(within:)``, soon: the group puts out a member that does not ask for records.
    package func stopReading() {
        isReadingStopped = true
        watch([])
    }

    /// True once everything that was taken has been appended, so that whoever reads the partitions
    /// next finds nothing of it to read again.
    package var isAppended: Bool { heldBytes == 0 && slots.values.allSatisfy { !$0.isUnderWay } }

    /// Joins the group with a new consumer, where there is none.
    package func restart() { startConsumer() }

    private func gaveUp(_ error: KafkaError) {
        guard !isStopped else { return }
        guard let onFailure else { return loop.schedule(restartTimer, after: .seconds(1)) }
        onFailure(error.description)
    }

    /// The append connection is ready (again): send what is still unanswered.
    package func redisIsReady() {
        guard !isStopped else { return }
        isAttached = false
        attach()
    }

    /// The partitions this node reads.
    package var partitionCount: Int { slots.count }

    private func startConsumer() {
        guard consumer == nil, !isStopped else { return }
        do throws(KafkaError) {
            let consumer = try KafkaConsumer(
                settings: settings.kafka, group: settings.group, log: log)
            if settings.joinsGroup {
                try consumer.subscribe(topics: settings.topics, patterns: settings.patterns)
            }
            registration = try register(consumer)
            self.consumer = consumer
            if !settings.joinsGroup { onUp?() }
            drain()
            beginOrphans()
        } catch {
            lastError = error.description
            log.error("cannot join the consumer group", LogField("error", error))
            gaveUp(error)
        }
    }

    private func register(_ consumer: KafkaConsumer) throws(KafkaError) -> Registration {
        do throws(Errno) {
            return try loop.register(
                consumer.readinessDescriptor, for: .readable, handler: self)
        } catch {
            throw KafkaError(.other, "cannot watch the consumer's descriptor: \(error)")
        }
    }

    private func closeConsumer(within limit: Duration) {
        guard let consumer else { return }
        if let registration {
            loop.deregister(registration, descriptor: consumer.readinessDescriptor)
        }
        registration = nil
        self.consumer = nil
        forgetAll()
        consumer.close(within: limit)
    }

    private func forgetAll() {
        slots = [:]
        byRecord = [:]
        dirty = []
        suspects = []
        awaitingStart = nil
        heldBytes = 0
        isHolding = false
        isPaused = false
        metrics.partitions.set(0)
        onPartitionsChange?([])
    }

    // MARK: - Records in

    package func descriptorIsReady(_ readiness: Readiness) { drain() }

    private func drain() {
        guard let consumer, !isHolding, !isReadingStopped else { return }
        // Whatever is left signals the descriptor again, so other work of the loop gets its turn.
        _ = consumer.drain(limit: IngestSettings.recordsPerTurn) { event in
            switch event {
            case .record(let record): take(record)
            case .assigned(let partitions): assigned(partitions)
            case .revoked(let partitions, let lost): revoked(partitions, lost: lost)
            case .offsetOutOfRange(let partition, let offset): offsetOutOfRange(partition, offset)
            case .positionMissing(let partition):
                // Not for want of a commit: every partition is given its offset.
                log.error("a partition has lost its place", LogField("partition", partition))
                consumer.reposition(partition, to: .beginning)
            case .partitionError(let partition, let error):
                onKafkaError?(error)
                log.warning(
                    "a partition cannot be read", LogField("partition", partition),
                    LogField("error", error))
            case .brokersDown(let error): failed(error)
            case .error(let error): failed(error)
            case .commitFailed(let error):
                log.warning("a commit failed", LogField("error", error))
            }
        }
        dispatch()
        askAboutSuspects()
        holdIfFull()
    }

    private func take(_ record: borrowing KafkaRecord) {
        metrics.records.add()
        let key = RecordKey(topicHandle: record.topicHandle, partition: record.partition)
        let slot: Slot
        if let known = byRecord[key] {
            slot = known
        } else {
            guard let found = slots[TopicPartition(record.topic, record.partition)] else { return }
            byRecord[key] = found
            slot = found
        }
        guard slot.ingest.isNew(record.offset) else { return }
        markDirty(slot)
        let before = slot.ingest.heldBytes
        defer {
            heldBytes += slot.ingest.heldBytes - before
            if slot.ingest.hasNewJumps { suspect(slot) }
        }
        guard let value = record.value else {
            metrics.tombstones.add()
            slot.ingest.skip(offset: record.offset, awaitingDeadLetter: false)
            return
        }
        guard let reason = reasonForDeadLetter(value) else {
            var headers: [(name: [UInt8], value: [UInt8])] = []
            record.forEachHeader(limit: IngestSettings.headersMax) { name, value in
                if let value {
                    headers.append((Self.copy(name), Self.copy(value)))
                } else {
                    headers.append((Self.copy(name), []))
                }
            }
            if let key = record.key {
                slot.ingest.collect(
                    offset: record.offset, timestamp: record.timestamp, key: key, hasKey: true,
                    headers: headers, value: value)
            } else {
                slot.ingest.collect(
                    offset: record.offset, timestamp: record.timestamp,
                    key: value.extracting(0..<0), hasKey: false, headers: headers, value: value)
            }
            return
        }
        let isSent = sendDeadLetter(record, value, reason, slot)
        slot.ingest.skip(offset: record.offset, awaitingDeadLetter: isSent)
    }

    static func copy(_ span: Span<UInt8>) -> [UInt8] {
        unsafe span.withUnsafeBufferPointer { unsafe Array($0) }
    }

    func markDirty(_ slot: Slot) {
        guard !slot.isDirty else { return }
        slot.isDirty = true
        dirty.append(slot)
    }

    // MARK: - Batches out

    func dispatch() {
        let slots = dirty
        dirty.removeAll(keepingCapacity: true)
        for slot in slots {
            slot.isDirty = false
            sendNext(slot)
        }
    }

    private func sendNext(_ slot: Slot) {
        guard !slot.isUnderWay else { return }
        guard isAttached else { return markDirty(slot) }
        guard !isAheadOfTail else {
            markDirty(slot)
            if !paceTimer.isScheduled { loop.schedule(paceTimer, after: .milliseconds(1)) }
            return
        }
        if slot.ingest.inFlight == nil, slot.ingest.takeBatch() == nil { return }
        send(slot)
    }

    /// Sends the slot's batch under way. On a failure it stays and is sent again.
    private func send(_ slot: Slot) {
        guard let request = slot.ingest.inFlight else { return }
        slot.isUnderWay = true
        let started = MonotonicTime.now
        appender.append(request) { [weak self] result in
            self?.appendAnswered(result, slot, request, started)
        }
    }

    private func appendAnswered(
        _ result: Result<AppendOutcome, RedisError>, _ slot: Slot, _ request: AppendRequest,
        _ started: MonotonicTime
    ) {
        slot.isUnderWay = false
        guard !isStopped, slots[slot.partition] === slot else { return }
        switch result {
        case .failure(let error):
            metrics.retries.add()
            lastError = error.description
            if error.code == .outOfMemory { return shed(for: request) }
            if !error.isRetriable {
                log.error(
                    "Redis refused an append; it is tried again",
                    LogField("partition", slot.partition), LogField("error", error))
            }
            loop.schedule(resendTimer, after: .milliseconds(error.isRetriable ? 100 : 1000))
        case .success(let outcome):
            endShedding()
            metrics.appendTime.record(.now - started)
            settle(outcome, slot, request)
        }
    }

    /// Reads Kafka again from where Redis was found to have fallen back to.
    func heal(_ slot: Slot, from mark: Int64) {
        metrics.redisLosses.add()
        log.error(
            "Redis has lost events that were appended; they are read from Kafka again",
            LogField("partition", slot.partition), LogField("redis", mark),
            LogField("expected", slot.ingest.highWater))
        let before = slot.ingest.heldBytes
        if case .rewind(let offset) = slot.ingest.fellBack(to: mark) {
            consumer?.reposition(slot.partition, to: .at(offset))
        }
        heldBytes += slot.ingest.heldBytes - before
        releaseIfDrained()
    }

    private func settle(_ outcome: AppendOutcome, _ slot: Slot, _ request: AppendRequest) {
        let before = slot.ingest.heldBytes
        let action = slot.ingest.finished(outcome)
        heldBytes += slot.ingest.heldBytes - before
        lastError = nil
        switch outcome {
        case .appended(let milliseconds, let sequence):
            appendedID = EventID(milliseconds: milliseconds, sequence: sequence)
            if let loss = request.loss {
                lossWasAppended(loss, of: slot)
            } else {
                metrics.events.add(request.count)
                metrics.batches.add()
                metrics.bytes.add(request.bytes.count)
            }
        case .alreadyThere, .overlaps: metrics.duplicates.add()
        case .otherEpoch:
            // The batch stays under way and is sent again once this node knows the epoch.
            return attach()
        case .redisLostData(let mark):
            metrics.redisLosses.add()
            log.error(
                "Redis has lost events that were appended; they are read from Kafka again",
                LogField("partition", slot.partition), LogField("redis", mark),
                LogField("expected", request.expectedHighWater))
        }
        switch action {
        case .none: break
        case .stored(let next): consumer?.noteStored(slot.partition, nextOffset: next)
        case .rewind(let offset): consumer?.reposition(slot.partition, to: .at(offset))
        }
        sendNext(slot)
        releaseIfDrained()
    }

    /// True while this node's own tail has to catch up first. A tail that is not following at all
    /// holds nothing up: the others need the events.
    private var isAheadOfTail: Bool {
        guard settings.eventsAheadOfTailMax < .max else { return false }
        let tail = tailProgress()
        guard tail.isFollowing, appendedID.sequence > tail.newestID.sequence else { return false }
        let ahead = appendedID.sequence - tail.newestID.sequence
        return ahead > UInt64(settings.eventsAheadOfTailMax)
    }

    func resend() {
        for slot in slots.values { sendNext(slot) }
    }

    // MARK: - Holding back

    private func holdIfFull() {
        metrics.heldBytes.set(heldBytes)
        guard heldBytes > settings.heldBytesMax, !isHolding, !isPaused else { return }
        isHolding = true
        metrics.holds.add()
        watch([])
        loop.schedule(pauseTimer, after: IngestSettings.holdBeforePause)
    }

    private func pauseAll() {
        guard isHolding else { return }
        consumer?.pause(Array(slots.keys))
        isPaused = true
        isHolding = false
        log.notice("Redis does not keep up: Kafka is the buffer", LogField("bytes", heldBytes))
        watch(.readable)
    }

    private func releaseIfDrained() {
        metrics.heldBytes.set(heldBytes)
        guard heldBytes < settings.heldBytesMax / 2 else { return }
        if isHolding {
            isHolding = false
            loop.cancel(pauseTimer)
            watch(.readable)
        }
        if isPaused {
            isPaused = false
            consumer?.resume(Array(slots.keys))
            log.notice("Redis keeps up again")
        }
    }

    /// Partitions that come while the others are paused are paused too: Redis is behind for all.
    func pauseIfPaused(_ partitions: [TopicPartition]) {
        if isPaused { consumer?.pause(partitions) }
    }

    private func watch(_ interest: Interest) {
        guard let registration, let consumer else { return }
        loop.update(
            registration, descriptor: consumer.readinessDescriptor,
            to: isReadingStopped ? [] : interest)
    }

    // MARK: - Positions

    private func commit() {
        // An idle member is served too: the group puts out one that does not poll.
        descriptorIsReady(.readable)
        if settings.joinsGroup { consumer?.commitStored() }
        let lag = consumer?.lag.values.reduce(0, +) ?? 0
        metrics.lag.set(lag)
        // Where nothing arrives nothing wakes the loop, and a member that does not ask for records
        // is put out of its group after `max.poll.interval.ms`.
        drain()
        loop.schedule(commitTimer, after: IngestSettings.commitInterval)
    }

    private func failed(_ error: KafkaError) {
        lastError = error.description
        onKafkaError?(error)
        guard error.isFatal else {
            // A topic that is not there yet is read once it is; saying so once is enough.
            if error.code == .topicUnknown {
                guard unknownTopics.insert(error.detail).inserted else { return }
                log.info("waiting for a topic", LogField("detail", error.detail))
            } else {
                log.warning("Kafka", LogField("error", error))
            }
            return
        }
        guard !isFailing else { return }
        isFailing = true
        log.error("the consumer has failed for good; a new one joins", LogField("error", error))
        // Not inside its own drain.
        let bound = LoopBound(self, on: loop)
        loop.post {
            bound.value.isFailing = false
            bound.value.closeConsumer(within: .seconds(2))
            bound.value.gaveUp(error)
        }
    }

    /// Puts a partition at its start. Its slot exists from here on.
    func begin(_ partition: TopicPartition, highWater: Int64?, _ start: PartitionStart) {
        generation += 1
        var ingest = PartitionIngest(
            topic: partition.topic, partition: partition.partition, highWater: highWater ?? -1,
            startingAt: start.offset, limits: settings.limits)
        if start.passesOver { ingest.passOver(upTo: start.offset) }
        let slot = Slot(partition, generation: generation, ingest: ingest)
        slots[partition] = slot
        markDirty(slot)
    }

    /// Puts a partition that is being read at another offset; what was collected is dropped.
    func restart(_ slot: Slot, at offset: Int64, highWater: Int64) {
        heldBytes -= slot.ingest.heldBytes
        slot.ingest.restart(at: offset, highWater: highWater)
        heldBytes += slot.ingest.heldBytes
        releaseIfDrained()
    }

    func partitionsChanged() {
        byRecord = [:]
        dirty.removeAll { slots[$0.partition] !== $0 }
        heldBytes = slots.values.reduce(0) { $0 + $1.ingest.heldBytes }
        metrics.partitions.set(slots.count)
        onPartitionsChange?(slots.keys.sorted())
        releaseIfDrained()
    }
}
