// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What `rivulet dev-kafka` was asked to do.
struct DevKafkaSettings: Sendable {
    let brokers: Int
    /// Of a topic that does not say.
    let partitions: Int
    let topics: [DevelopmentTopic]
    let bootstrapFile: String?
    let isQuiet: Bool
    let isControlled: Bool
    let controlSocket: String?

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        // As many as the mock can have; each listens on a port.
        brokers = try arguments.integer("brokers", in: 1...64) ?? 3
        let partitions =
            try arguments.integer("partitions", in: 1...DevelopmentTopic.partitionsMax) ?? 12
        self.partitions = partitions
        var topics: [DevelopmentTopic] = []
        for text in arguments.values("topic") {
            guard let topic = DevelopmentTopic.parse(text, partitions: partitions) else {
                throw arguments.refuse(
                    "--topic \"\(ArgumentParser.shown(text))\" is not accepted; write "
                        + DevelopmentTopic.accepted)
            }
            guard !topics.contains(where: { $0.name == topic.name }) else {
                throw arguments.refuse("--topic \(topic.name) is given twice")
            }
            topics.append(topic)
        }
        if arguments.has("channels") {
            let configuration = try ConfigurationFile.load(arguments)
            let more = DevelopmentTopic.topics(of: configuration, partitions: partitions)
            topics += more.filter { new in !topics.contains { $0.name == new.name } }
        } else if arguments.has("config") {
            throw arguments.refuse("--config says which topics --channels creates; add --channels")
        }
        guard topics.count <= DevelopmentTopic.topicsMax else {
            throw arguments.refuse(
                "\(topics.count) topics; at most \(DevelopmentTopic.topicsMax)")
        }
        self.topics = topics
        bootstrapFile = arguments.value("bootstrap-file")
        isQuiet = arguments.has("quiet")
        isControlled = arguments.has("control")
        controlSocket = arguments.value("control-socket")
    }
}

/// `rivulet dev-kafka`: a Kafka to develop against, without Kafka.
enum DevKafkaCommand {
    static let specification = CommandSpecification(
        name: "dev-kafka",
        summary: "run an embedded Kafka for development",
        synopsis: [
            "dev-kafka [--brokers N] [--topic NAME[:PARTITIONS]]... [--channels [--config FILE]] "
                + "[--bootstrap-file PATH] [--control] [--control-socket PATH] [--quiet]"
        ],
        details: [
            "Runs librdkafka's mock cluster in a process of its own: producers, consumer groups "
                + "and the usual tools work against it. It is for development and tests only. "
                + "Everything is in memory, a partition forgets beyond 5 MiB, there is no "
                + "authentication and no replication, and it listens on loopback only, on ports "
                + "of the system's choice.",
            "With --control it takes one command a line on standard input and answers each with "
                + "one line that begins with \"ok\" or \"error\": "
                + "\(BrokerControl.accepted). "
                + "It then also ends when its input does, so it never outlives a test.",
            "down closes a broker's connections and refuses new ones; its partitions keep it as "
                + "their leader, and leader moves one. rtt makes every answer of a broker take so "
                + "long; 0 ends that. error answers the next COUNT requests of a kind (1 by default) "
                + "with a failure, whichever client they are from. REQUEST is one of "
                + "\(BrokerControl.requests.joined(separator: ", ")); FAILURE one of "
                + "\(BrokerControl.failures.joined(separator: ", ")). fencedInstance, as an answer to "
                + "heartbeat, is fatal to the consumer that gets it.",
            "With --control-socket the same commands are taken at a Unix-domain socket, from any "
                + "process and at any time; quit then ends nothing: "
                + "echo 'down all' | socat - UNIX-CONNECT:kafka.sock",
        ],
        options: [
            OptionSpecification("brokers", "N", default: "3", "How many brokers, 1 to 64."),
            OptionSpecification(
                "topic", letter: "t", "NAME[:PARTITIONS]", repeats: true, "Create this topic."),
            OptionSpecification(
                "partitions", "N", default: "12", "Partitions of a topic that does not say."),
            OptionSpecification(
                flag: "channels",
                "Create all topics of the configuration, telemetry and dead letters included."),
            KafkaOptions.configuration,
            OptionSpecification(
                "bootstrap-file", "PATH",
                "Write the bootstrap servers there when ready, whole or not at all; removed at "
                    + "the end."),
            OptionSpecification(flag: "control", "Take commands on standard input."),
            OptionSpecification(
                "control-socket", "PATH", "Take commands at this Unix-domain socket too."),
            OptionSpecification(
                flag: "quiet", letter: "q", "Print the bootstrap servers and nothing else."),
        ],
        examples: [
            CommandExample(
                purpose: "the topics of the built-in channels, for a node on this machine",
                line: "rivulet dev-kafka --channels --bootstrap-file kafka.addr"),
            CommandExample(
                purpose: "one broker, two topics, and kcat to look at them",
                line: "rivulet dev-kafka --brokers 1 -t orders:3 -t payments"),
        ],
        exits: [
            (.success, "Ended by SIGINT, SIGTERM, quit, or the end of its commands."),
            (.usage, "The command line is wrong."),
            (.unavailable, "The mock cluster could not be started."),
            (.cannotCreate, "The bootstrap file cannot be written."),
            (.configuration, "The configuration is wrong."),
        ])

    static func run(_ arguments: ParsedArguments) throws(ProgramError) -> ExitStatus {
        let settings = try DevKafkaSettings(arguments)
        let stop = try StopSignals(grace: .seconds(5))
        return try DevelopmentBroker(settings, stop: stop).run()
    }
}
