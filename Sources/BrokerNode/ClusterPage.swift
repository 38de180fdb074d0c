// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Coordination
import KafkaClient
import PosixIO

/// `GET /cluster`: all nodes, who reads which partition, and the rebalances of late, as the node
/// that is asked sees them.
enum ClusterPage {
    /// This node's own standing in one word.
    static func word(_ view: ClusterView) -> String {
        switch view.standing {
        case .joining: "joining"
        case .refused: "refused"
        case .member: view.isStale ? "stale" : "held"
        }
    }

    static func write(_ text: inout JSONText, _ view: ClusterView) {
        text.object { text in
            text.field("node", view.nodeID)
            text.field("lease", word(view))
            if case .refused(let holder) = view.standing { text.field("held_by", holder) }
            text.field("stale", view.isStale)
            text.field(
                "age_ms", view.taken.map { Int((MonotonicTime.now - $0).wholeMilliseconds) })
            limits(&text, view.limits)
            nodes(&text, view)
            partitions(&text, view)
            rebalances(&text, view.rebalances)
        }
    }

    /// What all nodes together may have; nothing where nothing is limited.
    private static func limits(_ text: inout JSONText, _ limits: [ClusterLimit]) {
        text.object("limits") { text in
            for limit in limits {
                text.object(name(of: limit.name.unit)) { text in
                    switch limit.name.unit {
                    case .connections:
                        text.field("maximum", limit.maximum)
                        text.field("leased", limit.all.leased)
                        text.field("held", limit.all.held)
                    case .eventRate:
                        text.field("maximum", limit.maximum / 1000)
                        text.field("leased", Double(limit.all.leased) / 1000)
                    }
                }
            }
        }
    }

    private static func name(of unit: BudgetName.Unit) -> String {
        switch unit {
        case .connections: "connections"
        case .eventRate: "events_per_second"
        }
    }

    private static func shares(_ text: inout JSONText, _ shares: [String: BudgetShare]) {
        text.object("shares") { text in
            for unit in BudgetName.Unit.allCases {
                guard let share = shares[unit.rawValue] else { continue }
                text.object(name(of: unit)) { text in
                    switch unit {
                    case .connections:
                        text.field("leased", share.leased)
                        text.field("held", share.held)
                    case .eventRate: text.field("leased", Double(share.leased) / 1000)
                    }
                }
            }
        }
    }

    private static func nodes(_ text: inout JSONText, _ view: ClusterView) {
        text.array("nodes") { text in
            for member in view.visible {
                let report = member.report
                text.object { text in
                    text.field("id", member.id)
                    text.field("incarnation", member.incarnation)
                    text.field("state", member.stateWord)
                    text.field("address", report.address)
                    text.field("version", report.version)
                    text.field("started", WallClock.text(milliseconds: report.started))
                    text.field("connections", report.connections)
                    text.field("connections_limit", report.connectionsMax)
                    text.field("lag", report.lag)
                    text.field("ingest_per_second", report.ingestRate)
                    text.field("delivered_per_second", report.deliveryRate)
                    if let age = report.canaryAge {
                        text.field("canary_age_ms", Int(age.wholeMilliseconds))
                    }
                    if let progress = report.drain { drain(&text, progress) }
                    shares(&text, report.shares)
                    states(&text, "breakers", report.breakers)
                    states(&text, "components", report.components)
                    reads(&text, "partitions", report.partitions)
                    reads(&text, "orphans", report.orphans)
                }
            }
        }
    }

    private static func drain(_ text: inout JSONText, _ progress: DrainProgress) {
        text.object("drain") { text in
            text.field("phase", progress.phase.rawValue)
            text.field("clients_left", progress.left)
            text.field("clients_sent_away", progress.sentAway)
            text.field("until", WallClock.text(milliseconds: progress.until))
            text.field("others", progress.others)
            text.field("held_back", progress.isHeldBack)
        }
    }

    /// What is not as it should be; mostly nothing.
    private static func states(
        _ text: inout JSONText, _ name: String, _ states: [String: String]
    ) {
        text.object(name) { text in
            for (key, state) in states.sorted(by: { $0.key < $1.key }) { text.field(key, state) }
        }
    }

    /// A topic's partitions in one list: a few topics and many partitions are the rule.
    private static func reads(
        _ text: inout JSONText, _ name: String, _ partitions: [TopicPartition]
    ) {
        let byTopic = Dictionary(grouping: partitions, by: \.topic)
        text.object(name) { text in
            for topic in byTopic.keys.sorted() {
                text.array(topic, (byTopic[topic] ?? []).map { Int($0.partition) }.sorted())
            }
        }
    }

    private static func partitions(_ text: inout JSONText, _ view: ClusterView) {
        let owners = view.owners
        text.array("partitions") { text in
            for (partition, reader) in view.readers.sorted(by: { $0.key < $1.key }) {
                text.object { text in
                    text.field("topic", partition.topic)
                    text.field("partition", Int(partition.partition))
                    text.field("owner", owners[partition])
                    if owners[partition] == nil { text.field("reader", reader) }
                }
            }
            for (partition, since) in view.unowned.sorted(by: { $0.key < $1.key }) {
                text.object { text in
                    text.field("topic", partition.topic)
                    text.field("partition", Int(partition.partition))
                    text.field("owner", String?.none)
                    text.field("since", WallClock.text(milliseconds: since))
                }
            }
        }
    }

    private static func rebalances(_ text: inout JSONText, _ rebalances: [Rebalance]) {
        text.array("rebalances") { text in
            for rebalance in rebalances {
                text.object { text in
                    text.field("began", WallClock.text(milliseconds: rebalance.began))
                    text.field("took_ms", rebalance.ended - min(rebalance.ended, rebalance.began))
                    text.array("reasons", rebalance.reasons)
                    text.array("moves") { text in
                        for move in rebalance.moves {
                            text.object { text in
                                text.field("topic", move.partition.topic)
                                text.field("partition", Int(move.partition.partition))
                                text.field("from", move.from)
                                text.field("to", move.to)
                                text.field("stood_still_ms", move.stoodStill)
                            }
                        }
                    }
                    if rebalance.movesLeftOut > 0 {
                        text.field("moves_left_out", rebalance.movesLeftOut)
                    }
                }
            }
        }
    }
}
