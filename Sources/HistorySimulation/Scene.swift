// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Bytes
import EventStreamWire
import JSONFields
import KafkaClient
import NodeConfiguration

/// What all simulations share: two topics of two partitions, a channel for each.
enum Scene {
    static let topics = ["a", "b"]
    static let partitions = topics.flatMap { topic in
        (0..<2).map { TopicPartition(topic, Int32($0)) }
    }

    private static let directory: ChannelDirectory = {
        do {
            return try ChannelDirectory(
                channels: topics.map {
                    ChannelConfiguration(name: $0, topics: [$0], event: .fixed("e"))
                }, patterns: [])
        } catch { preconditionFailure("\(error)") }
    }()

    static let noFields: FieldTable = {
        do { return FieldTable(for: try JSONFieldPaths([])) } catch {
            preconditionFailure("\(error)")
        }
    }()

    private static let routes = Dictionary(
        uniqueKeysWithValues: topics.map { ($0, directory.route(for: $0)) })

    static func route(_ topic: String) -> TopicRoute { routes[topic]! }

    /// Everything, or one channel.
    static func subscription(to topic: String?) -> Subscription {
        Subscription(
            channels: topic.map { [directory.channel(named: $0)!.index] }, predicates: [])
    }

    /// What a notice says on the wire.
    static func notice(_ batch: EventBatch) -> GapNotice? {
        let text = String(decoding: batch.frames.copy(0..<batch.frames.count), as: UTF8.self)
        func value(_ name: String) -> String? {
            guard let start = text.firstRange(of: "\"\(name)\":\"")?.upperBound else { return nil }
            return String(text[start...].prefix { $0 != "\"" })
        }
        guard let from = value("from").flatMap({ try? EventID.parse($0) }),
            let to = value("to").flatMap({ try? EventID.parse($0) }),
            let reason = value("reason").flatMap({ GapNotice.Reason(rawValue: $0) })
        else { return nil }
        return GapNotice(from: from, to: to, reason: reason)
    }
}
