// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import PosixIO

/// `rivulet status`: the whole cluster, as one of its nodes sees it.
enum StatusCommand {
    static let target = "/cluster"
    private static let defaultURL = "http://127.0.0.1:8080"
    private static let bodyBytesMax = 16 << 20

    static let specification = CommandSpecification(
        name: "status",
        summary: "show the cluster: nodes, who reads what, what moved",
        synopsis: ["status [URL] [--json] [--timeout TIME]"],
        details: [
            "Asks one node for /cluster; any node knows all of them. The URL is "
                + "\(defaultURL) by default. Exits 0 where every node is up and every partition is "
                + "read."
        ],
        operand: OperandSpecification(
            name: "URL", count: 0...1, help: "host:port or an http URL."),
        options: [
            OptionSpecification(
                "timeout", "TIME", default: "3s", "How long the answer may take (ms, s, m, h)."),
            OptionSpecification(flag: "json", letter: "j", "Print the answer as it came."),
        ],
        examples: [
            CommandExample(purpose: "look at the cluster", line: "rivulet status node-1:8080"),
            CommandExample(
                purpose: "who reads what",
                line: "rivulet status --json | jq '.partitions[] | [.topic, .partition, .owner]'"),
        ],
        exits: [
            (.success, "Every node is up and well, and every partition is read."),
            (
                .failure,
                "A node is unreachable or has trouble of its own, a partition is not read, or the view is old."
            ),
            (.usage, "The command line is wrong."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let given = try ServerURL.parse(arguments.operands.first ?? defaultURL)
        let url = given.isServerOnly ? given.with(target: target) : given
        let timeout =
            try arguments.duration("timeout", in: .milliseconds(1)...(.seconds(600)))
            ?? .seconds(3)
        let stop = try StopSignals(grace: .milliseconds(500))
        let deadline = MonotonicTime.now + timeout
        let exchange = try HTTPExchange(
            url, headers: HTTPHeaders(), stop: stop, deadline: deadline)
        var body = try exchange.readAll(limit: bodyBytesMax, until: deadline)
        guard exchange.head.status == 200 else {
            throw ProgramError(
                .refused, "\(url.text)\n\(ProblemReport.text(exchange.head, body: body))")
        }
        guard let document = JSONValue.parse(body), case .object = document else {
            throw ProgramError(.refused, "\(url.text) answered with no JSON object")
        }
        if arguments.has("json") {
            while body.last == UInt8(ascii: "\n") { body.removeLast() }
            StandardStream.print(PeerText.display(body.span, limit: bodyBytesMax))
        } else {
            for line in StatusReport.lines(document) { StandardStream.print(line) }
        }
        return StatusReport.isWell(document) ? .success : .failure
    }
}

/// What `/cluster` said, for people.
enum StatusReport {
    /// Moves of one rebalance that are listed one by one.
    private static let movesShown = 12
    private static let rebalancesShown = 5

    static func isWell(_ document: JSONValue) -> Bool {
        let nodes = document["nodes"]?.elements ?? []
        return document["stale"] == .bool(false) && document["lease"]?.text == "held"
            && !nodes.isEmpty
            && nodes.allSatisfy { $0["state"]?.text == "up" && troubles(of: $0).isEmpty }
            && (document["partitions"]?.elements ?? []).allSatisfy { $0["owner"]?.text != nil }
    }

    static func lines(_ document: JSONValue) -> [String] {
        var lines = ["as \(shown(document["node"])) sees it, its lease \(shown(document["lease"]))"]
        if let holder = document["held_by"]?.text {
            lines.append("another process holds its name: \(clean(holder))")
        }
        if document["stale"] == .bool(true) {
            lines.append("this is old: Redis does not answer (\(number(document["age_ms"])) ms)")
        }
        lines.append("")
        lines += nodes(document["nodes"]?.elements ?? [])
        for node in document["nodes"]?.elements ?? [] {
            let troubles = troubles(of: node)
            if troubles.isEmpty { continue }
            lines.append("\(shown(node["id"])): \(troubles.joined(separator: ", "))")
        }
        lines += limits(document["limits"])
        let unread = (document["partitions"]?.elements ?? []).filter { $0["owner"]?.text == nil }
        if !unread.isEmpty {
            lines += ["", "without an owner:"]
            for partition in unread {
                let reader = partition["reader"]?.text.map { "read by \(clean($0)) meanwhile" }
                lines.append(
                    "  \(name(partition)) \(reader ?? "since \(shown(partition["since"]))")")
            }
        }
        let rebalances = document["rebalances"]?.elements ?? []
        if !rebalances.isEmpty { lines += ["", "rebalances, newest first:"] }
        for rebalance in rebalances.prefix(rebalancesShown) { lines += moves(of: rebalance) }
        return lines
    }

    /// Breakers that are not closed, and components that do not run as they should.
    private static func troubles(of node: JSONValue) -> [String] {
        ["breakers": "breaker", "components": "component"].sorted { $0.key < $1.key }.flatMap {
            key, what -> [String] in
            guard case .object(let states)? = node[key] else { return [] }
            return states.map { "\(what) \(clean($0.name)) \(shown($0.value))" }
        }
    }

    private static func nodes(_ nodes: [JSONValue]) -> [String] {
        var rows = [
            ["NODE", "STATE", "ADDRESS", "CONNECTIONS", "PARTITIONS", "LAG", "IN/S", "OUT/S"]
        ]
        for node in nodes {
            rows.append([
                shown(node["id"]), shown(node["state"]), shown(node["address"]),
                "\(number(node["connections"]))/\(number(node["connections_limit"]))",
                "\(count(node["partitions"]))"
                    + (count(node["orphans"]) > 0 ? " +\(count(node["orphans"]))" : ""),
                number(node["lag"]), number(node["ingest_per_second"]),
                number(node["delivered_per_second"]),
            ])
        }
        return columns(rows)
    }

    /// What all nodes together may have, and have.
    private static func limits(_ value: JSONValue?) -> [String] {
        guard case .object(let limits)? = value, !limits.isEmpty else { return [] }
        return ["", "limits of the cluster:"]
            + limits.map { name, limit in
                let held = limit["held"].map { ", \(number($0)) in use" } ?? ""
                return "  \(clean(name)): \(number(limit["maximum"])), "
                    + "\(number(limit["leased"])) leased\(held)"
            }
    }

    private static func moves(of rebalance: JSONValue) -> [String] {
        let reasons = (rebalance["reasons"]?.elements ?? []).compactMap(\.text).map(clean)
        let moves = rebalance["moves"]?.elements ?? []
        let longest = moves.compactMap { Int(number($0["stood_still_ms"])) }.max() ?? 0
        var lines = [
            "  \(shown(rebalance["began"])) took \(number(rebalance["took_ms"])) ms: "
                + (reasons.isEmpty ? "the group reassigned" : reasons.joined(separator: ", "))
                + "; \(moves.count) moved, standing still for \(longest) ms at most"
        ]
        for move in moves.prefix(movesShown) {
            lines.append(
                "    \(name(move)) \(shown(move["from"])) -> \(shown(move["to"])), "
                    + "\(number(move["stood_still_ms"])) ms")
        }
        if moves.count > movesShown { lines.append("    and \(moves.count - movesShown) more") }
        return lines
    }

    private static func columns(_ rows: [[String]]) -> [String] {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { text, width in
                text + String(repeating: " ", count: width - text.count)
            }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }
    }

    /// How many partitions an object of topics and their lists holds.
    private static func count(_ value: JSONValue?) -> Int {
        guard case .object(let topics)? = value else { return 0 }
        return topics.reduce(0) { $0 + $1.value.elements.count }
    }

    private static func name(_ value: JSONValue) -> String {
        "\(shown(value["topic"]))[\(number(value["partition"]))]"
    }

    private static func shown(_ value: JSONValue?) -> String {
        guard let text = value?.text, !text.isEmpty else { return "-" }
        return clean(text)
    }

    private static func number(_ value: JSONValue?) -> String {
        guard case .number(let text)? = value else { return "-" }
        return clean(text)
    }

    /// What a peer says is shown without what a terminal would act on.
    private static func clean(_ text: String) -> String {
        let bytes = Array(text.utf8)
        return PeerText.display(bytes.span, limit: 512)
    }
}
