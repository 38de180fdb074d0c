// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import KafkaClient
import Observability
import PosixIO
import Testing

/// A `rivulet dev-kafka` process, which ends with the test.
final class DevelopmentKafka {
    let child: Child
    let servers: String

    init(_ arguments: String...) throws {
        child = try Child(["dev-kafka", "--quiet", "--control"] + arguments)
        try #require(child.wait { $0.output.contains("\n") }, "\(child.errors)")
        servers = String(child.output.prefix { $0 != "\n" })
    }

    /// Sends a command and returns its reply.
    func command(_ line: String) -> String {
        let before = child.output.split(separator: "\n").count
        child.send(line + "\n")
        _ = child.wait { $0.output.split(separator: "\n").count > before }
        return child.output.split(separator: "\n").last.map(String.init) ?? ""
    }

    /// The first `count` records of a topic, as `key=value`, in the order of their partitions.
    func records(of topic: String, count: Int) throws -> [String] {
        let reader = try KafkaReader(
            settings: KafkaSettings(
                bootstrapServers: servers.split(separator: ",").map(String.init)),
            fetchWaitMax: .milliseconds(10), log: Logger("test", lowest: .error))
        let partitions = try reader.endOffsets(of: topic, within: .seconds(10))
        try reader.assign(partitions.keys.map { ($0, .beginning) })
        var found: [String] = []
        let deadline = MonotonicTime.now + .seconds(20)
        while found.count < count, MonotonicTime.now < deadline {
            _ = reader.poll(within: .milliseconds(100)) { event in
                switch event {
                case .record(let record):
                    var text = "-"
                    if let key = record.key { text = key.text(in: 0..<key.count) }
                    if let value = record.value { text += "=" + value.text(in: 0..<value.count) }
                    record.forEachHeader { name, value in
                        text += " " + name.text(in: 0..<name.count) + ":\(value?.count ?? 0)"
                    }
                    found.append(text)
                default: break
                }
            }
        }
        reader.close(within: .seconds(2))
        return found
    }
}
