// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("rivulet verify")
struct VerifyProgramTests {
    /// Ten events of a topic with one partition, and receipts for those of `numbers`, in order.
    private func receipts(_ numbers: [Int]) -> String {
        numbers.map { #"{"id":"1000-\#($0 + 1)","event":"x","data":{"n":\#($0)}}"# + "\n" }.joined()
    }

    private func published(_ kafka: DevelopmentKafka) throws {
        let publisher = try Child(
            ["publish", "-t", "its.detections", "-b", kafka.servers, "-p", "0"])
        publisher.send((0..<10).map { #"{"n":\#($0)}"# + "\n" }.joined())
        publisher.endInput()
        try #require(publisher.exit() == 0, "\(publisher.errors)")
    }

    private func verify(_ receipts: String, _ arguments: [String]) throws -> Child {
        let child = try Child(["verify"] + arguments + ["-"])
        child.send(receipts)
        child.endInput()
        return child
    }

    @Test("Kafka is the truth: a whole stream is clean, a broken one names the event")
    func kafka() throws {
        let kafka = try DevelopmentKafka("--topic", "its.detections:1")
        try published(kafka)
        let arguments = ["-s", "detections", "-b", kafka.servers, "--owed", "all"]
        let clean = try verify(receipts(Array(0..<10)), arguments)
        #expect(clean.exit() == 0, "\(clean.output)\(clean.errors)")
        #expect(clean.output.contains("verdict: clean"))
        #expect(clean.output.contains("unauthorised               n/a"))

        let broken = try verify(receipts([0, 1, 2, 4, 6, 5, 7, 8, 8, 9]), arguments + ["--json"])
        #expect(broken.exit() == 1, "\(broken.errors)")
        for part in [
            #""verdict":"offences""#, #""lost":["its.detections[0]@3"]"#,
            #""repeated":["1000-9"]"#, #""out_of_order":["1000-6 after 1000-7"]"#,
        ] {
            #expect(broken.output.contains(part), "\(broken.output)")
        }
    }

    @Test("a file that was published is the truth")
    func file() throws {
        let pair = try verify(receipts([0]), ["--published", "/dev/null", "--owed", "between"])
        #expect(pair.exit() == 1)
        #expect(pair.output.contains("unknown                      1"), "\(pair.output)")
    }

    @Test("what cannot be asked is refused with what can")
    func refusals() throws {
        for (arguments, words) in [
            (["-s", "detectoins"], "channels:"),
            (["--owed", "some", "-s", "system"], "after-first"),
            ([], "what is the truth?"), (["-s", "system?colour=red"], "has no filter"),
        ] {
            let child = try verify("", arguments)
            #expect(child.exit() == 64)
            #expect(child.errors.contains(words), "\(child.errors)")
        }
    }
}
