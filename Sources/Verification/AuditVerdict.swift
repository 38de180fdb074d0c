// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire

/// Whether clients got what they were owed: every event, once, in order, and no other.
package struct AuditVerdict: Sendable {
    /// Events in the truth.
    package let events: Int
    /// Those of them that the subscription asks for.
    package let owedEvents: Int
    /// Owed events that no client received. Whether one was owed it is judged client by client.
    package let unseen: Int
    package let span: OwedSpan
    package let clients: [ClientRecord]
    /// Owed events that a client lacks and was told of, in the order of ``clients``.
    package let toldLosses: [Int]
    /// Events whose ID is below that of an earlier offset of their partition.
    package let partitionDisorder: OffenceTally
    /// Whether anybody said what the clients may see; if not, nothing is known of
    /// ``Offence/unauthorised``.
    package let judgesAuthority: Bool
    package let isTruthTruncated: Bool

    package func total(_ offence: Offence) -> Int {
        clients.reduce(0) { $0 + $1.count(offence) }
    }

    package var received: Int { clients.reduce(0) { $0 + $1.received } }
    package var gapsTold: Int { clients.reduce(0) { $0 + $1.gapsTold } }
    package var unjudged: Int { clients.reduce(0) { $0 + $1.unjudged } }
    package var toldLost: Int { toldLosses.reduce(0, +) }

    /// Nothing is wrong. What a client was told that it lacks is not wrong by this.
    package var isClean: Bool {
        partitionDisorder.count == 0 && Offence.allCases.allSatisfy { total($0) == 0 }
    }

    /// For programs.
    package var json: [UInt8] {
        var text = JSONText(reserving: 4_096)
        text.object {
            $0.field("verdict", isClean ? "clean" : "offences")
            $0.field("owed", span.rawValue)
            $0.field("truth_events", events)
            $0.field("owed_events", owedEvents)
            $0.field("received_by_nobody", unseen)
            $0.field("truth_truncated", isTruthTruncated)
            $0.field("received", received)
            $0.field("gaps_told", gapsTold)
            $0.field("told_lost", toldLost)
            $0.field("unjudged", unjudged)
            for offence in Offence.allCases {
                $0.field(offence.rawValue, figure(offence, total(offence)))
            }
            $0.field("partition_disorder", partitionDisorder.count)
            $0.array("partition_disorder_first", partitionDisorder.first)
            $0.array("clients") { list in
                for (client, told) in zip(clients, toldLosses) {
                    list.object { append(client, told, to: &$0) }
                }
            }
        }
        return text.bytes
    }

    /// `nil` where nothing is known.
    private func figure(_ offence: Offence, _ count: Int) -> Int? {
        offence == .unauthorised && !judgesAuthority ? nil : count
    }

    private func append(_ client: ClientRecord, _ told: Int, to text: inout JSONText) {
        text.field("client", client.name)
        text.field("received", client.received)
        text.field("first_id", client.first?.description)
        text.field("last_id", client.last?.description)
        text.field("gaps_told", client.gapsTold)
        text.field("told_lost", told)
        text.field("unjudged", client.unjudged)
        for offence in Offence.allCases {
            text.field(offence.rawValue, figure(offence, client.count(offence)))
        }
        text.object("first") { examples in
            for offence in Offence.allCases {
                guard let tally = client.offences[offence] else { continue }
                examples.array(offence.rawValue, tally.first)
            }
        }
    }
}
