// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// A topic for the development broker, as `NAME` or `NAME:PARTITIONS`.
struct DevelopmentTopic: Sendable, Equatable {
    /// Each partition of the mock holds up to 5 MiB.
    static let partitionsMax = 1_000
    static let topicsMax = 1_000
    /// As Kafka limits it.
    private static let nameBytesMax = 249

    let name: String
    let partitions: Int

    init(name: String, partitions: Int) {
        self.name = name
        self.partitions = partitions
    }

    /// Reads `NAME` or `NAME:PARTITIONS`.
    ///
    /// - Returns: `nil` where it is neither; see ``accepted``.
    static func parse(_ text: String, partitions: Int) -> DevelopmentTopic? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let name = String(parts[0])
        // Kafka's own rule: these letters, and neither of the two names of directories.
        let isLegal = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard isLegal, (1...nameBytesMax).contains(name.utf8.count), name != ".", name != ".."
        else { return nil }
        switch parts.count {
        case 1: return DevelopmentTopic(name: name, partitions: partitions)
        case 2:
            guard let count = Int(parts[1]), (1...partitionsMax).contains(count) else { return nil }
            return DevelopmentTopic(name: name, partitions: count)
        default: return nil
        }
    }

    static let accepted =
        "NAME or NAME:PARTITIONS, with letters, digits, dot, dash and underscore, "
        + "and 1 to \(partitionsMax) partitions"

    /// Every topic that a configuration names, each once.
    static func topics(of configuration: Configuration, partitions: Int) -> [DevelopmentTopic] {
        var names = configuration.channels.flatMap(\.topics)
        names.append(configuration.telemetry.topic)
        names.append(configuration.kafka.deadLetterTopic)
        names.append(configuration.canary.topic)
        var seen: Set<String> = []
        return names.filter { seen.insert($0).inserted }.map {
            DevelopmentTopic(name: $0, partitions: partitions)
        }
    }
}
