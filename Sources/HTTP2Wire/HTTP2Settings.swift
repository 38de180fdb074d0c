// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire

/// What all sessions of a listener share: one object, so that a session holds a reference to it
/// and no copy.
package final class HTTP2Settings: Sendable {
    package let limits: HTTP2Limits

    /// What a request may measure.
    package let requests: HTTP1Limits

    /// From the first byte of a header block to its end.
    package let headerTimeout: Duration

    /// From the end of the header block to the end of the body.
    package let bodyTimeout: Duration

    /// How long the peer of an answer may leave its window or its socket shut.
    package let answerTimeout: Duration

    package init(
        limits: HTTP2Limits, requests: HTTP1Limits, headerTimeout: Duration,
        bodyTimeout: Duration, answerTimeout: Duration
    ) {
        self.limits = limits
        self.requests = requests
        self.headerTimeout = headerTimeout
        self.bodyTimeout = bodyTimeout
        self.answerTimeout = answerTimeout
    }

    /// What SETTINGS_MAX_HEADER_LIST_SIZE announces: RFC 9113, section 6.5.2, counts 32 bytes for
    /// each field beside its name and value.
    var headerListBytes: Int {
        requests.requestLineBytes + requests.headerBytes + 32 * (requests.headerCount + 4)
    }
}
