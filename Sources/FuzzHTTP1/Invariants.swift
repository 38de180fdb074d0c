// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire

/// What must hold for every input.
package enum Invariants {
    /// The rule that `input` breaks, or `nil`.
    package static func violation(_ input: [UInt8]) -> String? {
        let requests = Exchange.requests(in: input, pieceBytes: .max)
        for pieceBytes in [1, 7]
        where Exchange.requests(in: input, pieceBytes: pieceBytes) != requests {
            return "requests in pieces of \(pieceBytes) differ from the whole"
        }
        for method in [HTTPMethod.get, .head] {
            let responses = Exchange.responses(in: input, to: method, pieceBytes: .max)
            guard Exchange.responses(in: input, to: method, pieceBytes: 1) == responses else {
                return "responses to \(method) in pieces differ from the whole"
            }
        }
        for entry in requests.entries {
            guard case .request(let head) = entry else { continue }
            if let broken = violation(head) { return broken }
        }
        return queryViolation(String(decoding: input, as: UTF8.self))
    }

    private static func violation(_ head: HTTP1RequestHead) -> String? {
        let limits = Exchange.fuzzLimits
        guard head.path.hasPrefix("/") || (head.path == "*" && head.method == .options) else {
            return "path \(head.path)"
        }
        guard head.path.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            return "a control character in path \(head.path)"
        }
        guard !head.path.split(separator: "/").contains(where: { $0 == "." || $0 == ".." }) else {
            return "a dot segment in path \(head.path)"
        }
        guard head.headers.count <= limits.headerCount else { return "too many headers" }
        guard head.headers.all("host").count == 1 || head.version == .oneZero else {
            return "an HTTP/1.1 request without one host"
        }
        if case .length(let length) = head.body {
            guard length > 0, length <= limits.bodyBytes,
                head.headers.all("content-length").count == 1,
                !head.headers.contains("transfer-encoding")
            else { return "body of \(length) bytes" }
        }
        var breaksLine = false
        head.headers.forEach { name, value in
            let isWhole = (name + value).utf8.allSatisfy { $0 != 13 && $0 != 10 && $0 != 0 }
            if !isWhole || name.isEmpty { breaksLine = true }
        }
        return breaksLine ? "a header that breaks its line" : nil
    }

    private static func queryViolation(_ text: String) -> String? {
        guard let query = try? QueryParameters(text) else { return nil }
        let again = query.list.map {
            "\(PercentCoding.encode($0.name))=\(PercentCoding.encode($0.value))"
        }.joined(separator: "&")
        guard (try? QueryParameters(again)) == query else {
            return "query \(again) is not \(query)"
        }
        return nil
    }
}
