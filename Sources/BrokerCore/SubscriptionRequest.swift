// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// Why a request for a stream cannot be understood.
package struct SubscriptionError: Error, Sendable, Equatable {
    package enum Code: String, Sendable, CaseIterable {
        case unknownParameter
        case unknownChannel
        case invalidValue
        case tooManyValues
    }

    package let code: Code
    package let parameter: String
    package let given: String
    package let accepted: [String]
    package let detail: String
}

/// Limits on what one request may ask for.
package enum SubscriptionLimits {
    /// Enough for a wall of cameras; a filter over more is better served without one.
    package static let valuesMax = 256
    package static let valueBytesMax = 256
    /// Events a second that a connection may ask for where the configuration sets no limit: more
    /// than any connection gets.
    package static let eventRateMax = 1_000_000
}

extension ChannelDirectory {
    /// Parameters that are about the position in history or the form of the stream, not about
    /// which events match. They are read elsewhere and allowed on every stream.
    package static let streamParameters: Set<String> = Set(
        ["last_event_id", "metadata", eventRateParameter] + StreamSpanParameters.names)

    package static let eventRateParameter = "events_per_second"

    /// The subscription that a request to one channel asks for.
    package func subscription(to channel: Channel, parameters: [(name: String, value: String)])
        throws(SubscriptionError) -> Subscription
    {
        var values: [String: [String]] = [:]
        for (name, value) in parameters where !Self.streamParameters.contains(name) {
            guard channel.filters.contains(where: { $0.parameter == name }) else {
                throw SubscriptionError(
                    code: .unknownParameter, parameter: name, given: value,
                    accepted: channel.filters.map(\.parameter) + Self.streamParameters.sorted(),
                    detail: "channel \"\(channel.name)\" has no filter \"\(name)\"")
            }
            values[name, default: []].append(value)
        }
        var predicates: [Predicate] = []
        for filter in channel.filters {
            guard let given = values[filter.parameter] else { continue }
            predicates.append(
                try Self.predicate(
                    filter.operation, columns: filter.columns, parameter: filter.parameter,
                    given: given))
        }
        return Subscription(
            channels: [channel.index], predicates: predicates,
            withMetadata: try Self.wantsMetadata(parameters))
    }

    /// The subscription that `GET /sse/events` asks for: any event types of any channels.
    package func subscription(toAny parameters: [(name: String, value: String)])
        throws(SubscriptionError) -> Subscription
    {
        let known = ["channels", "event_types", "project_id"]
        var values: [String: [String]] = [:]
        for (name, value) in parameters where !Self.streamParameters.contains(name) {
            guard known.contains(name) else {
                throw SubscriptionError(
                    code: .unknownParameter, parameter: name, given: value,
                    accepted: known + Self.streamParameters.sorted(),
                    detail: "this stream has no parameter \"\(name)\"")
            }
            values[name, default: []].append(value)
        }
        var predicates: [Predicate] = []
        for (name, column) in [("event_types", eventTypeColumn), ("project_id", projectColumn)] {
            guard let given = values[name] else { continue }
            predicates.append(
                try Self.predicate(.oneOf, columns: [column], parameter: name, given: given))
        }
        var chosen: [Int]?
        if let given = values["channels"] {
            var indices: [Int] = []
            for name in try Self.list(parameter: "channels", given: given) {
                guard let channel = channel(named: name) else {
                    throw SubscriptionError(
                        code: .unknownChannel, parameter: "channels", given: name,
                        accepted: channels.map(\.name), detail: "no channel is named \"\(name)\"")
                }
                indices.append(channel.index)
            }
            chosen = indices
        }
        return Subscription(
            channels: chosen, predicates: predicates,
            withMetadata: try Self.wantsMetadata(parameters))
    }

    /// The topics that can hold events of `subscription`; `known` are those that exist, for
    /// subscriptions to everything.
    package func topics(of subscription: Subscription, known: [String]) -> [String] {
        guard let indices = subscription.channels else {
            return known.filter { !route(for: $0).channels.isEmpty }
        }
        var seen: Set<String> = []
        return indices.flatMap { channel(at: $0).topics }.filter { seen.insert($0).inserted }
    }

    private static func wantsMetadata(_ parameters: [(name: String, value: String)])
        throws(SubscriptionError) -> Bool
    {
        let given = parameters.filter { $0.name == "metadata" }.map(\.value)
        guard !given.isEmpty else { return false }
        guard given.count == 1, ["true", "false"].contains(given[0]) else {
            throw SubscriptionError(
                code: .invalidValue, parameter: "metadata", given: given.joined(separator: ","),
                accepted: ["true", "false"], detail: "\"metadata\" is true or false")
        }
        return given[0] == "true"
    }

    /// The events a second that a request asks for; `nil` where it does not say.
    ///
    /// - Parameter most: What it may ask for; 0 is no limit.
    package static func eventRate(
        _ parameters: [(name: String, value: String)], atMost most: Int
    ) throws(SubscriptionError) -> Int? {
        let given = parameters.filter { $0.name == eventRateParameter }.map(\.value)
        guard !given.isEmpty else { return nil }
        let most = most > 0 ? most : SubscriptionLimits.eventRateMax
        let digits = given[0].utf8
        guard given.count == 1, (1...9).contains(digits.count),
            digits.allSatisfy({ Moment.isDigit($0) }), let rate = Int(given[0]),
            (1...most).contains(rate)
        else {
            throw SubscriptionError(
                code: .invalidValue, parameter: eventRateParameter,
                given: given.joined(separator: ","), accepted: ["a whole number from 1 to \(most)"],
                detail: "\"\(eventRateParameter)\" is how many events a second to send at most")
        }
        return rate
    }

    private static func predicate(
        _ operation: FilterOperation, columns: [Int], parameter: String, given: [String]
    ) throws(SubscriptionError) -> Predicate {
        switch operation {
        case .oneOf:
            let values = try list(parameter: parameter, given: given)
            return .oneOf(columns: columns, values: Set(values).sorted().map { Array($0.utf8) })
        case .atLeast: return .atLeast(columns: columns, try number(parameter, given))
        case .atMost: return .atMost(columns: columns, try number(parameter, given))
        }
    }

    private static func number(_ parameter: String, _ given: [String]) throws(SubscriptionError)
        -> Double
    {
        guard given.count == 1, let number = Double(given[0]), number.isFinite else {
            throw SubscriptionError(
                code: .invalidValue, parameter: parameter, given: given.joined(separator: ","),
                accepted: ["one number, such as 0.7"],
                detail: "\"\(parameter)\" takes one number")
        }
        return number
    }

    private static func list(parameter: String, given: [String]) throws(SubscriptionError)
        -> [String]
    {
        let values = given.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
            .map(String.init)
        guard values.count <= SubscriptionLimits.valuesMax else {
            throw SubscriptionError(
                code: .tooManyValues, parameter: parameter, given: "\(values.count) values",
                accepted: ["at most \(SubscriptionLimits.valuesMax) values"],
                detail: "\"\(parameter)\" has too many values")
        }
        for value in values
        where value.isEmpty || value.utf8.count > SubscriptionLimits.valueBytesMax {
            throw SubscriptionError(
                code: .invalidValue, parameter: parameter, given: value,
                accepted: [
                    "values separated by commas, each of 1 to "
                        + "\(SubscriptionLimits.valueBytesMax) bytes"
                ],
                detail: value.isEmpty
                    ? "\"\(parameter)\" has an empty value"
                    : "a value of \"\(parameter)\" is too long"
            )
        }
        return values
    }
}
