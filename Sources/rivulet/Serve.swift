// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import CLinux
import Glibc
import NodeConfiguration
import Observability
import PosixIO

/// `rivulet serve`: runs a node until it is told to stop.
///
/// - Parameter arguments: What follows `serve`.
/// - Returns: The exit status of the process.
func runServe(arguments: [String]) -> Int32 {
    if arguments.contains("--help") || arguments.contains("-h") {
        StandardStream.write(Array(ServeCommand.help.utf8))
        return ExitStatus.success.rawValue
    }
    let checks = arguments.contains("--check-config")
    let prints = arguments.contains("--print-config")
    let settings = arguments.filter { $0 != "--check-config" && $0 != "--print-config" }
    do throws(ConfigurationErrors) {
        let configuration = try Configuration.load(
            file: nil, environment: Environment.all, arguments: settings)
        if prints {
            StandardStream.write(Array(configuration.effective.utf8))
            return ExitStatus.success.rawValue
        }
        if checks {
            StandardStream.print("the configuration is valid")
            return ExitStatus.success.rawValue
        }
        return ServeCommand.run(configuration)
    } catch {
        StandardStream.say("rivulet serve: the configuration is not valid")
        StandardStream.say(error.description)
        return ExitStatus.configuration.rawValue
    }
}

/// Runs one node in this process.
private enum ServeCommand {
    static func run(_ configuration: Configuration) -> Int32 {
        // Before any other thread exists: threads inherit which signals are blocked, so that all
        // of them wait for the loop below.
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for number in [SIGTERM, SIGINT, SIGHUP, drainSignal] { unsafe sigaddset(&signals, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)

        let log = Logger(
            "node", lowest: LogLevel(name: configuration.log.level.rawValue) ?? .info,
            format: Logger.Format(rawValue: configuration.log.format.rawValue) ?? .text)
        do throws(BrokerNodeError) {
            let node = try BrokerNode(configuration: configuration, log: log)
            node.whenAskedToStop { _ = kill(getpid(), drainSignal) }
            try node.start()
            waitForStop(&signals, node, log)
            // A second SIGINT or SIGTERM ends the process at once, whatever the drain waits for.
            let watch = signals
            _ = NamedThread("signals") { endAtNextSignal(watch) }
            node.stop()
            return ExitStatus.success.rawValue
        } catch {
            log.error("cannot start", LogField("error", error))
            return ExitStatus.failure.rawValue
        }
    }

    private static func waitForStop(
        _ signals: inout sigset_t, _ node: BrokerNode, _ log: Logger
    ) {
        while true {
            var number: CInt = 0
            guard unsafe sigwait(&signals, &number) == 0 else { continue }
            if number == SIGHUP {
                node.reload()
                continue
            }
            let cause =
                switch number {
                case SIGINT: "SIGINT"
                case SIGTERM: "SIGTERM"
                default: "request"
                }
            log.notice("stopping", LogField("cause", cause))
            return
        }
    }

    /// What a request to drain sends to this process: not SIGTERM, of which a second one ends it
    /// at once, so that request and signal may come together.
    private static let drainSignal = SIGUSR1

    private static func endAtNextSignal(_ signals: sigset_t) {
        var signals = signals
        var number: CInt = 0
        repeat {
            _ = unsafe sigwait(&signals, &number)
        } while number == SIGHUP || number == drainSignal
        _exit(128 + number)
    }

    static var help: String {
        var text = """
            rivulet serve: run a node

            Usage:
              rivulet serve [--config FILE] [--check-config | --print-config] [--KEY=VALUE ...]

            A node reads its share of the Kafka partitions into the shared history in Redis, follows
            the whole of it, and serves it over HTTP. Nodes with the same Kafka group and the same
            Redis prefix make one cluster. While Kafka or Redis cannot be reached the node waits,
            says so on /readyz, and goes on by itself.

            Options:
              --config FILE     YAML file; also RIVULET_CONFIG. Without one the defaults hold
              --check-config    say whether the configuration is valid, and exit
              --print-config    print the settings in effect and where each comes from, and exit
              --help, -h        show this help

            Every key can be given as a flag (--server.listen=127.0.0.1:8081), as an environment
            variable (RIVULET_SERVER_LISTEN), or in the file; the flag wins, then the environment.

            Keys:

            """
        for key in Configuration.keyReference {
            text += HelpText.row("--\(key.name)", key.reason, column: 32)
        }
        return text + """

            Examples:
              # one node with everything at its default
              rivulet serve

              # a second node beside it
              rivulet serve --server.listen=127.0.0.1:8081 --node.id=node-2

              # is this file right?
              rivulet serve --config rivulet.yaml --check-config

            Signals:
              SIGHUP            read the TLS certificate and its key again
              SIGTERM, SIGINT   drain: admit nobody, hand partitions over, send clients away over
                                server.drain, leave the cluster, exit 0
              a second one      end at once

            Exit codes:
              0 stopped as asked; 1 cannot start; 78 the configuration is not valid

            """
    }
}
