// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import Bytes
import Glibc
import KafkaClient
import NodeConfiguration
import PosixIO
import RedisClient

/// `rivulet doctor`: what will hurt?
enum DoctorCommand {
    static let specification = CommandSpecification(
        name: "doctor",
        summary: "look at the machine, Redis, Kafka and nodes for what will hurt",
        synopsis: ["doctor [--config FILE] [--node URL ...] [--json]"],
        details: [
            "Looks at this machine's limits, at the Redis and the Kafka of the nodes' "
                + "configuration, and at the nodes it is pointed at, and says what will hurt, why, "
                + "and what to do. It changes nothing. Run it where a node runs."
        ],
        options: [
            KafkaOptions.configuration, KafkaOptions.bootstrapServers,
            OptionSpecification(
                "node", letter: "n", "URL", repeats: true,
                "A node to ask whether it is ready, and for its clock."),
            OptionSpecification(
                "nodes", "COUNT", default: "as many as are named, else 1",
                "How many nodes the cluster has."),
            OptionSpecification(
                "balancer-timeout", "TIME", default: "60s",
                "After which silence the load balancer cuts a connection."),
            OptionSpecification(
                "timeout", "TIME", default: "5s", "How long each server may take to answer."),
            OptionSpecification(flag: "json", "Print a JSON object."),
            OptionSpecification(flag: "quiet", letter: "q", "Leave out what is as it should be."),
        ],
        examples: [
            CommandExample(
                purpose: "a node's machine, with the configuration it runs with",
                line: "rivulet doctor --config rivulet.yaml"),
            CommandExample(
                purpose: "a fleet behind a balancer that cuts after half a minute",
                line: "rivulet doctor -n node-1:8080 -n node-2:8080 --balancer-timeout 30s"),
        ],
        exits: [
            (.success, "Nothing that hurts; notes at most."),
            (.failure, "At least one warning or danger."),
            (.usage, "The command line is wrong."),
            (.configuration, "The configuration is not valid."),
        ])

    /// More nodes than anybody names on a command line.
    private static let nodesMax = 1000

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let configuration = try ConfigurationFile.load(arguments)
        let limit =
            try arguments.duration("timeout", in: .milliseconds(100)...(.seconds(60)))
            ?? .seconds(5)
        let balancer =
            try arguments.duration("balancer-timeout", in: .seconds(1)...(.seconds(86_400)))
            ?? ConfigurationRules.balancerTimeout
        var urls: [ServerURL] = []
        for text in arguments.values("node") { urls.append(try ServerURL.parse(text)) }
        let nodes = try arguments.integer("nodes", in: 1...nodesMax) ?? max(1, urls.count)
        let kafka = try KafkaOptions.settings(
            arguments, configuration, clientID: "rivulet-doctor")
        let stop = try StopSignals(grace: .milliseconds(500))

        var findings = ConfigurationRules.findings(configuration, balancerTimeout: balancer)
        findings += MachineRules.findings(MachineFacts.read(), configuration)
        findings += redis(configuration, within: limit)
        if stop.isStopped { throw stop.cutShort("interrupted") }
        findings += self.kafka(kafka, configuration, nodes: nodes, within: limit)
        for url in urls {
            if stop.isStopped { throw stop.cutShort("interrupted") }
            findings += node(url, stop: stop, within: limit)
        }
        show(findings, arguments)
        let worst = findings.map(\.severity).max() ?? .ok
        return worst >= .warning ? .failure : .success
    }

    // MARK: - Asking

    private static func redis(_ configuration: Configuration, within limit: Duration) -> [Finding] {
        do throws(RedisError) {
            let settings = try RedisSettings(configuration.redis, clientName: "rivulet-doctor")
            return RedisRules.findings(
                try RedisExamination.ask(settings, within: limit), configuration)
        } catch { return [RedisRules.unreachable(error.detail)] }
    }

    private static func kafka(
        _ settings: KafkaSettings, _ configuration: Configuration, nodes: Int,
        within limit: Duration
    ) -> [Finding] {
        do throws(KafkaError) {
            let facts = try KafkaFacts.ask(
                settings, topics: KafkaRules.names(configuration), within: limit)
            return KafkaRules.findings(facts, configuration, nodes: nodes)
        } catch { return [KafkaRules.unreachable(error.detail)] }
    }

    private static func node(_ url: ServerURL, stop: StopSignals, within limit: Duration)
        -> [Finding]
    {
        do throws(ProgramError) {
            return NodeRules.findings([try NodeFacts.ask(url, stop: stop, within: limit)])
        } catch { return [NodeRules.unreachable(url.text, error.detail)] }
    }

    // MARK: - Showing

    private static func show(_ findings: [Finding], _ arguments: ParsedArguments) {
        let shown = findings.filter { !arguments.has("quiet") || $0.severity > .ok }
        guard !arguments.has("json") else {
            StandardStream.print(json(shown))
            return
        }
        let text = report(shown, style: .of(STDOUT_FILENO))
        StandardStream.write(Array(text.utf8))
        StandardStream.print(summary(findings))
    }

    static func json(_ findings: [Finding]) -> String {
        var text = JSONText()
        text.object { text in
            text.array("findings") { text in
                for finding in findings {
                    text.object { text in
                        text.field("severity", finding.severity.rawValue)
                        text.field("subject", finding.subject.rawValue)
                        text.field("found", finding.found)
                        text.field("consequence", finding.consequence)
                        text.field("remedy", finding.remedy)
                    }
                }
            }
        }
        return text.text
    }

    /// The findings by subject, the worst first.
    static func report(_ findings: [Finding], style: TerminalStyle) -> String {
        var text = ""
        for subject in Finding.Subject.allCases {
            let here = findings.filter { $0.subject == subject }
            guard !here.isEmpty else { continue }
            text += style(.bold, subject.rawValue) + "\n"
            for severity in Finding.Severity.allCases.reversed() {
                for finding in here where finding.severity == severity {
                    text += lines(finding, style: style)
                }
            }
        }
        return text
    }

    private static let indent = 11

    private static func lines(_ finding: Finding, style: TerminalStyle) -> String {
        let word = finding.severity.rawValue
        let colour: TerminalStyle.Colour =
            switch finding.severity {
            case .ok: .green
            case .note: .cyan
            case .warning: .yellow
            case .danger: .alarm
            }
        let label = "  " + style(colour, word) + String(repeating: " ", count: 9 - word.count)
        var text = label + HelpText.wrapped(finding.found, indent: indent).dropFirst(indent)
        for line in [finding.consequence, finding.remedy.isEmpty ? "" : "-> " + finding.remedy]
        where !line.isEmpty {
            text += HelpText.wrapped(line, indent: indent)
        }
        return text
    }

    static func summary(_ findings: [Finding]) -> String {
        func count(_ severity: Finding.Severity, _ noun: String) -> String? {
            let count = findings.count { $0.severity == severity }
            return count == 0 ? nil : Tabulation.count(count, noun)
        }
        let parts = [count(.danger, "danger"), count(.warning, "warning"), count(.note, "note")]
            .compactMap { $0 }
        return parts.isEmpty ? "nothing that hurts" : parts.joined(separator: ", ")
    }
}
