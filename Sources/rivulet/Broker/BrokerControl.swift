// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient

/// The commands that change a running development broker, one a line.
struct BrokerControl {
    /// A line of commands is short; a longer one is refused.
    static let lineBytesMax = 1_024
    static let accepted =
        "down ID, up ID, leader TOPIC PARTITION ID, rtt ID MS, topic NAME[:PARTITIONS], "
        + "servers, quit"

    enum Command: Equatable {
        case down(Int32)
        case up(Int32)
        case leader(TopicPartition, broker: Int32)
        case roundTrip(Int32, milliseconds: Int)
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
        case ("down", 2): return .down(try broker(words[1]))
        case ("up", 2): return .up(try broker(words[1]))
        case ("leader", 4):
            let partition = try number(words[2], "partition", 0...Int(Int32.max))
            return .leader(
                TopicPartition(words[1], Int32(partition)), broker: try broker(words[3]))
        case ("rtt", 3):
            let milliseconds = try number(words[2], "round trip in ms", 0...60_000)
            return .roundTrip(try broker(words[1]), milliseconds: milliseconds)
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
