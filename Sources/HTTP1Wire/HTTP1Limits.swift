// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How much of a message is read before it is refused.
package struct HTTP1Limits: Sendable, Hashable {
    /// Method, target and version. Browsers and proxies stop at 8 KiB too, and RFC 9112 asks for
    /// 8,000 at least.
    package var requestLineBytes: Int

    /// All header fields together. Room for two cookies or tokens at the 4 KiB that browsers
    /// allow, and as much again for what proxies add.
    package var headerBytes: Int

    /// Browsers send about twenty, proxies add ten.
    package var headerCount: Int

    /// The largest request body: the default size limit of a Kafka message.
    package var bodyBytes: Int

    package init(
        requestLineBytes: Int = 8 * 1024,
        headerBytes: Int = 16 * 1024,
        headerCount: Int = 100,
        bodyBytes: Int = 1024 * 1024
    ) {
        self.requestLineBytes = requestLineBytes
        self.headerBytes = headerBytes
        self.headerCount = headerCount
        self.bodyBytes = bodyBytes
    }

    /// The longest method that is read; the longest registered one has 17 letters.
    package static let methodBytes = 32

    /// The longest chunk size line, extensions included. A size takes 16 digits at most.
    package static let chunkLineBytes = 256

    /// How much more a chunked body may spend on size lines than chunks of an ordinary size need,
    /// before it is taken for an attempt to make us read for nothing.
    package static let chunkOverheadBytes = 16 * 1024

    /// All trailer fields together; they are read and dropped.
    package static let trailerBytes = 4 * 1024

    /// Parameters in a query: ten times the filters that a channel has.
    package static let parameterCount = 100
}
