// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import KafkaClient
@testable import rivulet

@Suite("What is an event")
struct EventCheckTests {
    func verdict(_ line: String, keyField: String? = nil) throws -> EventCheck.Verdict {
        let check = try EventCheck(eventBytesMax: 1_000, keyField: keyField)
        let bytes = Array(line.utf8)
        return check.check(bytes.span)
    }

    func reason(_ line: String, keyField: String? = nil) throws -> String {
        guard case .refused(let reason) = try verdict(line, keyField: keyField) else {
            return "accepted"
        }
        return reason
    }

    @Test("an object is an event, and nothing else is")
    func objects() throws {
        #expect(try verdict("{\"a\":1}") == .accepted(key: nil))
        #expect(try reason("[1]").contains("not an object"))
        #expect(try reason("7").contains("not an object"))
        #expect(try reason("{\"a\":1").contains("not JSON"))
        #expect(try reason("{\"a\":tru}").contains("(column "))
        #expect(
            try reason("{\"a\":\"\(String(repeating: "x", count: 2_000))\"}").contains("larger"))
    }

    @Test("bytes that are not UTF-8 are refused")
    func notUTF8() throws {
        let check = try EventCheck(eventBytesMax: 1_000, keyField: nil)
        let bytes: [UInt8] = Array("{\"a\":\"".utf8) + [0xff] + Array("\"}".utf8)
        #expect(check.check(bytes.span) == .refused("it is not UTF-8, which JSON has to be"))
    }

    @Test(
        "a key is the text of the field",
        arguments: [
            ("{\"z\":{\"id\":\"n\"}}", "n"), ("{\"z\":{\"id\":7}}", "7"),
            ("{\"z\":{\"id\":-3}}", "-3"), ("{\"z\":{\"id\":true}}", "true"),
            ("{\"z\":{\"id\":\"\"}}", ""), ("{\"z\":{\"id\":\"ü\"}}", "ü"),
        ])
    func keys(line: String, key: String) throws {
        #expect(try verdict(line, keyField: "z.id") == .accepted(key: Array(key.utf8)))
    }

    @Test("an event without a usable key is refused with the field's name")
    func missingKeys() throws {
        #expect(try reason("{}", keyField: "id").contains("no field \"id\""))
        #expect(try reason("{\"id\":null}", keyField: "id").contains("no field \"id\""))
        #expect(try reason("{\"id\":[1,2]}", keyField: "id").contains("holds 2 values"))
        #expect(try reason("{\"id\":1.5}", keyField: "id").contains("1.5"))
        #expect(try reason("{\"id\":9007199254740993}", keyField: "id").contains("2^53"))
    }
}

@Suite("The pace of publishing")
struct PacerTests {
    @Test("events are spread evenly, and a pause is not followed by a flood")
    func pace() {
        let start = MonotonicTime(nanoseconds: 1_000_000_000_000)
        var pacer = Pacer(rate: 10, start: start)
        #expect(pacer.next(at: start) == start)
        #expect(pacer.next(at: start) == start + .milliseconds(100))
        let later = start + .seconds(60)
        #expect(pacer.next(at: later) == later + .milliseconds(-100))
        #expect(pacer.next(at: later) == later)
    }
}

@Suite("What a publication was asked to do")
struct PublishSettingsTests {
    func settings(_ arguments: String...) throws -> PublishSettings {
        try PublishSettings(
            try ArgumentParser.parse(arguments, for: PublishCommand.specification))
    }

    func refusal(_ arguments: String...) -> String {
        do {
            let parsed = try ArgumentParser.parse(arguments, for: PublishCommand.specification)
            _ = try PublishSettings(parsed)
            return "accepted"
        } catch {
            #expect(error.exitStatus == .usage)
            return error.detail
        }
    }

    @Test("a channel with one topic is that topic")
    func channel() throws {
        #expect(try settings("--channel", "detections").topic == "its.detections")
    }

    @Test("a channel with several topics asks which, an unknown one lists all")
    func channelRefusals() {
        #expect(refusal("--channel", "cameras").contains("its.camera.events, its.detections"))
        let unknown = refusal("--channel", "detection")
        #expect(unknown.contains("did you mean detections?"))
        #expect(unknown.contains("accepted: cameras, detections, system"))
    }

    @Test("contradictions are named")
    func contradictions() {
        #expect(refusal().contains("--topic TOPIC or --channel CHANNEL"))
        #expect(refusal("-t", "a", "--channel", "b").contains("exclude each other"))
        #expect(refusal("-t", "a", "-k", "b", "--key-field", "c").contains("exclude each other"))
        #expect(refusal("-t", "a", "--key-field", "c", "--no-validate").contains("--no-validate"))
        #expect(refusal("-t", "a", "--key-field", "c..d").contains("empty key"))
        #expect(refusal("-t", "a", "-H", "novalue").contains("name=value"))
        #expect(refusal("-t", "a", "--rate", "0").contains("events per second"))
        #expect(refusal("-t", "").contains("1 to 249"))
        #expect(refusal("-t", "a", "-b", "kafka").contains("\"kafka\" is no address"))
        #expect(refusal("-t", "a", "-b", "a:1,,b:2").contains("\"\" is no address"))
        #expect(refusal("-t", "a", "-b", "a:70000").contains("host:port"))
    }

    @Test("the option beats everything else that names brokers")
    func servers() throws {
        let found = try settings("-t", "a", "-b", "a:1, b:2,[::1]:3").kafka.bootstrapServers
        #expect(found == ["a:1", "b:2", "[::1]:3"])
    }
}

@Suite("The account of deliveries")
struct DeliveryTallyTests {
    @Test("reasons are counted, most frequent first, and bounded")
    func reasons() {
        let tally = DeliveryTally()
        tally.record(.success(KafkaDelivery(partition: 0, offset: 1)))
        for index in 0..<100 {
            tally.record(.failure(KafkaError(.messageTooLarge, "number \(index)")))
        }
        #expect(tally.delivered == 1)
        #expect(tally.failed == 100)
        #expect(tally.reasons.count <= 9)
        #expect(tally.reasons.first?.reason == "other reasons")
        #expect(tally.lastingFailure == nil)
    }

    @Test("a broker that is away is a lasting failure, one bad record is not")
    func lasting() {
        let tally = DeliveryTally()
        tally.record(.failure(KafkaError(.timedOut, "no answer")))
        #expect(tally.lastingFailure?.code == .timedOut)
        #expect(!DeliveryTally.isLasting(KafkaError(.messageTooLarge, "x")))
    }
}
