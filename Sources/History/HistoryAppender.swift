// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
package import EventStreamWire
import PosixIO
package import RedisClient

/// How long history keeps what, from the configuration.
package struct HistoryRetention: Sendable {
    /// How much of one topic its window keeps: whichever is reached first.
    package struct Window: Sendable, Equatable {
        package var events: Int
        package var age: Duration
        /// Of its batches, as Redis holds them; what Redis needs around them is not counted.
        package var bytes: Int

        package init(events: Int, age: Duration, bytes: Int = .max) {
            self.events = events
            self.age = age
            self.bytes = bytes
        }
    }

    /// Of every topic that has none of its own.
    package var window: Window
    package var topics: [String: Window] = [:]
    package var indexAge: Duration
    /// Batches of one topic in its index.
    package var indexBatches: Int

    package init(
        windowEvents: Int, windowAge: Duration, windowBytes: Int = .max, indexAge: Duration,
        indexBatches: Int = 1_000_000
    ) {
        window = Window(events: windowEvents, age: windowAge, bytes: windowBytes)
        self.indexAge = indexAge
        self.indexBatches = indexBatches
    }

    package func window(of topic: String) -> Window { topics[topic] ?? window }

    /// Numbers that Redis' scripts calculate with exactly.
    static let most = 1 << 52
}

/// Sends batches to Redis, where one script appends each of them or says why not.
///
/// View: node. Threads: the loop of its connection. Any number of batches may be under way.
package final class HistoryAppender {
    private let connection: RedisConnection
    private let keys: HistoryKeys
    private let retention: HistoryRetention
    private let indexMilliseconds: Int64
    private let indexBatches: Int
    /// The epoch of history that the caller is attached to; without one it is not looked at.
    package var epoch = ""
    /// A topic that nobody replays: the way back to its records is kept no longer than its window.
    /// The window itself has to last as long as all others', or a tail that was away for a while
    /// would find a hole.
    package var windowOnlyTopic: String?

    package init(connection: RedisConnection, keys: HistoryKeys, retention: HistoryRetention) {
        self.connection = connection
        self.keys = keys
        self.retention = retention
        indexMilliseconds = max(1, retention.indexAge.wholeMilliseconds)
        indexBatches = max(1, retention.indexBatches)
    }

    /// Appends one batch. After a failure it may be sent again as it is, by anybody.
    package func append(
        _ request: AppendRequest,
        _ completion: @escaping (Result<AppendOutcome, RedisError>) -> Void
    ) {
        let topic = request.topic
        var command = RedisCommand(
            script: HistoryScripts.append,
            keys: [
                keys.sequence, keys.window(topic), keys.index(topic), keys.highWater(topic),
                keys.floor(topic), keys.topics, keys.news,
            ], reserving: request.bytes.count + 640)
        command.append(topic)
        command.append(request.partition)
        command.append(request.base)
        command.append(request.last)
        command.append(request.expectedHighWater)
        command.append(request.count)
        command.append(request.bytes)
        let window = retention.window(of: topic)
        command.append(window.events)
        command.append(max(1, window.age.wholeMilliseconds))
        command.append(indexMilliseconds(of: topic))
        command.append(request.sparseOffsets)
        command.append(request.loss?.text ?? "")
        command.append(indexBatches)
        command.append(epoch)
        command.append(min(HistoryRetention.most, window.bytes))
        connection.send(command) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let reply): completion(Self.outcome(reply))
            }
        }
    }

    private func indexMilliseconds(of topic: String) -> Int64 {
        guard topic == windowOnlyTopic else { return indexMilliseconds }
        return max(1, retention.window(of: topic).age.wholeMilliseconds)
    }

    /// Lets go of what has become too old in a topic, which no append does for one that is idle.
    /// Completes with whether there may be more of it.
    package func trim(
        _ topic: String, _ completion: @escaping (Result<Bool, RedisError>) -> Void
    ) {
        let window = retention.window(of: topic)
        var command = RedisCommand(
            script: HistoryScripts.trim,
            keys: [keys.window(topic), keys.index(topic), keys.floor(topic)])
        command.append(window.events)
        command.append(max(1, window.age.wholeMilliseconds))
        command.append(min(HistoryRetention.most, window.bytes))
        command.append(indexMilliseconds(of: topic))
        command.append(indexBatches)
        connection.send(command) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let reply): completion(.success(reply.integer == 1))
            }
        }
    }

    /// What a full Redis was made to let go.
    package struct Shed: Sendable, Equatable {
        package var entries = 0
        package var events = 0
        package var bytes = 0
    }

    /// Makes room in a Redis that is full: of all topics, the oldest window entries go, about
    /// `bytes` of them. What is younger than `spared` stays. Nothing is lost by it: the index says
    /// where in Kafka the events are.
    package func shed(
        bytes: Int, sparing spared: Duration,
        _ completion: @escaping (Result<Shed, RedisError>) -> Void
    ) {
        let connection = connection
        let keys = keys
        connection.send(RedisCommand("SMEMBERS").add(keys.topics)) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let reply):
                // Copied: the reply does not outlive this call.
                let topics = (0..<reply.count).compactMap { reply[$0].text }
                var command = RedisCommand(
                    script: HistoryScripts.shed,
                    keys: topics.flatMap { [keys.window($0), keys.index($0), keys.floor($0)] })
                command.append(bytes)
                command.append(spared.wholeMilliseconds)
                connection.send(command) { result in
                    switch result {
                    case .failure(let error): completion(.failure(error))
                    case .success(let reply):
                        completion(
                            .success(
                                Shed(
                                    entries: Int(clamping: reply[0].integer ?? 0),
                                    events: Int(clamping: reply[1].integer ?? 0),
                                    bytes: Int(clamping: reply[2].integer ?? 0))))
                    }
                }
            }
        }
    }

    /// The offsets that a mark may be: what a script's numbers hold exactly, -1 for none. A node
    /// calculates with marks, and no text that Redis holds may bring it down.
    private static let marks: ClosedRange<Int64> = -1...(1 << 53)

    private static func outcome(_ reply: RedisReplyView) -> Result<AppendOutcome, RedisError> {
        guard let mark = reply[1].integer, marks.contains(mark) else {
            return .failure(
                RedisError(.serverReplied, "the append script answered \(reply.copy())"))
        }
        switch reply[0].integer {
        case 0: return .success(.alreadyThere(highWater: mark))
        case 1: return .success(.overlaps(highWater: mark))
        case 2: return .success(.redisLostData(highWater: mark))
        case 3:
            return .success(
                .appended(
                    lastMilliseconds: UInt64(clamping: mark),
                    lastSequence: UInt64(clamping: reply[2].integer ?? 0)))
        case 4: return .success(.otherEpoch)
        default:
            return .failure(
                RedisError(.serverReplied, "the append script answered \(reply.copy())"))
        }
    }

    /// Makes the history that Redis holds the one that is gone on with; see
    /// ``HistoryScripts/attach``. From then on appends hold for its epoch.
    ///
    /// - Parameter seen: The newest ID that the caller's node has seen.
    package func attach(
        seen: EventID, _ completion: @escaping (Result<HistoryState, RedisError>) -> Void
    ) {
        connection.send(.attach(keys, seen: seen)) { [weak self] result in
            let state = HistoryState.read(result)
            if case .success(let state) = state { self?.epoch = state.epoch }
            completion(state)
        }
    }

    /// What history knows of the partitions of one topic.
    package struct HighWaters: Sendable, Equatable {
        /// The marks of those that were asked for; `nil` where there is none.
        package var ofPartitions: [Int64?]
        /// True where any partition of the topic has a mark.
        package var topicIsKnown: Bool
    }

    /// The high-water offsets of some partitions of one topic.
    package func highWaters(
        of topic: String, partitions: [Int32],
        _ completion: @escaping (Result<HighWaters, RedisError>) -> Void
    ) {
        var count = RedisCommand("HLEN")
        count.append(keys.highWater(topic))
        // Commands are answered in their order; where this one fails the next one does too.
        var topicIsKnown = false
        connection.send(count) { result in
            if case .success(let reply) = result { topicIsKnown = (reply.integer ?? 0) > 0 }
        }
        var command = RedisCommand("HMGET")
        command.append(keys.highWater(topic))
        for partition in partitions { command.append(partition) }
        connection.send(command) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let reply):
                var marks: [Int64?] = []
                for index in 0..<partitions.count {
                    let text = reply[index].text
                    let mark = text.flatMap { Int64($0) }
                    guard text == nil || mark.map({ $0 >= 0 && Self.marks.contains($0) }) == true
                    else {
                        let place = "\(topic)[\(partitions[index])]"
                        let what = "\"\(text ?? "")\" is no offset"
                        let error = RedisError(
                            .serverReplied, "the high-water offset of \(place): \(what)")
                        return completion(.failure(error))
                    }
                    marks.append(mark)
                }
                completion(
                    .success(HighWaters(ofPartitions: marks, topicIsKnown: topicIsKnown)))
            }
        }
    }

    /// Forgets the high-water offset of a partition whose topic was made anew. False where there
    /// is one that is not the one `seen`; it was left then.
    package func forgetHighWater(
        of topic: String, partition: Int32, seen: Int64,
        _ completion: @escaping (Result<Bool, RedisError>) -> Void
    ) {
        var command = RedisCommand(
            script: HistoryScripts.forgetHighWater,
            keys: [keys.highWater(topic), keys.sequence, keys.floor(topic)])
        command.append(partition)
        command.append(seen)
        connection.send(command) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let reply): completion(.success(reply.integer == 1))
            }
        }
    }
}
