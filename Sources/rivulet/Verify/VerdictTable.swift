// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Verification

/// A verdict for people: the sum, and the clients that have something to complain of.
enum VerdictTable {
    private static let clientsMax = 20

    static func text(_ verdict: AuditVerdict) -> String {
        var lines = [headline(verdict), ""]
        lines += table(verdict)
        let bad = verdict.clients.filter { !$0.offences.isEmpty }
        for client in bad.prefix(clientsMax) { lines += examples(client) }
        if bad.count > clientsMax {
            lines.append("\(bad.count - clientsMax) more clients have offences; see --json")
        }
        if verdict.partitionDisorder.count > 0 {
            lines.append(
                "IDs against the order of a partition, \(verdict.partitionDisorder.count): "
                    + verdict.partitionDisorder.first.joined(separator: ", "))
        }
        lines += notes(verdict)
        lines.append(verdict.isClean ? "verdict: clean" : "verdict: offences")
        return lines.joined(separator: "\n")
    }

    private static func headline(_ verdict: AuditVerdict) -> String {
        "\(Tabulation.count(verdict.events, "event")) published, "
            + "\(Tabulation.grouped(verdict.owedEvents)) asked for; "
            + "\(Tabulation.count(verdict.clients.count, "client")), "
            + "\(Tabulation.count(verdict.received, "receipt")); owed: \(verdict.span.rawValue)"
    }

    private static func table(_ verdict: AuditVerdict) -> [String] {
        let bad = verdict.clients.filter { !$0.offences.isEmpty }.count
        var lines = [row("", "events", "clients")]
        for offence in Offence.allCases {
            guard offence != .unauthorised || verdict.judgesAuthority else {
                lines.append(row(offence.words, "n/a", "n/a"))
                continue
            }
            let clients = verdict.clients.filter { $0.count(offence) > 0 }.count
            lines.append(
                row(
                    offence.words, Tabulation.grouped(verdict.total(offence)),
                    Tabulation.grouped(clients)))
        }
        let told = verdict.toldLosses.filter { $0 > 0 }.count
        lines.append(
            row("gap told", Tabulation.grouped(verdict.toldLost), Tabulation.grouped(told)))
        lines.append(row("any offence", "", Tabulation.grouped(bad)))
        return lines + [""]
    }

    private static func row(_ name: String, _ events: String, _ clients: String) -> String {
        func padded(_ text: String) -> String {
            String(repeating: " ", count: max(0, 12 - text.count)) + text
        }
        return name + String(repeating: " ", count: max(1, 18 - name.count)) + padded(events)
            + padded(clients)
    }

    private static func examples(_ client: ClientRecord) -> [String] {
        Offence.allCases.compactMap { offence in
            guard let tally = client.offences[offence] else { return nil }
            let rest = tally.count - tally.first.count
            return "\(ArgumentParser.shown(client.name)): \(offence.words) "
                + "\(Tabulation.grouped(tally.count)): " + tally.first.joined(separator: ", ")
                + (rest > 0 ? " and \(Tabulation.grouped(rest)) more" : "")
        }
    }

    private static func notes(_ verdict: AuditVerdict) -> [String] {
        var notes: [String] = []
        if verdict.unjudged > 0 {
            notes.append(
                "\(Tabulation.count(verdict.unjudged, "receipt")) from before the truth begins "
                    + "cannot be judged")
        }
        if verdict.isTruthTruncated {
            notes.append("Kafka had deleted the beginning of a topic before it was read")
        }
        if verdict.gapsTold > 0 {
            notes.append("clients were told of \(Tabulation.count(verdict.gapsTold, "gap"))")
        }
        return notes
    }
}
