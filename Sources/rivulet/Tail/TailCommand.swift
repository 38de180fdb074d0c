// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire
import PosixIO

/// `rivulet tail`: an event stream on the terminal.
enum TailCommand {
    static let specification = CommandSpecification(
        name: "tail",
        summary: "follow an event stream, or list a server's channels",
        synopsis: ["tail URL [options]", "tail HOST:PORT"],
        details: [
            "Prints each event on a line of its own: time, event name, ID, and the data without "
                + "its white space. When the connection is lost it says so on standard error, "
                + "waits as long as the server asked for, and goes on after the last event it "
                + "got. Where the server reports that events are missing, a GAP line says which.",
            "With --until the server ends the stream itself: an END line says so, and the program "
                + "ends. Times are those of RFC 3339, milliseconds since 1970, or durations such "
                + "as 90s, 15m, 1h30m or 2d: so long ago.",
            "With only a host and port it lists the server's channels.",
            "Colours are used on a terminal, unless NO_COLOR is set.",
        ],
        operand: OperandSpecification(
            name: "URL", count: 1...1, help: "An http URL; the http:// may be left out."),
        options: [
            OptionSpecification(
                flag: "json",
                "Print one JSON object a line: id, event, data, received_ms."),
            OptionSpecification(
                "from", "ID", default: "now",
                "Begin after this event ID, or after this time in milliseconds since 1970."),
            OptionSpecification(
                "since", "TIME", "Begin with the events since this time."),
            OptionSpecification(
                "history", "N", "Begin with the last N events that match, up to 10000."),
            OptionSpecification(
                "until", "TIME", "End before this time; it may lie in the future."),
            OptionSpecification(
                "speed", "N",
                "Play history N times as fast as it was, 0.1 to 1000, then what is new."),
            OptionSpecification(
                "count", letter: "n", "N", default: "no limit", "End after N events."),
            OptionSpecification(
                "timeout", "TIME", default: "no limit",
                "End after this long (ms, s, m, h); with --count that is a failure."),
            OptionSpecification(
                "idle-timeout", "TIME", default: "60s",
                "Reconnect when nothing at all, no heartbeat either, came for this long."),
            OptionSpecification(
                flag: "no-reconnect", "End when the connection does."),
            OptionSpecification(
                "header", letter: "H", "'NAME: VALUE'", repeats: true, "Send this header."),
        ],
        examples: [
            CommandExample(
                purpose: "what is there to follow",
                line: "rivulet tail localhost:8080"),
            CommandExample(
                purpose: "one camera's detections",
                line: "rivulet tail 'localhost:8080/api/v1/sse/detections?camera_ids=cam1'"),
            CommandExample(
                purpose: "the last twenty, then what is new",
                line: "rivulet tail --history 20 localhost:8080/api/v1/sse/cameras"),
            CommandExample(
                purpose: "five minutes in half a minute",
                line: "rivulet tail --since 10m --until 5m --speed 10 "
                    + "localhost:8080/api/v1/sse/cameras"),
            CommandExample(
                purpose: "ten events for a script, within five seconds",
                line: "rivulet tail --json -n 10 --timeout 5s "
                    + "localhost:8080/api/v1/sse/cameras | jq .data"),
        ],
        exits: [
            (
                .success,
                "The count was reached, the stream or the time was over, or the output was closed."
            ),
            (
                .failure,
                "The server refused, or fewer events came than --count asked for."
            ),
            (.usage, "The command line is wrong."),
            (.unavailable, "The server cannot be reached and --no-reconnect is set."),
            (.inputOutput, "The connection broke and --no-reconnect is set."),
            (.interrupted, "Interrupted."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try TailSettings(arguments)
        let stop = try StopSignals(grace: .seconds(2))
        if settings.url.isServerOnly { return try listChannels(settings, stop) }
        return try TailSession(settings, stop: stop).run()
    }

    private static func listChannels(_ settings: TailSettings, _ stop: StopSignals)
        throws(ProgramError) -> ExitStatus
    {
        let url = settings.url.with(target: ChannelListing.target)
        let deadline = MonotonicTime.now + (settings.timeout ?? .seconds(10))
        var headers = settings.headers
        headers.append("Accept", "application/json")
        let exchange = try HTTPExchange(url, headers: headers, stop: stop, deadline: deadline)
        let body = try exchange.readAll(limit: ChannelListing.bodyBytesMax, until: deadline)
        guard exchange.head.status == 200 else {
            throw ProgramError(
                .refused, "\(url.text)\n\(ProblemReport.text(exchange.head, body: body))")
        }
        if settings.isJSON {
            StandardStream.write(body.last == UInt8(ascii: "\n") ? body : body + [0x0a])
            return .success
        }
        let style = TerminalStyle.of(StandardStream.output)
        guard let document = JSONValue.parse(body),
            let lines = ChannelListing.lines(document, server: settings.url, style: style)
        else {
            throw ProgramError(.refused, "\(url.text) is no list of channels; try --json")
        }
        StandardStream.print(lines.joined(separator: "\n"))
        return .success
    }
}
