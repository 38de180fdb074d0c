// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import NodeConfiguration

/// A named selection of topics that clients subscribe to.
///
/// View: cluster; every node with the same configuration has the same channels.
package struct Channel: Sendable {
    /// The place in ``ChannelDirectory``; never used again for another channel in this process.
    package let index: Int
    package let name: String
    package let description: String
    package let topics: [String]
    package let eventName: EventNaming
    package let filters: [ChannelFilter]
    /// What becomes of events that a rate does not let pass.
    package let limitRule: LimitRule
    /// The pattern that made this channel out of a topic's name; `nil` for a configured one.
    package let pattern: String?
}

/// Where the SSE `event:` name of an event comes from.
package enum EventNaming: Sendable, Hashable {
    case fixed(String)
    /// The text in a column of the field table, or `fallback` where it is absent or unfit.
    case column(Int, fallback: String)
}

/// A query parameter that narrows a subscription.
package struct ChannelFilter: Sendable {
    package let parameter: String
    /// The JSON fields as configured, for listings.
    package let fields: [String]
    /// The same fields as columns of the field table.
    package let columns: [Int]
    package let operation: FilterOperation
    package let description: String
}

/// The channels that carry one topic, in the order of the configuration.
///
/// An event is encoded once for each event name that they show it under, which is hardly ever more
/// than two; a subscription to several of them gets the event once, from the first.
package final class TopicRoute: Sendable {
    package let topic: String
    package let channels: [Channel]
    /// By the position of a channel: which copy of an event's frame it shows.
    let copies: [Int]
    /// For each copy, the first channel that shows it.
    let copyChannels: [Channel]

    init(topic: String, channels: [Channel]) {
        self.topic = topic
        self.channels = channels
        var copies: [Int] = []
        var copyChannels: [Channel] = []
        for channel in channels {
            if let known = copyChannels.firstIndex(where: { $0.eventName == channel.eventName }) {
                copies.append(known)
            } else {
                copies.append(copyChannels.count)
                copyChannels.append(channel)
            }
        }
        self.copies = copies
        self.copyChannels = copyChannels
    }
}
