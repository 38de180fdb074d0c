// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire
import KafkaClient
import NodeConfiguration
import Verification

/// What `rivulet verify` was asked to do.
struct VerifySettings {
    let receipts: [String]
    /// Files with one event a line; without any, the truth is in Kafka.
    let published: [String]
    /// Topics to read the truth from.
    let topics: [String]
    let rule: SubscriptionRule
    let owed: OwedSpan
    let visibleTopics: Set<String>?
    let eventsMax: Int
    let examplesMax: Int
    let timeout: Duration
    let isJSON: Bool
    let kafka: KafkaSettings

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        let configuration = try ConfigurationFile.load(arguments)
        receipts = arguments.operands
        published = arguments.values("published")
        guard (receipts + published).filter({ $0 == "-" }).count <= 1 else {
            throw arguments.refuse("standard input can be read once only")
        }
        rule = try Self.rule(arguments, configuration)
        var topics = arguments.values("topic")
        topics += rule.topics?.sorted().filter { !topics.contains($0) } ?? []
        guard published.isEmpty || arguments.values("topic").isEmpty else {
            throw arguments.refuse("--published and --topic exclude each other; give one")
        }
        guard !published.isEmpty || !topics.isEmpty else {
            throw arguments.refuse(
                "what is the truth? give --subscription, --topic or --published")
        }
        self.topics = topics
        owed = try Self.owed(arguments, hasLog: !published.isEmpty)
        visibleTopics = arguments.value("may-see").map {
            Set($0.split(separator: ",").map(String.init))
        }
        guard visibleTopics == nil || published.isEmpty else {
            throw arguments.refuse(
                "--may-see needs the topics of Kafka, so --published excludes it")
        }
        eventsMax =
            try arguments.integer("events-max", in: 1...Int(Int32.max)) ?? 20_000_000
        examplesMax = try arguments.integer("examples", in: 0...1_000) ?? 5
        timeout =
            try arguments.duration("timeout", in: .seconds(1)...(.seconds(3_600)))
            ?? .seconds(30)
        isJSON = arguments.has("json")
        kafka = try KafkaOptions.settings(arguments, configuration, clientID: "rivulet-verify")
    }

    private static func owed(_ arguments: ParsedArguments, hasLog: Bool)
        throws(ProgramError) -> OwedSpan
    {
        guard let text = arguments.value("owed") else { return hasLog ? .all : .afterFirst }
        guard let span = OwedSpan(rawValue: text) else {
            let accepted = OwedSpan.allCases.map(\.rawValue).joined(separator: ", ")
            throw arguments.refusal("owed", accepted: "accepted: \(accepted)")
        }
        return span
    }

    private static func rule(_ arguments: ParsedArguments, _ configuration: Configuration)
        throws(ProgramError) -> SubscriptionRule
    {
        guard let text = arguments.value("subscription") else { return SubscriptionRule() }
        let mark = text.firstIndex(of: "?")
        let name = String(text[..<(mark ?? text.endIndex)])
        guard let channel = configuration.channels.first(where: { $0.name == name }) else {
            let names = configuration.channels.map(\.name)
            throw arguments.refusal(
                "subscription", accepted: "channels: " + Tabulation.list(names, limit: 100))
        }
        let query = mark.map { String(text[text.index(after: $0)...]) } ?? ""
        let parameters: QueryParameters
        do { parameters = try QueryParameters(query) } catch {
            throw arguments.refusal("subscription", accepted: error.detail)
        }
        do {
            return try SubscriptionRule(
                channel: channel, parameters: parameters.list.map { ($0.name, $0.value) })
        } catch { throw arguments.refusal("subscription", accepted: error.detail) }
    }
}
