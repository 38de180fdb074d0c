// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import NodeConfiguration
import Observability
import PosixIO

/// What a Kafka cluster says of itself.
struct KafkaFacts: Sendable, Equatable {
    var libraryVersion = ""
    /// `0xMMmmrrpp`.
    var libraryNumber: Int32 = 0
    /// Topics that exist, with their partitions.
    var partitions: [String: Int] = [:]
    /// The settings of those that channels name; `nil` where the broker does not tell them, as
    /// the embedded development broker does not.
    var topicSettings: [String: [String: String]]?
    /// Why it does not.
    var settingsRefusal = ""

    /// Asks, and waits for the answers on the calling thread.
    static func ask(_ settings: KafkaSettings, topics: [String], within limit: Duration)
        throws(KafkaError) -> KafkaFacts
    {
        var facts = KafkaFacts()
        facts.libraryVersion = KafkaLibrary.version
        facts.libraryNumber = KafkaLibrary.versionNumber
        let reader = try KafkaReader(settings: settings, log: KafkaOptions.log)
        defer { reader.close(within: .seconds(2)) }
        let deadline = MonotonicTime.now + limit
        for topic in try reader.topics(within: limit) {
            facts.partitions[topic.name] = topic.partitionCount
        }
        let existing = topics.filter { facts.partitions[$0] != nil }
        do throws(KafkaError) {
            let left = max(.seconds(1), deadline - .now)
            facts.topicSettings = try reader.topicSettings(of: existing, within: left)
        } catch { facts.settingsRefusal = error.detail }
        return facts
    }
}

/// What a Kafka cluster's state means for a node with this configuration.
enum KafkaRules {
    static func findings(_ facts: KafkaFacts, _ configuration: Configuration, nodes: Int)
        -> [Finding]
    {
        [library(facts), session(configuration)] + topics(facts, configuration, nodes: nodes)
            + retention(facts, configuration)
    }

    static func unreachable(_ detail: String) -> Finding {
        Finding(
            .danger, .kafka, "Kafka cannot be asked: \(detail)",
            consequence: "no new events; everything else goes on",
            remedy: "start it, or correct kafka.bootstrap_servers and the security properties")
    }

    /// Faults that later versions do not have (librdkafka's CHANGELOG). Rivulet works around
    /// them, and a newer library is still better.
    private static func library(_ facts: KafkaFacts) -> Finding {
        let found = "librdkafka \(facts.libraryVersion)"
        guard facts.libraryNumber < 0x0206_01ff else { return Finding(.ok, .kafka, found) }
        return Finding(
            .note, .kafka, found,
            consequence: "before 2.6.1 its cooperative assignor may loop for ever, before 2.3 a "
                + "close before the first assignment crashes, before 2.10 a leader's move costs "
                + "half a second; Rivulet works around what it can",
            remedy: "a newer librdkafka1 where the distribution has one")
    }

    private static func session(_ configuration: Configuration) -> Finding {
        let session = configuration.kafka.sessionTimeout
        let drain = configuration.server.drain
        let found = "kafka.session_timeout is \(DurationText.short(session))"
        guard session > .seconds(20) else { return Finding(.ok, .kafka, found) }
        return Finding(
            .warning, .kafka, found,
            consequence: "that long the group leaves the partitions of a node that died to nobody "
                + "(a planned stop, \(DurationText.short(drain)), hands them over)",
            remedy: "6s to 10s, which is what brokers accept at least")
    }

    private static func topics(_ facts: KafkaFacts, _ configuration: Configuration, nodes: Int)
        -> [Finding]
    {
        var findings: [Finding] = []
        let wanted = names(configuration)
        let missing = wanted.filter { facts.partitions[$0] == nil }
        if !missing.isEmpty {
            findings.append(
                Finding(
                    .note, .kafka, "topics that do not exist: \(Tabulation.list(missing))",
                    consequence: "their channels are silent; they are read once they exist",
                    remedy: "create them, or take them out of channels"))
        }
        if facts.partitions[configuration.kafka.deadLetterTopic] == nil {
            findings.append(
                Finding(
                    .warning, .kafka,
                    "the dead-letter topic \(configuration.kafka.deadLetterTopic) does not exist",
                    consequence: "where brokers do not create topics by themselves, records that "
                        + "are no events are counted and logged, and lost",
                    remedy: "create it"))
        }
        let canary = configuration.canary
        if canary.enabled, facts.partitions[canary.topic] == nil {
            findings.append(
                Finding(
                    .warning, .kafka, "the canaries' topic \(canary.topic) does not exist",
                    consequence: "where brokers do not create topics by themselves, a node that "
                        + "alone receives nothing is not found out",
                    remedy: "create it with a few partitions, or set canary.enabled to false"))
        }
        let existing = wanted.compactMap { facts.partitions[$0] }
        let total = existing.reduce(0, +)
        findings.append(
            Finding(
                total < nodes ? .warning : .ok, .kafka,
                "\(Tabulation.count(existing.count, "topic")) of channels, "
                    + Tabulation.count(total, "partition"),
                consequence: total < nodes
                    ? "with \(nodes) nodes some read nothing (all of them serve everything)" : "",
                remedy: total < nodes ? "more partitions spread the reading" : ""))
        return findings
    }

    /// Kafka has to keep records for as long as the index points at them.
    private static func retention(_ facts: KafkaFacts, _ configuration: Configuration) -> [Finding]
    {
        guard let settings = facts.topicSettings else {
            return [
                Finding(
                    .note, .kafka, "topic settings cannot be read: \(facts.settingsRefusal)",
                    consequence: "retention could not be compared with the index",
                    remedy: "allow DescribeConfigs, or compare by hand")
            ]
        }
        let indexAge = configuration.history.indexAge.wholeMilliseconds
        var findings: [Finding] = []
        for (topic, values) in settings.sorted(by: { $0.key < $1.key }) {
            if let text = values["retention.ms"], let kept = Int64(text), kept >= 0,
                kept < indexAge
            {
                findings.append(
                    Finding(
                        .warning, .kafka,
                        "\(topic) keeps records for \(DurationText.short(.milliseconds(kept)))",
                        consequence: "history.index_age is "
                            + DurationText.short(configuration.history.indexAge)
                            + ": clients that come back later than Kafka keeps are told of a gap",
                        remedy: "raise retention.ms, or lower history.index_age"))
            }
            if values["cleanup.policy"]?.contains("compact") == true {
                findings.append(
                    Finding(
                        .note, .kafka, "\(topic) is compacted",
                        consequence: "old events that Kafka has removed are gaps in a long replay",
                        remedy: ""))
            }
            let largest = values["max.message.bytes"].flatMap { Int($0) } ?? 0
            if largest > configuration.limits.eventBytes {
                findings.append(
                    Finding(
                        .note, .kafka, "\(topic) takes records of \(Tabulation.bytes(largest))",
                        consequence: "what is larger than limits.event_bytes ("
                            + Tabulation.bytes(configuration.limits.eventBytes)
                            + ") becomes a dead letter",
                        remedy: "make the two agree"))
            }
        }
        if findings.isEmpty, !settings.isEmpty {
            findings.append(Finding(.ok, .kafka, "retention covers history.index_age"))
        }
        return findings
    }

    /// The topics that channels name, each once.
    static func names(_ configuration: Configuration) -> [String] {
        var seen: Set<String> = []
        return configuration.channels.flatMap(\.topics).filter { seen.insert($0).inserted }
    }
}
