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
    private let desk: BrokerDesk
    private let settings: DevKafkaSettings
    private let stop: StopSignals

    init(_ settings: DevKafkaSettings, stop: StopSignals) throws(ProgramError) {
        self.settings = settings
        self.stop = stop
        do {
            cluster = try KafkaMockCluster(brokers: settings.brokers, log: KafkaOptions.log)
            desk = BrokerDesk(
                cluster: cluster,
                control: BrokerControl(
                    brokers: settings.brokers, partitions: settings.partitions))
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
        let socket = try settings.controlSocket.map { path throws(ProgramError) in
            try ControlSocket(path, desk: desk)
        }
        defer { socket?.close() }
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

    /// Takes commands from standard input until one ends it.
    private func obey() throws(ProgramError) {
        let lines = LineReader(
            StandardStream.input, lineBytesMax: BrokerControl.lineBytesMax, stop: stop)
        do { try desk.serve(lines) { StandardStream.print($0) } } catch {
            throw ProgramError(.transferFailed, "cannot read commands: \(error)")
        }
    }
}

/// Carries out the commands that change a running development broker.
///
/// Threads: any; the mock takes its calls on its own thread.
struct BrokerDesk: Sendable {
    let cluster: KafkaMockCluster
    let control: BrokerControl

    /// Answers each line with one; returns after `quit` or the end of the lines.
    ///
    /// - Returns: True where it was `quit`.
    @discardableResult
    func serve(
        _ given: consuming LineReader, reply: (String) -> Void
    ) throws(Errno) -> Bool {
        var lines = given
        while true {
            switch try lines.next() {
            case .end, .stopped: return false
            case .tooLong(let bytes):
                reply("error: a line of \(bytes) bytes; at most \(BrokerControl.lineBytesMax)")
            case .text(let range):
                let text = lines.bytes(of: range).text(in: 0..<range.count)
                guard !text.allSatisfy({ $0 == " " || $0 == "\t" }) else { continue }
                let answer = carryOut(text)
                reply(answer.text)
                if answer.isQuit { return true }
            }
        }
    }

    /// Carries out one command that does not come from standard input: `quit` ends nothing there.
    func answer(_ line: String) -> String { carryOut(line).text }

    private func carryOut(_ line: String) -> (text: String, isQuit: Bool) {
        do {
            switch try control.parse(line) {
            case .down(let ids): for id in ids { try cluster.setBrokerDown(id) }
            case .up(let ids): for id in ids { try cluster.setBrokerUp(id) }
            case .leader(let partition, let broker):
                try cluster.setPartitionLeader(partition, broker: broker)
            case .roundTrip(let ids, let milliseconds):
                for id in ids { try cluster.setRoundTrip(id, .milliseconds(milliseconds)) }
            case .failures(let failure, let request, let count):
                cluster.pushErrors(Array(repeating: failure, count: count), for: request)
            case .topic(let topic):
                try cluster.createTopic(topic.name, partitions: topic.partitions)
            case .servers: return ("ok: \(cluster.bootstrapServers.joined(separator: ","))", false)
            case .quit: return ("ok: quit", true)
            }
            return ("ok: \(line)", false)
        } catch let error as KafkaError {
            return ("error: \(error.detail)", false)
        } catch {
            return ("error: \(error)", false)
        }
    }
}
