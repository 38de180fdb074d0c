// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import Glibc

/// A mock Kafka in a process of its own, with one topic or none.
final class KafkaServer: Sendable {
    let bootstrapServers: [String]
    let process: ServerProcess

    init(topic: String? = nil, partitions: Int = 1) throws(BenchmarkError) {
        let directory = try ServerProcess.temporaryDirectory("kafka")
        process = try ServerProcess(
            "the mock Kafka", in: directory,
            command: HelperServer.kafka.command(
                [topic ?? "", "\(partitions)", "\(directory.path)/ready"])
        ) { directory.end(of: "ready", bytes: 4096).hasSuffix("\n") }
        bootstrapServers = directory.end(of: "ready", bytes: 4096).dropLast()
            .split(separator: ",").map(String.init)
    }
}
