// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import JSONFields

/// An answer that is an error, as a person can read it.
enum ProblemReport {
    /// Problems are a page at most; of anything else this is enough to recognise it.
    static let bodyBytesMax = 64 * 1024
    private static let fieldBytes = 1_024
    private static let columns = ["title", "detail", "parameter", "given", "accepted"]

    /// `404 Not Found`.
    static func status(_ head: HTTP1ResponseHead) -> String {
        let phrase = HTTP1ResponseHead.reason(head.status).description
        return phrase.isEmpty ? "\(head.status)" : "\(head.status) \(phrase)"
    }

    /// Describes an answer by its problem details (RFC 9457) or, without them, by its first line.
    static func text(_ head: HTTP1ResponseHead, body: [UInt8]) -> String {
        let status = status(head)
        guard let paths = try? JSONFieldPaths(columns),
            let extractor = try? JSONFieldExtractor(paths: paths, eventBytesMax: bodyBytesMax)
        else { return status }
        var table = FieldTable(for: paths)
        guard extractor.extract(body.span, into: &table) == .object else {
            let line = body.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
            return line.isEmpty ? status : "\(status): \(PeerText.display(Array(line).span))"
        }
        func all(_ column: Int) -> [String] {
            table.values(row: 0, column: column).compactMap { value in
                switch value {
                case .text(let range):
                    PeerText.display(table.string(of: range), limit: fieldBytes)
                case .number(let number): DurationText.decimal(number, places: 6)
                case .bool(let flag): "\(flag)"
                case .null, .absent: nil
                }
            }
        }
        var text = status
        if let title = all(0).first, !status.hasSuffix(title) { text += ": \(title)" }
        if let detail = all(1).first { text += "\n  \(detail)" }
        if let parameter = all(2).first { text += "\n  parameter: \(parameter)" }
        if let given = all(3).first { text += "\n  given: \(given)" }
        if !all(4).isEmpty { text += "\n  accepted: \(all(4).joined(separator: ", "))" }
        return text
    }
}
