// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import rivulet

@Suite("The program publish", .timeLimit(.minutes(2)))
struct PublishProgramTests {
    @Test("events arrive with their keys and headers, and bad lines are named and not sent")
    func roundTrip() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "orders:1")
        let input = """
            {"camera_id":"cam1","n":1}
            not json

            [2]
            {"n":3}
            {"camera_id":"cam2","n":4}
            """
        let publish = try Child.run(
            [
                "publish", "-b", kafka.servers, "-t", "orders", "--key-field", "camera_id", "-H",
                "source=test",
            ], input: input)
        #expect(publish.exit() == 1)
        #expect(publish.errors.contains("standard input:2: refused: it is not JSON"))
        #expect(publish.errors.contains("standard input:4: refused: it is JSON but not an object"))
        #expect(publish.errors.contains("standard input:5: refused: there is no field"))
        #expect(publish.errors.contains("published 2 events to orders"))
        #expect(publish.errors.contains("3 refused, 0 failed"))
        let records = try kafka.records(of: "orders", count: 2)
        #expect(
            records == [
                "cam1={\"camera_id\":\"cam1\",\"n\":1} source:4",
                "cam2={\"camera_id\":\"cam2\",\"n\":4} source:4",
            ])
    }

    @Test("an event of five megabytes is refused and those around it are sent")
    func fiveMegabytes() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "orders:1")
        let big = "{\"x\":\"" + String(repeating: "y", count: 5_000_000) + "\"}"
        let publish = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "orders"],
            input: "{\"n\":1}\n\(big)\n{\"n\":2}\n")
        #expect(publish.exit() == 1)
        #expect(publish.errors.contains("standard input:2: refused: the event has 5,000,008 bytes"))
        #expect(publish.errors.contains("at most 1,048,576"))
        #expect(try kafka.records(of: "orders", count: 2) == ["-={\"n\":1}", "-={\"n\":2}"])
    }

    @Test("files are published in turn, and a missing one stops it before anything is sent")
    func files() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "orders:1")
        let path = "/tmp/rivulet-test-\(getpid())-files.jsonl"
        try AtomicFile.write(Array("{\"n\":1}\n".utf8), to: path)
        defer { _ = unsafe unlink(path) }
        let publish = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "orders", "-k", "k", path, "-"],
            input: "{\"n\":2}\n")
        #expect(publish.exit() == 0, "\(publish.errors)")
        #expect(try kafka.records(of: "orders", count: 2) == ["k={\"n\":1}", "k={\"n\":2}"])
        let missing = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "orders", path, "/nonexistent/x"])
        #expect(missing.exit() == 66)
        #expect(missing.errors.contains("cannot read /nonexistent/x: No such file or directory"))
        #expect(!missing.errors.contains("published"))
    }

    @Test("an unknown topic lists similar ones, and an unknown partition those there are")
    func unknownTopic() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "its.detections:2", "-t", "other")
        let typo = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "its.detection"], input: "{}\n")
        #expect(typo.exit() == 1)
        #expect(typo.errors.contains("topic \"its.detection\" does not exist"))
        #expect(typo.errors.contains("similar: its.detections\n"))
        #expect(typo.errors.contains("--create"))
        let partition = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "its.detections", "-p", "2"], input: "{}\n")
        #expect(partition.exit() == 1)
        #expect(partition.errors.contains("has no partition 2; it has 0 to 1"))
        let created = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "brand-new", "--create"], input: "{\"n\":1}\n")
        #expect(created.exit() == 0, "\(created.errors)")
    }

    @Test("brokers that do not answer are named, within seconds")
    func unreachable() throws {
        let publish = try Child.run(
            ["publish", "-t", "orders"], input: "{}\n",
            environment: ["KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1"])
        #expect(publish.exit() == 69)
        #expect(publish.errors.contains("127.0.0.1:1"))
    }

    @Test("a broker that goes away midway makes it fail and say how many")
    func brokerLost() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "orders:1")
        let publish = try Child(
            [
                "publish", "-b", kafka.servers, "-t", "orders", "--delivery-timeout", "1s",
            ])
        publish.send("{\"n\":1}\n")
        #expect(try kafka.records(of: "orders", count: 1) == ["-={\"n\":1}"])
        #expect(kafka.command("down 1") == "ok: down 1")
        publish.send("{\"n\":2}\n")
        publish.endInput()
        #expect(publish.exit() == 1)
        #expect(publish.errors.contains("1 event failed: kafka."), "\(publish.errors)")
        #expect(publish.errors.contains("published 1 event to orders"), "\(publish.errors)")
        #expect(publish.errors.contains("0 refused, 1 failed"), "\(publish.errors)")
    }

    @Test("a signal ends the wait for input, and what was read is delivered")
    func interrupted() throws {
        let kafka = try DevelopmentKafka("--brokers", "1", "-t", "orders:1")
        let publish = try Child(["publish", "-b", kafka.servers, "-t", "orders"])
        publish.send("{\"n\":1}\n")
        #expect(try kafka.records(of: "orders", count: 1).count == 1)
        publish.signal(SIGINT)
        #expect(publish.exit() == 130)
        #expect(publish.errors.contains("stopped by a signal"))
        #expect(publish.errors.contains("published 1 event"))
    }

    @Test("kcat reads what was published", .enabled(if: unsafe access("/usr/bin/kcat", X_OK) == 0))
    func kcat() throws {
        let kafka = try DevelopmentKafka("--brokers", "2", "-t", "orders:1")
        let publish = try Child.run(
            ["publish", "-b", kafka.servers, "-t", "orders", "-k", "k"], input: "{\"n\":1}\n")
        #expect(publish.exit() == 0, "\(publish.errors)")
        let reader = try Child.run(
            ["-b", kafka.servers, "-t", "orders", "-C", "-e", "-q", "-f", "%k|%s\\n"],
            program: "/usr/bin/kcat")
        #expect(reader.output == "k|{\"n\":1}\n")
    }
}
