// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Why a message, or a part of it, was refused.
///
/// After an error from a parser of this target the place of the next message is unknown: answer
/// with ``status`` and close the connection. ``QueryParameters`` is the exception, for the request
/// it comes from was complete.
package struct HTTP1Error: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        case requestLineMalformed
        case methodTooLong
        case targetMalformed
        case targetTooLong
        case versionUnsupported
        case bareLineFeed
        case bareCarriageReturn
        case foldedHeader
        case headerMalformed
        case headersTooLarge
        case tooManyHeaders
        case hostMissing
        case hostRepeated
        case hostMalformed
        case contentLengthMalformed
        case contentLengthRepeated
        case contentLengthWithTransferEncoding
        case transferEncodingMalformed
        case transferEncodingUnsupported
        case expectationUnsupported
        case bodyTooLarge
        case chunkMalformed
        case chunkOverheadTooLarge
        case trailersTooLarge
        case parameterMalformed
        case tooManyParameters
        case statusLineMalformed

        /// The status to answer a request with (RFC 9110, section 15).
        package var status: Int {
            switch self {
            case .targetTooLong: 414
            case .headersTooLarge, .tooManyHeaders, .trailersTooLarge: 431
            case .versionUnsupported: 505
            case .transferEncodingUnsupported, .methodTooLong: 501
            case .expectationUnsupported: 417
            case .bodyTooLarge: 413
            // Only a peer that we asked sends a status line.
            case .statusLineMalformed: 502
            default: 400
            }
        }
    }

    package let code: Code

    /// A sentence for the peer: what was wrong and what would be accepted.
    package let detail: String

    /// The header or query parameter that was wrong, where it is one.
    package let parameter: String?

    /// What the peer gave, cut short and escaped.
    package let given: String?

    package init(_ code: Code, _ detail: String, parameter: String? = nil, given: String? = nil) {
        self.code = code
        self.detail = detail
        self.parameter = parameter
        self.given = given
    }

    package var status: Int { code.status }

    package var description: String {
        var text = "http1.\(code.rawValue): \(detail)"
        if let parameter { text += " [\(parameter)]" }
        if let given { text += ", given \"\(given)\"" }
        return text
    }
}
