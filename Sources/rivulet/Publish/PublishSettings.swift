// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import KafkaClient
import NodeConfiguration

/// What `rivulet publish` was asked to do.
struct PublishSettings: Sendable {
    enum Key: Sendable, Equatable {
        case none
        /// The same for each event.
        case fixed([UInt8])
        /// The value of this field of the event.
        case field(String)
    }

    /// As brokers accept by default, and as a node takes.
    static let eventBytesDefault = 1 << 20
    static let eventBytesMax = JSONFieldLimits.eventBytes
    static let headersMax = 64

    let topic: String
    let key: Key
    let headers: [(name: String, value: [UInt8])]
    /// `nil` lets the key decide.
    let partition: Int32?
    /// Events per second; `nil` is as fast as possible.
    let rate: Double?
    let validates: Bool
    let eventBytesMax: Int
    let createsTopic: Bool
    let deliveryTimeout: Duration
    /// `-` is standard input.
    let files: [String]
    let kafka: KafkaSettings

    init(_ arguments: ParsedArguments) throws(ProgramError) {
        let configuration = try ConfigurationFile.load(arguments)
        topic = try Self.topic(arguments, configuration)
        key = try Self.key(arguments)
        headers = try Self.headers(arguments)
        let partition = try arguments.integer("partition", in: 0...Int(Int32.max))
        self.partition = partition.map { Int32($0) }
        rate = try arguments.rate("rate", in: 0.01...10_000_000)
        validates = !arguments.has("no-validate")
        if !validates, case .field = key {
            throw arguments.refuse("--key-field reads the event, so --no-validate excludes it")
        }
        eventBytesMax =
            try arguments.integer("max-bytes", in: 1...Self.eventBytesMax)
            ?? Self.eventBytesDefault
        createsTopic = arguments.has("create")
        deliveryTimeout =
            try arguments.duration("delivery-timeout", in: .seconds(1)...(.seconds(600)))
            ?? .seconds(30)
        files = arguments.operands.isEmpty ? ["-"] : arguments.operands
        kafka = try KafkaOptions.settings(
            arguments, configuration, clientID: "rivulet-publish")
    }

    private static func topic(_ arguments: ParsedArguments, _ configuration: Configuration)
        throws(ProgramError) -> String
    {
        switch (arguments.value("topic"), arguments.value("channel")) {
        case (let topic?, nil):
            guard !topic.isEmpty, topic.utf8.count <= 249 else {
                throw arguments.refusal("topic", accepted: "a topic's name has 1 to 249 letters")
            }
            return topic
        case (nil, let channel?):
            return try topic(ofChannel: channel, configuration, arguments)
        case (nil, nil):
            throw arguments.refuse("where to? give --topic TOPIC or --channel CHANNEL")
        default:
            throw arguments.refuse("--topic and --channel exclude each other; give one")
        }
    }

    private static func topic(
        ofChannel name: String, _ configuration: Configuration, _ arguments: ParsedArguments
    ) throws(ProgramError) -> String {
        guard let channel = configuration.channels.first(where: { $0.name == name }) else {
            let names = configuration.channels.map(\.name)
            var text = "unknown channel \"\(ArgumentParser.shown(name))\""
            if let near = NearMiss.closest(to: name, among: names) {
                text += "; did you mean \(near)?"
            }
            throw arguments.refuse(
                text + "\naccepted: " + Tabulation.list(names, limit: 100))
        }
        guard let topic = channel.topics.first, channel.topics.count == 1 else {
            throw arguments.refuse(
                "channel \"\(name)\" is fed by several topics; choose one with --topic: "
                    + Tabulation.list(channel.topics, limit: 100))
        }
        return topic
    }

    private static func key(_ arguments: ParsedArguments) throws(ProgramError) -> Key {
        switch (arguments.value("key"), arguments.value("key-field")) {
        case (nil, nil): return .none
        case (let key?, nil): return .fixed(Array(key.utf8))
        case (nil, let field?):
            do { _ = try JSONFieldPaths([field]) } catch {
                throw arguments.refusal("key-field", accepted: error.detail)
            }
            return .field(field)
        default: throw arguments.refuse("--key and --key-field exclude each other; give one")
        }
    }

    private static func headers(_ arguments: ParsedArguments)
        throws(ProgramError) -> [(name: String, value: [UInt8])]
    {
        let given = arguments.values("header")
        guard given.count <= headersMax else {
            throw arguments.refuse("\(given.count) headers; at most \(headersMax)")
        }
        var headers: [(name: String, value: [UInt8])] = []
        for text in given {
            guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
                throw arguments.refuse(
                    "--header \"\(ArgumentParser.shown(text))\" is not accepted; "
                        + "write name=value")
            }
            let value = Array(text[text.index(after: equals)...].utf8)
            headers.append((String(text[..<equals]), value))
        }
        return headers
    }
}
