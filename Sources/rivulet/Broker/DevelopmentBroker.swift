// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import KafkaClient
import PosixIO

/// A mock Kafka cluster as a process of its own, until a signal ends it.
///
/// Threads: one, beside the mock's.
final class DevelopmentBroker {
    private let cluster: KafkaMockCluster
    private let settings: DevKafkaSettings
    private let stop: StopSignals

    init(_ settings: DevKafkaSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        do {
            cluster = try KafkaMockCluster(brokers: settings.brokers, log: KafkaOptions.log)
            for topic in settings.topics { try Self.create(topic, on: cluster) }
        } catch {
            throw ProgramError(.unavailable, error.detail)
        }
    }

    /// Serves until a signal, `quit`, or the end of the commands.
    func run() throws(ProgramError) -> ExitStatus {
        let servers = cluster.bootstrapServers.joined(separator: ",")
        if let path = settings.bootstrapFile {
            try AtomicFile.write(Array((servers + "\n").utf8), to: path)
        }
        defer { if let path = settings.bootstrapFile { _ = unsafe unlink(path) } }
        announce(servers)
        if settings.isControlled {
            try obey()
        } else {
            while !stop.sleep(for: .seconds(3_600)) {}
        }
        return .success
    }

    private func announce(_ servers: String) {
        guard !settings.isQuiet else {
            StandardStream.print(servers)
            return
        }
        let brokers = Tabulation.count(settings.brokers, "broker")
        var text = """
            development Kafka: \(brokers) of librdkafka's mock cluster, on loopback only
            For development and tests, not for data you want to keep: everything is in memory,
            a partition forgets beyond 5 MiB, there is no authentication and no replication.

            """
        for topic in settings.topics {
            text += "topic: \(topic.name) (\(Tabulation.count(topic.partitions, "partition")))\n"
        }
        text += "bootstrap servers: \(servers)"
        StandardStream.print(text)
    }

    private static func create(_ topic: DevelopmentTopic, on cluster: KafkaMockCluster)
        throws(KafkaError)
    {
        try cluster.createTopic(topic.name, partitions: topic.partitions)
    }

    // MARK: - Commands

    private func obey() throws(ProgramError) {
        let control = BrokerControl(brokers: settings.brokers, partitions: settings.partitions)
        var lines = LineReader(
            StandardStream.input, lineBytesMax: BrokerControl.lineBytesMax, stop: stop)
        while true {
            let line: LineReader.Line
            do { line = try lines.next() } catch {
                throw ProgramError(.transferFailed, "cannot read commands: \(error)")
            }
            switch line {
            case .end, .stopped: return
            case .tooLong(let bytes):
                reply("error: a line of \(bytes) bytes; at most \(BrokerControl.lineBytesMax)")
            case .text(let range):
                let text = lines.bytes(of: range).text(in: 0..<range.count)
                guard !text.allSatisfy({ $0 == " " || $0 == "\t" }) else { continue }
                guard carryOut(text, control) else { return }
            }
        }
    }

    /// Carries one command out and replies with one line; false where it was `quit`.
    private func carryOut(_ line: String, _ control: BrokerControl) -> Bool {
        do {
            switch try control.parse(line) {
            case .down(let id): try cluster.setBrokerDown(id)
            case .up(let id): try cluster.setBrokerUp(id)
            case .leader(let partition, let broker):
                try cluster.setPartitionLeader(partition, broker: broker)
            case .roundTrip(let id, let milliseconds):
                try cluster.setRoundTrip(id, .milliseconds(milliseconds))
            case .topic(let topic): try Self.create(topic, on: cluster)
            case .servers:
                reply("ok: \(cluster.bootstrapServers.joined(separator: ","))")
                return true
            case .quit:
                reply("ok: quit")
                return false
            }
            reply("ok: \(line)")
        } catch let error as KafkaError {
            reply("error: \(error.detail)")
        } catch {
            reply("error: \(error)")
        }
        return true
    }

    private func reply(_ text: String) { StandardStream.print(text) }
}
