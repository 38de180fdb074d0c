// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Every limit of the extraction of fields.
package enum JSONFieldLimits {
    /// The paths of one list: a set of them is one machine word.
    package static let paths = 64
    /// The keys of one path, which also bounds the recursion of the extraction.
    package static let segments = 8
    package static let pathBytes = 256
    /// The values taken from one event for one path.
    package static let valuesPerField = 64
    /// How deep the arrays and objects of an event may be nested, an empty one not counted.
    /// Events of a dozen levels are already rare; a browser's own parser takes some thousands.
    package static let depth = 64
    /// The largest `eventBytesMax`. An extractor reserves about 15 bytes of address space for
    /// each byte of it, and memory only as far as the largest event reached.
    package static let eventBytes = 64 * 1024 * 1024
}
