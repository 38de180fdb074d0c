// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import PosixIO

/// `rivulet health`: is a node ready?
enum HealthCommand {
    /// The path of the check where the URL names none.
    static let target = "/readyz"
    private static let bodyBytesMax = 64 * 1024

    static let specification = CommandSpecification(
        name: "health",
        summary: "ask a node whether it is ready, for scripts and containers",
        synopsis: ["health URL [--timeout TIME]"],
        details: [
            "Asks for /readyz, or for the path of the URL if it has one, prints the answer, and "
                + "exits 0 where its status is 2xx."
        ],
        operand: OperandSpecification(
            name: "URL", count: 1...1, help: "host:port or an http URL."),
        options: [
            OptionSpecification(
                "timeout", "TIME", default: "3s", "How long the answer may take (ms, s, m, h)."),
            OptionSpecification(flag: "quiet", letter: "q", "Print nothing where it is ready."),
        ],
        examples: [
            CommandExample(
                purpose: "in a container", line: "HEALTHCHECK CMD rivulet health 127.0.0.1:8080"),
            CommandExample(
                purpose: "wait for a node",
                line: "until rivulet health -q localhost:8080; do sleep 1; done"),
        ],
        exits: [
            (.success, "Ready."),
            (.failure, "Not ready, or not there."),
            (.usage, "The command line is wrong."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let given = try ServerURL.parse(arguments.operands[0])
        let url = given.isServerOnly ? given.with(target: target) : given
        let timeout =
            try arguments.duration("timeout", in: .milliseconds(1)...(.seconds(600)))
            ?? .seconds(3)
        let stop = try StopSignals(grace: .milliseconds(500))
        let deadline = MonotonicTime.now + timeout
        let exchange: HTTPExchange
        let body: [UInt8]
        do throws(ProgramError) {
            exchange = try HTTPExchange(
                url, headers: HTTPHeaders(), stop: stop, deadline: deadline)
            body = try exchange.readAll(limit: bodyBytesMax, until: deadline)
        } catch {
            if stop.isStopped { throw error }
            // For whoever asks, a node that is not there is a node that is not ready.
            throw ProgramError(.refused, "\(url.text): \(error.detail)")
        }
        guard (200...299).contains(exchange.head.status) else {
            throw ProgramError(
                .refused, "\(url.text)\n\(ProblemReport.text(exchange.head, body: body))")
        }
        if !arguments.has("quiet") {
            var shown = body
            while shown.last == UInt8(ascii: "\n") { shown.removeLast() }
            let text = PeerText.display(shown.span, limit: bodyBytesMax)
            StandardStream.print(text.isEmpty ? ProblemReport.status(exchange.head) : text)
        }
        return .success
    }
}
