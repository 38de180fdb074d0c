// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Testing

@testable import rivulet

@Suite("The program dev-kafka", .timeLimit(.minutes(2)))
struct DevKafkaProgramTests {
    @Test("it writes its address when ready, says what it is, and removes the file at the end")
    func bootstrapFile() throws {
        let path = "/tmp/rivulet-test-\(getpid())-kafka.addr"
        let kafka = try Child(
            ["dev-kafka", "--brokers", "2", "--channels", "--bootstrap-file", path])
        #expect(kafka.wait { $0.output.contains("bootstrap servers: ") })
        let text = try String(decoding: read(path), as: UTF8.self)
        #expect(kafka.output.hasSuffix("bootstrap servers: \(text)"))
        let servers = text.split(separator: "\n")[0].split(separator: ",")
        #expect(servers.count == 2)
        #expect(servers.allSatisfy { $0.hasPrefix("127.0.0.1:") })
        #expect(kafka.output.contains("everything is in memory"))
        #expect(kafka.output.contains("topic: its.detections (12 partitions)"))
        #expect(kafka.output.contains("topic: rivulet.dead-letter"))
        kafka.signal(SIGTERM)
        #expect(kafka.exit() == 0)
        #expect(unsafe access(path, F_OK) != 0)
    }

    @Test("commands are answered with a line each, and quit ends it")
    func control() throws {
        let kafka = try DevelopmentKafka("--brokers", "2", "-t", "orders:2")
        #expect(kafka.command("down 2") == "ok: down 2")
        #expect(kafka.command("up 2") == "ok: up 2")
        #expect(kafka.command("leader orders 1 1") == "ok: leader orders 1 1")
        #expect(kafka.command("rtt 1 5") == "ok: rtt 1 5")
        #expect(kafka.command("topic more:3") == "ok: topic more:3")
        #expect(kafka.command("servers") == "ok: \(kafka.servers)")
        #expect(kafka.command("explode").hasPrefix("error: \"explode\"; accepted: "))
        #expect(kafka.command("leader orders 99 1").hasPrefix("error: "))
        #expect(kafka.command(String(repeating: "x", count: 5_000)).hasPrefix("error: a line of"))
        #expect(kafka.command("quit") == "ok: quit")
        #expect(kafka.child.exit() == 0)
    }

    @Test("the same commands are taken at a socket, by one process after another")
    func controlSocket() throws {
        let path = "/tmp/rivulet-test-\(getpid())-kafka.sock"
        let kafka = try DevelopmentKafka("--brokers", "1", "--control-socket", path)
        #expect(try ask(path, "error fetch disconnect 2") == "ok: error fetch disconnect 2\n")
        #expect(try ask(path, "quit") == "ok: quit\n", "which ends nothing there")
        #expect(try ask(path, "servers") == "ok: \(kafka.servers)\n")
        #expect(kafka.command("quit") == "ok: quit")
        #expect(kafka.child.exit() == 0)
        #expect(unsafe access(path, F_OK) != 0)
    }

    /// Sends one line over a connection of its own and returns the reply.
    private func ask(_ path: String, _ line: String) throws -> String {
        let socket = try StreamSocket.connect(to: .unix(path))
        let bytes = Array((line + "\n").utf8)
        let sent = unsafe bytes.withUnsafeBytes {
            unsafe StreamSocket.write(socket.number, $0)
        }
        #expect(sent == .transferred(bytes.count))
        var entry = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
        #expect(unsafe poll(&entry, 1, 10_000) == 1)
        var buffer = [UInt8](repeating: 0, count: 4096)
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(socket.number, into: $0)
        }
        guard case .transferred(let count) = outcome else { return "" }
        return String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    @Test("the end of its commands ends it too")
    func endOfCommands() throws {
        let kafka = try DevelopmentKafka("--brokers", "1")
        kafka.child.endInput()
        #expect(kafka.child.exit() == 0)
    }

    @Test("a place that cannot be written and topics that cannot be are refused")
    func refusals() throws {
        let place = try Child.run(["dev-kafka", "--bootstrap-file", "/nonexistent/x"])
        #expect(place.exit() == 73)
        #expect(place.errors.contains("cannot write /nonexistent/x"))
        let topic = try Child.run(["dev-kafka", "-t", "a/b"])
        #expect(topic.exit() == 64)
        #expect(topic.errors.contains("--topic \"a/b\" is not accepted"))
    }

    private func read(_ path: String) throws -> [UInt8] {
        let file = try OwnedDescriptor.open(path, flags: O_RDONLY)
        var buffer = [UInt8](repeating: 0, count: 4_096)
        let count = unsafe Glibc.read(file.number, &buffer, buffer.count)
        _ = consume file
        return Array(buffer.prefix(max(0, count)))
    }
}

@Suite("The program feed", .timeLimit(.minutes(2)))
struct FeedProgramTests {
    @Test("it publishes what the town's cameras see, keyed by camera, until a signal")
    func plays() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "its.detections:1", "--channels")
        let feed = try Child(["feed", "-b", kafka.servers, "--rate", "2000/s"])
        let records = try kafka.records(of: "its.detections", count: 50)
        #expect(records.count >= 50)
        #expect(records.allSatisfy { $0.hasPrefix("cam") && $0.contains("=\(Self.detection)") })
        feed.signal(SIGTERM)
        #expect(feed.exit() == 0)
        #expect(feed.errors.contains("events published"))
    }

    private static let detection = "{\"event_type\":\"detection_result\""

    @Test("a broker that goes away is mentioned once, and once more when it is back")
    func survives() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "--channels")
        let feed = try Child(["feed", "-b", kafka.servers, "--rate", "500/s"])
        #expect(try kafka.records(of: "its.detections", count: 1).count >= 1)
        #expect(kafka.command("down 1") == "ok: down 1")
        #expect(feed.wait { $0.errors.contains("Kafka does not answer") }, "\(feed.errors)")
        #expect(kafka.command("up 1") == "ok: up 1")
        #expect(feed.wait { $0.errors.contains("Kafka answers again") }, "\(feed.errors)")
        feed.signal(SIGINT)
        #expect(feed.exit() == 0)
        #expect(feed.errors.split(separator: "\n").count == 4, "\(feed.errors)")
    }
}

@Suite("The program itself", .timeLimit(.minutes(1)))
struct ProgramTests {
    @Test("it tells its version, and what it can do")
    func overview() throws {
        #expect(try Child.run(["--version"]).output == "rivulet 0.1.0\n")
        let help = try Child.run(["--help"])
        #expect(help.exit() == 0)
        #expect(help.output == Program.overview)
        let bare = try Child.run([])
        #expect(bare.exit() == 64)
        #expect(bare.errors == Program.overview)
        #expect(try Child.run(["help", "tail"]).output.hasPrefix("rivulet tail: "))
    }

    @Test("an unknown command or option is named, with what was probably meant")
    func unknown() throws {
        let command = try Child.run(["pubish"])
        #expect(command.exit() == 64)
        #expect(command.errors.contains("unknown command \"pubish\"; did you mean publish?"))
        #expect(command.errors.contains("accepted: serve, publish, tail"))
        let option = try Child.run(["--verison"])
        #expect(option.exit() == 64)
        #expect(option.errors.contains("did you mean --version?"))
    }

    @Test("a configuration that is wrong is explained")
    func configuration() throws {
        let path = "/tmp/rivulet-test-\(getpid())-bad.yaml"
        try AtomicFile.write(Array("kafkaa: 1\n".utf8), to: path)
        defer { _ = unsafe unlink(path) }
        let publish = try Child.run(["publish", "-t", "a", "--config", path])
        #expect(publish.exit() == 78)
        #expect(publish.errors.contains("\(path):1:1: kafkaa"), "\(publish.errors)")
    }
}
