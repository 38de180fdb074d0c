// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The program: its commands, and which of them is called.
enum Program {
    static let version = "0.1.0"

    struct Command: Sendable {
        let specification: CommandSpecification
        let run: @Sendable (ParsedArguments) throws(ProgramError) -> ExitStatus
    }

    /// In the order of the overview, after `serve`, which reads its own arguments.
    static let commands: [Command] = [
        Command(specification: PublishCommand.specification, run: PublishCommand.run),
        Command(specification: TailCommand.specification, run: TailCommand.run),
        Command(specification: HealthCommand.specification, run: HealthCommand.run),
        Command(specification: DoctorCommand.specification, run: DoctorCommand.run),
        Command(specification: StatusCommand.specification, run: StatusCommand.run),
        Command(specification: VerifyCommand.specification, run: VerifyCommand.run),
        Command(specification: LoadCommand.specification, run: LoadCommand.run),
        Command(specification: FeedCommand.specification, run: FeedCommand.run),
        Command(specification: DevKafkaCommand.specification, run: DevKafkaCommand.run),
    ]

    private static let serveSummary = "run a node: serve events over HTTP"

    private static var names: [String] { ["serve"] + commands.map(\.specification.name) + ["help"] }

    /// Carries the arguments out, without the program's own name; returns the exit status.
    static func run(_ arguments: [String]) -> Int32 {
        StandardStream.ignoreBrokenPipes()
        guard let first = arguments.first else {
            StandardStream.write(Array(overview.utf8), to: StandardStream.error)
            return ExitStatus.usage.rawValue
        }
        let rest = Array(arguments.dropFirst())
        switch first {
        case "--version", "-V", "version": return show("rivulet \(version)\n")
        case "--help", "-h": return show(overview)
        case "help":
            guard let name = rest.first else { return show(overview) }
            return run([name, "--help"])
        case "serve": return runServe(arguments: rest)
        // A part of load that people have no use for.
        case LoadWorkerProcess.commandName: return LoadWorkerProgram.run()
        default: break
        }
        guard let command = commands.first(where: { $0.specification.name == first }) else {
            return report(unknown(first), as: "rivulet")
        }
        return run(command, rest)
    }

    private static func run(_ command: Command, _ arguments: [String]) -> Int32 {
        let specification = command.specification
        do throws(ProgramError) {
            let parsed = try ArgumentParser.parse(arguments, for: specification)
            if parsed.has("help") { return show(HelpText.command(specification)) }
            return try command.run(parsed).rawValue
        } catch {
            return report(error, as: specification.spelling)
        }
    }

    /// Says what went wrong; returns the exit status for it.
    static func report(_ error: ProgramError, as speaker: String) -> Int32 {
        StandardStream.say("\(speaker): \(error.detail)")
        return error.exitStatus.rawValue
    }

    private static func show(_ text: String) -> Int32 {
        StandardStream.write(Array(text.utf8))
        return ExitStatus.success.rawValue
    }

    private static func unknown(_ given: String) -> ProgramError {
        let kind = given.hasPrefix("-") ? "option" : "command"
        var text = "unknown \(kind) \"\(ArgumentParser.shown(given))\""
        let accepted = kind == "option" ? ["--help", "--version"] : names
        if let near = NearMiss.closest(to: given, among: accepted) {
            text += "; did you mean \(near)?"
        }
        return ProgramError(
            .usage, text + "\naccepted: \(accepted.joined(separator: ", "))\nsee: rivulet --help")
    }

    // MARK: - Help

    static var overview: String {
        var text = """
            rivulet: a clustered Server-Sent-Events broker in front of Kafka

            Usage:
              rivulet COMMAND [options]

            Commands:

            """
        text += HelpText.row("serve", serveSummary, column: 14)
        for command in commands {
            let specification = command.specification
            text += HelpText.row(specification.name, specification.summary, column: 14)
        }
        return text + """

            Options:
              --help, -h      show this help; rivulet COMMAND --help has more
              --version, -V   show the version

            Examples:
              # a development Kafka, a simulated town, a node, and a look at its stream
              rivulet dev-kafka --channels --bootstrap-file kafka.addr &
              export RIVULET_KAFKA_BOOTSTRAP_SERVERS=$(cat kafka.addr)
              rivulet feed &
              rivulet serve &
              rivulet tail http://127.0.0.1:8080/api/v1/sse/detections

              # publish an event of your own
              echo '{"camera_id":"cam1"}' | rivulet publish --topic its.detections

            Exit codes:
              0 done; 1 failed; 64 wrong command line; 66 no such input;
              69 a broker or server does not answer; 130 interrupted

            """
    }
}
