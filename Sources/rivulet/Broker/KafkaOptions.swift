// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import NodeConfiguration
import Observability

/// Where the commands that need Kafka find it.
enum KafkaOptions {
    static let bootstrapServers = OptionSpecification(
        "bootstrap-servers", letter: "b", "LIST",
        default: "$KAFKA_BOOTSTRAP_SERVERS, else the configuration's, 127.0.0.1:9092",
        "Kafka brokers as host:port, separated by commas; some are enough.")

    static let configuration = OptionSpecification(
        "config", letter: "c", "FILE", default: "$RIVULET_CONFIG, else built-in channels",
        "The nodes' configuration file, for its channels and brokers.")

    /// How long to wait for the first answer of a broker, where the command has no option for it.
    static let connectTimeout: Duration = .seconds(4)

    /// The brokers by the option, else by a variable, else by the configuration.
    static func settings(
        _ arguments: ParsedArguments, _ configuration: Configuration, clientID: String
    ) throws(ProgramError) -> KafkaSettings {
        var settings = KafkaSettings(
            bootstrapServers: configuration.kafka.bootstrapServers, clientID: clientID,
            properties: configuration.kafka.properties)
        if let list = arguments.value(bootstrapServers.name) {
            settings.bootstrapServers = try servers(
                list, from: "--bootstrap-servers", arguments)
        } else if let list = Environment.value(commonVariable), !list.isEmpty {
            // Rivulet's own variable says more than the common one, the file says less.
            let origin = configuration.origin(of: "kafka.bootstrap_servers")
            if case .environment = origin?.source { return settings }
            settings.bootstrapServers = try servers(list, from: commonVariable, arguments)
        }
        return settings
    }

    private static let commonVariable = "KAFKA_BOOTSTRAP_SERVERS"

    /// Splits a list and checks that each entry is `host:port`.
    static func servers(_ list: String, from source: String, _ arguments: ParsedArguments)
        throws(ProgramError) -> [String]
    {
        var servers: [String] = []
        for entry in list.split(separator: ",", omittingEmptySubsequences: false) {
            let server = String(entry.drop { $0 == " " })
            let colon = server.lastIndex(of: ":")
            let port = colon.flatMap { UInt16(server[server.index(after: $0)...]) }
            guard let colon, colon > server.startIndex, let port, port > 0 else {
                throw arguments.refuse(
                    "\(source): \"\(ArgumentParser.shown(server))\" is no address; "
                        + "write host:port, and commas between several")
            }
            servers.append(server)
        }
        return servers
    }

    /// librdkafka's own lines say again, and at length, what the commands report themselves.
    static let log = Logger("kafka", lowest: .error)

    /// What a failed question to Kafka means for the command.
    static func failure(_ error: KafkaError) -> ProgramError {
        switch error.code {
        case .brokersUnavailable, .timedOut: ProgramError(.unavailable, error.detail)
        case .configurationInvalid: ProgramError(.configurationInvalid, error.detail)
        default: ProgramError(.refused, error.description)
        }
    }

    /// Why a topic cannot be written to, with the topics that may have been meant.
    static func unknownTopic(_ topic: String, among topics: [KafkaTopic], hint: String)
        -> ProgramError
    {
        let names = topics.map(\.name).filter { !$0.hasPrefix("__") }.sorted()
        let similar = NearMiss.similar(to: topic, among: names, limit: 5)
        var text = "topic \"\(ArgumentParser.shown(topic))\" does not exist"
        if !similar.isEmpty {
            text += "; similar: \(similar.joined(separator: ", "))"
        } else if names.isEmpty {
            text += "; the cluster has no topics"
        } else {
            text += "; the cluster has: \(Tabulation.list(names))"
        }
        return ProgramError(.refused, text + "\n" + hint)
    }
}
