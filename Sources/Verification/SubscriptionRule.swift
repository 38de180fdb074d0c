// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
package import NodeConfiguration

/// What a client asked for, to judge by: topics, and conditions that all have to hold.
///
/// It is written from the documentation of channels and filters and shares nothing with the
/// broker's own matching but the reading of JSON, so a mistake there is seen here.
///
/// Threads: one.
package final class SubscriptionRule {
    /// A filter of the channel and the value that the client gave it.
    package struct Condition: Sendable {
        let columns: [Int]
        let operation: FilterOperation
        let values: [[UInt8]]
        let bound: Double
    }

    /// `nil` is every topic.
    package let topics: Set<String>?
    private let conditions: [Condition]
    private let extractor: JSONFieldExtractor?
    private var fields: FieldTable?

    /// Everything is asked for.
    package init() {
        topics = nil
        conditions = []
        extractor = nil
        fields = nil
    }

    /// - Parameter parameters: As in the query of a request to the channel.
    package init(
        channel: ChannelConfiguration, parameters: [(name: String, value: String)]
    ) throws(VerificationError) {
        topics = Set(channel.topics)
        var paths: [String] = []
        var conditions: [Condition] = []
        for parameter in parameters {
            guard let filter = channel.filters.first(where: { $0.parameter == parameter.name })
            else {
                let known = channel.filters.map(\.parameter).joined(separator: ", ")
                throw VerificationError(
                    .subscriptionRefused,
                    "channel \"\(channel.name)\" has no filter \"\(parameter.name)\"; it has: \(known)"
                )
            }
            let columns = filter.fields.map { field -> Int in
                if let known = paths.firstIndex(of: field) { return known }
                paths.append(field)
                return paths.count - 1
            }
            conditions.append(try Self.condition(filter, columns, parameter.value))
        }
        self.conditions = conditions
        guard !paths.isEmpty else {
            (extractor, fields) = (nil, nil)
            return
        }
        do {
            let paths = try JSONFieldPaths(paths)
            extractor = try JSONFieldExtractor(
                paths: paths, eventBytesMax: JSONFieldLimits.eventBytes)
            fields = FieldTable(for: paths)
        } catch { throw VerificationError(.subscriptionRefused, error.detail) }
    }

    private static func condition(
        _ filter: FilterConfiguration, _ columns: [Int], _ value: String
    ) throws(VerificationError) -> Condition {
        guard filter.operation != .oneOf else {
            let values = value.split(separator: ",").map { Array($0.utf8) }
            return Condition(
                columns: columns, operation: filter.operation, values: values, bound: 0)
        }
        guard let bound = Double(value), bound.isFinite else {
            throw VerificationError(
                .subscriptionRefused, "filter \"\(filter.parameter)\" takes a number")
        }
        return Condition(columns: columns, operation: filter.operation, values: [], bound: bound)
    }

    /// Whether the client is owed this event.
    package func matches(topic: String?, data: Span<UInt8>) -> Bool {
        if let topics, let topic, !topics.contains(topic) { return false }
        guard !conditions.isEmpty, let extractor, var table = fields.take() else { return true }
        defer { fields = table }
        table.removeAll()
        guard extractor.extract(data, into: &table) == .object else { return false }
        return conditions.allSatisfy { $0.holds(in: table) }
    }
}

extension SubscriptionRule.Condition {
    fileprivate func holds(in table: FieldTable) -> Bool {
        columns.contains { column in
            switch operation {
            case .oneOf: table.matches(row: 0, column: column, anyOf: values)
            case .atLeast:
                table.largestNumber(row: 0, column: column).map { $0 >= bound } ?? false
            case .atMost:
                table.smallestNumber(row: 0, column: column).map { $0 <= bound } ?? false
            }
        }
    }
}

/// Why something cannot be judged. Never worth a retry with the same input.
package struct VerificationError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        /// A filter or value that the channel does not have.
        case subscriptionRefused
        /// More events than are to be held.
        case truthTooLarge
        /// The program cannot read JSON here: no memory.
        case unavailable
    }

    package let code: Code
    package let detail: String

    package init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    package var description: String { detail }
}
