// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire
import NodeConfiguration
import Testing

@testable import Verification

@Suite("Receipt lines")
struct ReceiptLineTests {
    /// What came of a line, as text.
    private func read(_ line: String) throws -> String {
        let reader = try ReceiptLine(lineBytesMax: 4_096)
        let bytes = Array(line.utf8)
        var found = ""
        reader.read(bytes.span) { receipt in
            let data = String(
                decoding: receipt.data.indices.map { receipt.data[$0] }, as: UTF8.self)
            switch receipt.kind {
            case .event: found = "\(receipt.id) \(data)"
            case .gap(let from, let to): found = "gap \(from) \(to)"
            case .unreadable(let why): found = "unreadable: \(why)"
            }
            if let place = receipt.place { found += " \(place)" }
        }
        return found + (reader.client.map { " of \($0)" } ?? "")
    }

    @Test("lines as tail writes them, with what others add")
    func lines() throws {
        #expect(
            try read(#"{"id":"5-6","event":"x","data":{"a":[1,{"b":"}\""}]},"received_ms":7}"#)
                == #"5-6 {"a":[1,{"b":"}\""}]}"#)
        #expect(
            try read(
                #" {"client": 12, "data" : 5 , "id":"1-2","topic":"t","partition":3,"offset":9}"#)
                == "1-2 5 t[3]@9 of 12")
        #expect(try read(#"{"client":"c","id":"1-2","data":"{\"a\":1}"}"#) == #"1-2 {"a":1} of c"#)
        #expect(
            try read(
                #"{"id":"9-9","event":"gap","data":{"from":"1-1","to":"9-9","reason":"slow"}}"#)
                == "gap 1-1 9-9")
    }

    @Test("what is no receipt says so")
    func unreadable() throws {
        #expect(try read("nothing") == "unreadable: no JSON object")
        #expect(try read(#"{"data":{}}"#) == "unreadable: no ID")
        #expect(try read(#"{"id":"x","data":{}}"#) == "unreadable: \"x\" is no event ID")
        #expect(try read(#"{"id":"1-2"}"#) == "unreadable: 1-2 has no data")
        #expect(try read(#"{"id":"1-2","event":"gap","data":{}}"#).hasPrefix("unreadable: a gap"))
    }

    @Test("white space between tokens makes no other event")
    func fingerprints() {
        var fingerprint = Fingerprint()
        func value(_ text: String) -> UInt64 { fingerprint.value(of: Array(text.utf8).span) }
        #expect(value(#"{"a": "b c", "d":1}"#) == value(#"{"a":"b c","d":1}"#))
        #expect(value(#"{"a":"b c"}"#) != value(#"{"a":"bc"}"#))
        #expect(value(#"{"a":"\" x"}"#) != value(#"{"a":"\"x"}"#))
    }
}

@Suite("Subscription rules")
struct SubscriptionRuleTests {
    private let channel = ChannelConfiguration(
        name: "detections", topics: ["its.detections"], event: .fixed("x"),
        filters: [
            FilterConfiguration(parameter: "camera_ids", fields: ["camera_id"]),
            FilterConfiguration(
                parameter: "min_confidence", fields: ["confidence", "scores"], operation: .atLeast),
        ])

    private func owes(
        _ parameters: [(name: String, value: String)], _ data: String,
        topic: String? = "its.detections"
    ) throws -> Bool {
        let rule = try SubscriptionRule(channel: channel, parameters: parameters)
        return rule.matches(topic: topic, data: Array(data.utf8).span)
    }

    @Test("topics and conditions all have to hold")
    func conditions() throws {
        #expect(try owes([], "{}"))
        #expect(try !owes([], "{}", topic: "other"))
        #expect(try owes([("camera_ids", "a,b")], #"{"camera_id":"b"}"#))
        #expect(try !owes([("camera_ids", "a,b")], #"{"camera_id":"c"}"#))
        #expect(try !owes([("camera_ids", "a")], "{}"))
        let both = [("camera_ids", "a"), ("min_confidence", "0.5")]
        #expect(try owes(both, #"{"camera_id":"a","scores":[0.1,0.7]}"#))
        #expect(try !owes(both, #"{"camera_id":"a","scores":[0.1,0.4]}"#))
    }

    @Test("filters and values that the channel does not have are refused")
    func refused() {
        #expect(throws: VerificationError.self) { try owes([("colour", "red")], "{}") }
        #expect(throws: VerificationError.self) { try owes([("min_confidence", "high")], "{}") }
    }
}
