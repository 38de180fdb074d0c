// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
package import JSONFields

/// What a client asks over its WebSocket.
enum ClientMessage: Equatable {
    case subscribe(name: String?, ChannelRequest, from: SpanRequest)
    case unsubscribe(name: String)
    /// Goes on with a subscription from another place.
    case resume(name: String, from: SpanRequest)
    case ping

    static let types = ["subscribe", "unsubscribe", "resume", "ping"]
}

/// Where in history a client wants to be, in its own words.
struct SpanRequest: Sendable, Equatable {
    var cursor: EventID?
    var parameters: [(name: String, value: String)] = []

    func span(now: UInt64) throws(SubscriptionError) -> StreamSpan {
        try StreamSpanParameters(parameters).span(after: cursor, now: now)
    }

    static func == (left: SpanRequest, right: SpanRequest) -> Bool {
        left.cursor == right.cursor
            && left.parameters.elementsEqual(right.parameters, by: { $0 == $1 })
    }
}

/// What a client wants to receive, in its own words.
package struct ChannelRequest: Sendable, Equatable {
    /// `nil` asks for any channels, chosen by the parameters of `GET /sse/events`.
    package var channel: String?
    package var filters: [(name: String, value: String)]

    package init(channel: String?, filters: [(name: String, value: String)]) {
        self.channel = channel
        self.filters = filters
    }

    package static func == (left: ChannelRequest, right: ChannelRequest) -> Bool {
        left.channel == right.channel && left.filters.map(\.name) == right.filters.map(\.name)
            && left.filters.map(\.value) == right.filters.map(\.value)
    }
}

extension ChannelDirectory {
    /// The subscription that `request` asks for.
    package func subscription(_ request: ChannelRequest) throws(SubscriptionError) -> Subscription {
        guard let name = request.channel else {
            return try subscription(toAny: request.filters)
        }
        guard let channel = channel(named: name) else {
            throw SubscriptionError(
                code: .unknownChannel, parameter: "channel", given: name,
                accepted: channels.map(\.name) + topicPatterns,
                detail: "no channel is named so, and no pattern matches a topic of that name")
        }
        return try subscription(to: channel, parameters: request.filters)
    }
}

/// Why a client's message is not done. The client is told; its socket stays.
struct ClientMessageError: Error, Equatable {
    enum Code: String, CaseIterable {
        case malformedMessage = "malformed_message"
        case unknownType = "unknown_type"
        case missingField = "missing_field"
        case invalidField = "invalid_field"
        case unknownChannel = "unknown_channel"
        case unknownParameter = "unknown_parameter"
        case invalidValue = "invalid_value"
        case malformedEventID = "malformed_event_id"
        case unknownSubscription = "unknown_subscription"
        case duplicateSubscription = "duplicate_subscription"
        case tooManySubscriptions = "too_many_subscriptions"
    }

    let code: Code
    let detail: String
    var parameter: String?
    var given: String?
    var accepted: [String] = []
    /// The subscription that the message was about, where it named one.
    var subscription: String?

    init(
        _ code: Code, _ detail: String, parameter: String? = nil, given: String? = nil,
        accepted: [String] = []
    ) {
        self.code = code
        self.detail = detail
        self.parameter = parameter
        self.given = given
        self.accepted = accepted
    }

    init(_ error: SubscriptionError) {
        let code: Code =
            switch error.code {
            case .unknownChannel: .unknownChannel
            case .unknownParameter: .unknownParameter
            case .invalidValue, .tooManyValues: .invalidValue
            }
        self.init(
            code, error.detail, parameter: error.parameter, given: error.given,
            accepted: error.accepted)
    }
}

/// Reads the JSON texts that clients send.
///
/// View: shard. Threads: its loop's; it holds a JSON parser that is used again.
package final class ClientMessageReader {
    private let members: JSONMemberReader

    package init() throws(JSONFieldsError) {
        members = try JSONMemberReader(
            documentBytesMax: WebSocketLimits.messageBytes,
            membersMax: WebSocketLimits.messageMembers)
    }

    /// - Throws: What is wrong, with the subscription that the message names.
    func read(_ text: [UInt8]) throws(ClientMessageError) -> ClientMessage {
        let found = try fields(of: text)
        do throws(ClientMessageError) {
            return try message(found)
        } catch {
            var error = error
            if case .text(let name)? = found.first(where: { $0.isTop("subscription") })?.value {
                error.subscription = name
            }
            throw error
        }
    }

    private func fields(of text: [UInt8]) throws(ClientMessageError) -> [JSONMember] {
        let (verdict, found, count) = members.read(text.span)
        switch verdict {
        case .object: break
        case .notAnObject:
            throw ClientMessageError(.malformedMessage, "a message is a JSON object")
        case .malformed(let reason, let offset):
            throw ClientMessageError(
                .malformedMessage,
                "the message \(reason.explanation)" + (offset.map { ", at byte \($0)" } ?? ""))
        case .tooLarge, .invalidUTF8:
            throw ClientMessageError(
                .malformedMessage,
                "a message is UTF-8 and has at most \(WebSocketLimits.messageBytes) bytes")
        }
        guard count <= WebSocketLimits.messageMembers else {
            throw ClientMessageError(
                .malformedMessage,
                "a message has at most \(WebSocketLimits.messageMembers) values, and this one "
                    + "has \(count)")
        }
        return found
    }

    private func message(_ found: [JSONMember]) throws(ClientMessageError) -> ClientMessage {
        guard let type = try text("type", in: found) else {
            throw ClientMessageError(
                .missingField, "a message says with \"type\" what it asks", parameter: "type",
                accepted: ClientMessage.types)
        }
        switch type {
        case "subscribe":
            try allow(
                ["type", "subscription", "channel", "filters", "last_event_id", "metadata"]
                    + StreamSpanParameters.names, in: found)
            let name = try text("subscription", in: found)
            if let name { try Self.check(name: name) }
            let request = ChannelRequest(
                channel: try text("channel", in: found),
                filters: try filters(in: found) + metadata(in: found))
            return .subscribe(name: name, request, from: try span(in: found))
        case "unsubscribe":
            try allow(["type", "subscription"], in: found)
            return .unsubscribe(name: try name(in: found))
        case "resume":
            try allow(
                ["type", "subscription", "last_event_id"] + StreamSpanParameters.names, in: found)
            let name = try name(in: found)
            let start = try span(in: found)
            let hasStart =
                start.cursor != nil
                || start.parameters.contains { ["since", "history"].contains($0.name) }
            guard hasStart else {
                throw ClientMessageError(
                    .missingField, "\"resume\" says from where", parameter: "last_event_id",
                    accepted: EventIDError.accepted + ["or one of since and history"])
            }
            return .resume(name: name, from: start)
        case "ping":
            try allow(["type"], in: found)
            return .ping
        default:
            throw ClientMessageError(
                .unknownType, "there is no such type of message", parameter: "type", given: type,
                accepted: ClientMessage.types)
        }
    }

    /// Refuses what nobody would read: a filter that is misspelt must not show a client what it
    /// asked not to see.
    private func allow(_ keys: [String], in found: [JSONMember]) throws(ClientMessageError) {
        for member in found where !keys.contains(member.group ?? member.key) {
            throw ClientMessageError(
                .invalidField, "this type of message has no such field",
                parameter: member.group ?? member.key, accepted: keys)
        }
        for member in found where (member.group ?? "filters") != "filters" {
            throw ClientMessageError(
                .invalidField, "this field is one text", parameter: member.group)
        }
    }

    private func text(_ key: String, in found: [JSONMember]) throws(ClientMessageError) -> String? {
        let given = found.filter { $0.isTop(key) }
        guard let first = given.first else { return nil }
        guard given.count == 1, case .text(let text) = first.value else {
            throw ClientMessageError(.invalidField, "this field is one text", parameter: key)
        }
        return text
    }

    /// What a query would say with `metadata=`.
    private func metadata(in found: [JSONMember]) throws(ClientMessageError)
        -> [(name: String, value: String)]
    {
        let given = found.filter { $0.isTop("metadata") }
        guard let first = given.first else { return [] }
        guard given.count == 1, case .bool(let flag) = first.value else {
            throw ClientMessageError(
                .invalidField, "this field is true or false", parameter: "metadata")
        }
        return [("metadata", flag ? "true" : "false")]
    }

    private func name(in found: [JSONMember]) throws(ClientMessageError) -> String {
        guard let name = try text("subscription", in: found) else {
            throw ClientMessageError(
                .missingField, "say which subscription", parameter: "subscription")
        }
        return name
    }

    private static func check(name: String) throws(ClientMessageError) {
        guard !name.isEmpty, name.utf8.count <= WebSocketLimits.subscriptionNameBytes else {
            throw ClientMessageError(
                .invalidField,
                "a subscription's name has 1 to \(WebSocketLimits.subscriptionNameBytes) bytes",
                parameter: "subscription", given: name)
        }
    }

    private func eventID(in found: [JSONMember]) throws(ClientMessageError) -> EventID? {
        guard let text = try text("last_event_id", in: found), !text.isEmpty else { return nil }
        do throws(EventIDError) {
            return try EventID.parse(text)
        } catch {
            throw ClientMessageError(
                .malformedEventID, error.description, parameter: "last_event_id",
                given: error.given, accepted: EventIDError.accepted)
        }
    }

    /// Where the subscription begins and ends. The values may be texts, as in a query, or numbers.
    private func span(in found: [JSONMember]) throws(ClientMessageError) -> SpanRequest {
        var request = SpanRequest(cursor: try eventID(in: found))
        for member in found
        where member.group == nil && StreamSpanParameters.names.contains(member.key) {
            switch member.value {
            case .text(let text): request.parameters.append((member.key, text))
            case .number(let text): request.parameters.append((member.key, text))
            case .bool, .null, .container:
                throw ClientMessageError(
                    .invalidField, "this field is a text or a number", parameter: member.key)
            }
        }
        return request
    }

    /// The filters as parameters of a query would give them.
    private func filters(in found: [JSONMember]) throws(ClientMessageError)
        -> [(name: String, value: String)]
    {
        if found.contains(where: { $0.isTop("filters") }) {
            throw ClientMessageError(
                .invalidField, "\"filters\" is an object of filters", parameter: "filters")
        }
        var filters: [(name: String, value: String)] = []
        for member in found where member.group == "filters" {
            // In a query it may stand beside the filters; here it has a field of its own.
            guard !ChannelDirectory.streamParameters.contains(member.key) else {
                throw ClientMessageError(
                    .unknownParameter, "this is a field of the message, not a filter",
                    parameter: member.key)
            }
            switch member.value {
            case .text(let text): filters.append((member.key, text))
            case .number(let text): filters.append((member.key, text))
            case .bool(let flag): filters.append((member.key, flag ? "true" : "false"))
            case .null, .container:
                throw ClientMessageError(
                    .invalidValue,
                    "a filter is a text, a number, true or false, or a list of these with at "
                        + "least one", parameter: member.key)
            }
        }
        return filters
    }
}

extension JSONMember {
    /// A member of the outermost object.
    fileprivate func isTop(_ key: String) -> Bool { group == nil && self.key == key }
}
