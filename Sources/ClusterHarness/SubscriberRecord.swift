// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import EventStreamWire

/// One event as a subscriber got it.
package struct Receipt: Sendable, Hashable, CustomStringConvertible {
    package let id: EventID
    /// The number that its producer gave it.
    package let number: UInt32

    package init(id: EventID, number: UInt32) {
        self.id = id
        self.number = number
    }

    package var description: String { "event \(number) as \(id)" }
}

/// All that happened to one subscriber.
package struct SubscriberRecord: Sendable {
    package var name: String
    /// In the order of arrival.
    package var receipts: [Receipt] = []
    /// The numbers among them, each once.
    package private(set) var numbers: Set<UInt32> = []
    /// What broke the rules of the stream: gaps told, events without an ID or a number, answers
    /// that are no stream. The first few.
    package private(set) var complaints: [String] = []
    /// Streams that were opened.
    package var streams = 0
    /// The last reconnection delay that a server asked for.
    package var retry: Duration?

    /// The longest time between two events.
    package var longestSilence: Duration = .zero
    /// The longest time from the end of a stream to the beginning of the next.
    package private(set) var longestOutage: Duration = .zero
    /// The most that such a time was over the `retry` that the server had asked for.
    package private(set) var longestDelay: Duration = .zero

    private static let complaintLimit = 10

    package init(name: String) { self.name = name }

    mutating func note(outage: Duration, after retry: Duration?) {
        longestOutage = max(longestOutage, outage)
        longestDelay = max(longestDelay, outage - (retry ?? .zero))
    }

    package mutating func add(_ receipt: Receipt) {
        receipts.append(receipt)
        numbers.insert(receipt.number)
    }

    package mutating func complain(_ text: String) {
        if complaints.count < Self.complaintLimit { complaints.append(text) }
    }
}
