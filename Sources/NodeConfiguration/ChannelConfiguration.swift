// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A stream that clients can subscribe to under a name.
package struct ChannelConfiguration: Sendable, Equatable {
    /// `[a-z0-9][a-z0-9._-]{0,63}`, unique in the configuration.
    package var name: String
    /// One line for people; may be empty.
    package var description: String
    /// The Kafka topics whose events it carries, each once. A topic may be in several channels.
    package var topics: [String]
    package var event: EventNameRule
    /// Parameters are unique in the channel.
    package var filters: [FilterConfiguration]
    /// What happens to slow connections of this channel; `nil` is what the limits say.
    package var slow: SlowConfiguration?
    /// How much of its topics Redis keeps; `nil` is what the history section says.
    package var retention: RetentionConfiguration?
    /// What becomes of its events beyond a rate; `nil` is what the limits say.
    package var onLimit: OnLimitConfiguration?

    package init(
        name: String,
        description: String = "",
        topics: [String],
        event: EventNameRule,
        filters: [FilterConfiguration] = [],
        slow: SlowConfiguration? = nil,
        retention: RetentionConfiguration? = nil,
        onLimit: OnLimitConfiguration? = nil
    ) {
        self.name = name
        self.description = description
        self.topics = topics
        self.event = event
        self.filters = filters
        self.slow = slow
        self.retention = retention
        self.onLimit = onLimit
    }
}

/// What becomes of events that a rate does not let pass. Raw values are the words of the
/// configuration.
package enum OnLimitPolicy: String, Sendable, CaseIterable {
    case delay
    case shed
    case conflate
}

/// The rule of one channel for events beyond a rate.
package struct OnLimitConfiguration: Sendable, Equatable {
    package var policy: OnLimitPolicy
    /// The JSON field whose newest event each waits where the policy is to conflate.
    package var key: String?

    package init(policy: OnLimitPolicy = .delay, key: String? = nil) {
        self.policy = policy
        self.key = key
    }
}

/// How much of a channel's topics Redis keeps. What is `nil` is what the history section says.
package struct RetentionConfiguration: Sendable, Equatable {
    package var time: Duration?
    /// Of each topic.
    package var bytes: Int?
    /// Of each topic.
    package var events: Int?

    package init(time: Duration? = nil, bytes: Int? = nil, events: Int? = nil) {
        self.time = time
        self.bytes = bytes
        self.events = events
    }
}

/// What is kept of one topic in Redis.
package struct TopicRetention: Sendable, Equatable {
    package var age: Duration
    package var bytes: Int
    package var events: Int
}

extension Configuration {
    /// What is kept of the topics of which a channel says it: as much as any channel with that topic
    /// asks for, those without a word of their own included.
    package var topicRetention: [String: TopicRetention] {
        var said: [String: TopicRetention] = [:]
        for topic in Set(channels.filter { $0.retention != nil }.flatMap(\.topics)) {
            let asked = channels.filter { $0.topics.contains(topic) }.map { channel in
                TopicRetention(
                    age: channel.retention?.time ?? history.windowAge,
                    bytes: channel.retention?.bytes ?? history.windowBytes,
                    events: channel.retention?.events ?? history.windowEvents)
            }
            said[topic] = TopicRetention(
                age: asked.map(\.age).max() ?? history.windowAge,
                bytes: asked.map(\.bytes).max() ?? history.windowBytes,
                events: asked.map(\.events).max() ?? history.windowEvents)
        }
        return said
    }
}

/// What happens to a connection that was live and has fallen behind. Raw values are the words of
/// the configuration.
package enum LagPolicy: String, Sendable, CaseIterable {
    case catchUp = "catch_up"
    case skip
    case close
}

/// The rule of one channel for its slow connections.
package struct SlowConfiguration: Sendable, Equatable {
    package var policy: LagPolicy
    /// 0 is no limit.
    package var events: Int
    /// 0 is no limit.
    package var bytes: Int

    package init(policy: LagPolicy = .catchUp, events: Int = 1000, bytes: Int = 0) {
        self.policy = policy
        self.events = events
        self.bytes = bytes
    }
}

/// What stands in the `event:` line of an event.
package enum EventNameRule: Sendable, Equatable {
    /// The same name for each event.
    case fixed(String)
    /// The text of a JSON field, given as a dotted path, or `fallback` where there is none.
    case field(String, fallback: String)
}

/// A query parameter that selects events by their JSON.
package struct FilterConfiguration: Sendable, Equatable {
    /// The name in the query.
    package var parameter: String
    /// Dotted JSON paths; the filter passes an event when any of them matches.
    package var fields: [String]
    package var operation: FilterOperation
    /// One line for people; may be empty.
    package var description: String

    package init(
        parameter: String,
        fields: [String],
        operation: FilterOperation = .oneOf,
        description: String = ""
    ) {
        self.parameter = parameter
        self.fields = fields
        self.operation = operation
        self.description = description
    }
}

/// How a filter compares. Raw values are the words of the configuration.
package enum FilterOperation: String, Sendable, CaseIterable {
    /// The value, or any element of an array, equals one of the comma-separated values.
    case oneOf = "one_of"
    /// The number, or the largest of an array of numbers, is at least the given one.
    case atLeast = "at_least"
    /// The number, or the smallest of an array of numbers, is at most the given one.
    case atMost = "at_most"
}

/// Serves each topic whose name matches as a channel of that name.
package struct PatternConfiguration: Sendable, Equatable {
    /// A glob in which `*` stands for any characters, also none; nothing else is special.
    package var topics: String
    /// One line for people; may be empty.
    package var description: String
    package var event: EventNameRule
    package var filters: [FilterConfiguration]

    package init(
        topics: String,
        description: String = "",
        event: EventNameRule,
        filters: [FilterConfiguration] = []
    ) {
        self.topics = topics
        self.description = description
        self.event = event
        self.filters = filters
    }

    /// Whether `topic` is served by this pattern. Time is at most the product of the lengths.
    package func matches(topic: String) -> Bool {
        let pattern = Array(topics.utf8)
        let text = Array(topic.utf8)
        var inPattern = 0
        var inText = 0
        // Where to go on when what follows the last `*` does not fit: one more byte for the `*`.
        var retry: (pattern: Int, text: Int)?
        while inText < text.count {
            if inPattern < pattern.count, pattern[inPattern] == UInt8(ascii: "*") {
                inPattern += 1
                retry = (inPattern, inText)
            } else if inPattern < pattern.count, pattern[inPattern] == text[inText] {
                inPattern += 1
                inText += 1
            } else if let again = retry {
                inPattern = again.pattern
                inText = again.text + 1
                retry = (again.pattern, again.text + 1)
            } else {
                return false
            }
        }
        return pattern[inPattern...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
