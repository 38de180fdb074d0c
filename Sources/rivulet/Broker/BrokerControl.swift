// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient

/// The commands that change a running development broker, one a line.
struct BrokerControl {
    /// A line of commands is short; a longer one is refused.
    static let lineBytesMax = 1_024
    static let accepted =
        "down ID|all, up ID|all, leader TOPIC PARTITION ID, rtt ID|all MS, "
        + "error REQUEST FAILURE [COUNT], topic NAME[:PARTITIONS], servers, quit"
    /// Failures of one kind of request that wait for their turn at once.
    static let failuresMax = 10_000
    static let requests = KafkaMockCluster.Request.allCases.map { "\($0)" }
    static let failures = KafkaMockCluster.Failure.allCases.map(\.rawValue)

    enum Command: Equatable {
        case down([Int32])
        case up([Int32])
        case leader(TopicPartition, broker: Int32)
        case roundTrip([Int32], milliseconds: Int)
        case failures(KafkaMockCluster.Failure, of: KafkaMockCluster.Request, count: Int)
        case topic(DevelopmentTopic)
        case servers
        case quit
    }

    let brokers: Int
    let partitions: Int

    /// Reads a line; the error is the reply.
    func parse(_ line: String) throws(ProgramError) -> Command {
        let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
        switch (words.first, words.count) {
        case ("down", 2): return .down(try some(words[1]))
        case ("up", 2): return .up(try some(words[1]))
        case ("leader", 4):
            let partition = try number(words[2], "partition", 0...Int(Int32.max))
            return .leader(
                TopicPartition(words[1], Int32(partition)), broker: try broker(words[3]))
        case ("rtt", 3):
            let milliseconds = try number(words[2], "round trip in ms", 0...60_000)
            return .roundTrip(try some(words[1]), milliseconds: milliseconds)
        case ("error", 3), ("error", 4):
            let request = try choice(
                words[1], "request", KafkaMockCluster.Request.allCases
            ) { "\($0)" }
            let failure = try choice(
                words[2], "failure", KafkaMockCluster.Failure.allCases, \.rawValue)
            let count =
                words.count == 4 ? try number(words[3], "count", 1...Self.failuresMax) : 1
            return .failures(failure, of: request, count: count)
        case ("topic", 2):
            guard let topic = DevelopmentTopic.parse(words[1], partitions: partitions) else {
                throw ProgramError(
                    .usage,
                    "topic \"\(ArgumentParser.shown(words[1]))\"; accepted: "
                        + DevelopmentTopic.accepted)
            }
            return .topic(topic)
        case ("servers", 1): return .servers
        case ("quit", 1): return .quit
        default:
            throw ProgramError(
                .usage, "\"\(ArgumentParser.shown(line))\"; accepted: \(Self.accepted)")
        }
    }

    /// One broker, or all of them.
    private func some(_ text: String) throws(ProgramError) -> [Int32] {
        text == "all" ? (1...brokers).map { Int32($0) } : [try broker(text)]
    }

    private func choice<Value>(
        _ text: String, _ what: String, _ values: [Value], _ name: (Value) -> String
    ) throws(ProgramError) -> Value {
        guard let value = values.first(where: { name($0) == text }) else {
            let accepted = values.map(name).joined(separator: ", ")
            throw ProgramError(
                .usage, "\(what) \"\(ArgumentParser.shown(text))\"; accepted: \(accepted)")
        }
        return value
    }

    private func broker(_ text: String) throws(ProgramError) -> Int32 {
        Int32(try number(text, "broker", 1...brokers))
    }

    private func number(_ text: String, _ what: String, _ range: ClosedRange<Int>)
        throws(ProgramError) -> Int
    {
        guard let number = Int(text), range.contains(number) else {
            throw ProgramError(
                .usage,
                "\(what) \"\(ArgumentParser.shown(text))\"; accepted: "
                    + "\(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
