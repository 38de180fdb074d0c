// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import JSONFields

/// What one connection wants: channels, and conditions that all have to hold.
///
/// Two connections that want the same have equal subscriptions and so share a
/// ``SubscriptionClass``, whatever the order in which they named things.
package struct Subscription: Sendable, Hashable {
    /// The indices of the channels, ascending; `nil` is every channel there is and will be.
    package let channels: [Int]?
    package let predicates: [Predicate]

    /// Whether each event comes with its origin in Kafka.
    package let withMetadata: Bool

    package init(channels: [Int]?, predicates: [Predicate], withMetadata: Bool = false) {
        self.withMetadata = withMetadata
        self.channels = channels.map { Array(Set($0)).sorted() }
        self.predicates = predicates.sorted { $0.sortKey < $1.sortKey }
    }

    /// The position in `route` of the channel whose frames this subscription gets, or `nil`.
    package func position(in route: TopicRoute) -> Int? {
        guard let channels else { return route.channels.isEmpty ? nil : 0 }
        return route.channels.firstIndex { channels.contains($0.index) }
    }

    /// True where every condition holds for that row of the table.
    package func matches(_ fields: FieldTable, row: Int) -> Bool {
        for predicate in predicates where !predicate.matches(fields, row: row) { return false }
        return true
    }
}

/// One condition on the fields of an event. An event without the field does not meet it.
package enum Predicate: Sendable, Hashable {
    /// One of the columns holds one of the values.
    case oneOf(columns: [Int], values: [[UInt8]])
    /// The largest number in the columns is at least that.
    case atLeast(columns: [Int], Double)
    /// The smallest number in the columns is at most that.
    case atMost(columns: [Int], Double)

    func matches(_ fields: FieldTable, row: Int) -> Bool {
        switch self {
        case .oneOf(let columns, let values):
            return columns.contains { fields.matches(row: row, column: $0, anyOf: values) }
        case .atLeast(let columns, let bound):
            return columns.contains {
                fields.largestNumber(row: row, column: $0).map { $0 >= bound } ?? false
            }
        case .atMost(let columns, let bound):
            return columns.contains {
                fields.smallestNumber(row: row, column: $0).map { $0 <= bound } ?? false
            }
        }
    }

    fileprivate var sortKey: String { "\(self)" }
}
