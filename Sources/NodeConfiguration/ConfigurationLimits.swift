// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The bounds of what a configuration may hold and of what reading one may cost.
package enum ConfigurationLimits {
    /// A file is larger than this only by mistake; 256 full channels need about half of it.
    package static let documentBytes = 1 << 20
    /// The deepest legal value (a field of a filter of a channel) lies at 7.
    package static let depth = 16
    /// Values and keys after aliases are expanded. Full use of the limits below needs half.
    package static let nodes = 200_000
    /// A key file in PEM is a few KiB.
    package static let secretFileBytes = 64 << 10
    /// More errors than people read; the rest are counted.
    package static let errors = 100

    package static let channels = 256
    package static let patterns = 64
    package static let topicsPerChannel = 64
    package static let filtersPerChannel = 16
    package static let fieldsPerFilter = 8
    package static let fieldSegments = 8
    package static let fieldPathBytes = 256
    /// Of an `event:` line; it goes out with each event.
    package static let eventNameBytes = 128
    package static let descriptionBytes = 512
    /// A topic name's longest legal length in Kafka (`Topic.MAX_NAME_LENGTH`).
    package static let topicBytes = 249
    /// Stars in a pattern. One or two are usual.
    package static let patternStars = 8
    /// Any other text.
    package static let textBytes = 4096
    package static let properties = 256
}
