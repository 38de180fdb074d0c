// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A way in which a client can be treated wrongly.
package enum Offence: String, Sendable, CaseIterable {
    /// An event that was owed never came, and no gap said so.
    case lost
    /// The same event came again under the same ID.
    case repeated
    /// An event came after one with a higher ID.
    case outOfOrder = "out_of_order"
    /// An event came that the subscription does not ask for.
    case wronglyFiltered = "wrongly_filtered"
    /// An event came from a topic that the client may not see.
    case unauthorised
    /// One ID stands for two events, or one event came under two IDs.
    case contradictory
    /// An event came that was never published, or not with these bytes.
    case unknown
    /// A receipt without an ID, or with one that is none, or no JSON object.
    case unreadable

    /// As a sentence needs it.
    package var words: String {
        switch self {
        case .outOfOrder: "out of order"
        case .wronglyFiltered: "wrongly filtered"
        default: rawValue
        }
    }
}

/// How often something happened, and the first times.
package struct OffenceTally: Sendable, Equatable {
    package private(set) var count = 0
    /// Event IDs, or places in Kafka of events that nobody received.
    package private(set) var first: [String] = []

    mutating func add(_ example: @autoclosure () -> String, keeping limit: Int) {
        count += 1
        if first.count < limit { first.append(example()) }
    }

    mutating func add(count more: Int) { count += more }
}
