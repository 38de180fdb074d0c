// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// What went wrong with a request, for a program and for a person (RFC 9457).
///
/// It names the parameter, what was given for it and what would be accepted. Text that can come
/// from the peer is escaped and cut, so an answer is never larger than a page.
package struct ProblemDetails: Sendable, Hashable {
    package static let mediaType = "application/problem+json"

    /// The longest quotation of what was given.
    package static let givenBytes = 128

    /// The longest explanation.
    package static let detailBytes = 1024

    /// Alternatives that are listed at most.
    package static let acceptedCount = 100

    /// `about:blank`, where the status says what kind of problem it is, or a relative reference to
    /// its description.
    package var type: String
    package var title: String
    package var status: Int
    package var detail: String?
    package var parameter: String?
    package var given: String?
    package var accepted: [String]
    /// The setting whose limit has been reached, and what it allows.
    package var limit: String?
    package var maximum: Int?

    /// - Parameter title: The phrase of the status where it is `nil`.
    package init(
        status: Int,
        title: String? = nil,
        detail: String? = nil,
        type: String = "about:blank",
        parameter: String? = nil,
        given: String? = nil,
        accepted: [String] = []
    ) {
        self.status = status
        self.title = title ?? HTTP1ResponseHead.reason(status).description
        self.detail = detail
        self.type = type
        self.parameter = parameter
        self.given = given
        self.accepted = accepted
    }

    package init(_ error: HTTP1Error) {
        self.init(
            status: error.status,
            detail: error.detail,
            parameter: error.parameter,
            given: error.given
        )
    }

    /// The body of the answer.
    package var json: [UInt8] {
        var json = JSONText(reserving: 512)
        json.object {
            $0.field("type", type)
            $0.field("title", title)
            $0.field("status", status)
            if let detail {
                $0.field("detail", PeerText.display(detail, limit: Self.detailBytes))
            }
            if let parameter {
                $0.field("parameter", PeerText.display(parameter, limit: Self.givenBytes))
            }
            if let given {
                $0.field("given", PeerText.display(given, limit: Self.givenBytes))
            }
            if let limit { $0.field("limit", limit) }
            if let maximum { $0.field("maximum", maximum) }
            if !accepted.isEmpty {
                let shown = accepted.prefix(Self.acceptedCount)
                $0.array(
                    "accepted",
                    shown.map { PeerText.display($0, limit: Self.givenBytes) }
                )
            }
        }
        return json.bytes
    }
}
