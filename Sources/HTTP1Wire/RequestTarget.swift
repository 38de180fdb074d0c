// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// What a request is addressed to (RFC 9112, section 3.2).
///
/// A path is refused, and not tidied up, where two readers could see different paths in it: `.`
/// and `..` as segments, escaped or not, and an escaped slash. Proxies in front of a node that
/// allow a path by its prefix are then never surprised by what the node makes of it.
struct RequestTarget: Sendable, Hashable {
    let text: String
    let path: String
    let query: String?

    /// The host and port of an absolute target, which then counts instead of `Host`.
    let authority: String?

    init(
        _ input: borrowing Span<UInt8>,
        _ range: Range<Int>,
        method: HTTPMethod
    ) throws(HTTP1Error) {
        guard !range.isEmpty else {
            throw HTTP1Error(.requestLineMalformed, "one blank stands on each side of the target")
        }
        for index in range {
            let byte = input[index]
            guard byte > 0x20, byte < 0x7f, byte != UInt8(ascii: "#") else {
                if byte == Syntax.carriageReturn { throw HeadScanner.bareCarriageReturn }
                throw Self.malformed(
                    "a target is visible ASCII without a fragment; the rest is percent-encoded",
                    input,
                    range
                )
            }
        }
        text = input.text(in: range)
        if text == "*", method == .options {
            path = "*"
            query = nil
            authority = nil
            return
        }
        var pathStart = range.lowerBound
        if input[pathStart] == UInt8(ascii: "/") {
            authority = nil
        } else {
            let host = try Self.authority(of: input, range)
            authority = input.text(in: host)
            pathStart = host.upperBound
        }
        let question = input.extracting(0..<range.upperBound)
            .firstIndex(of: UInt8(ascii: "?"), from: pathStart)
        query = question.map { input.text(in: ($0 + 1)..<range.upperBound) }
        let pathEnd = question ?? range.upperBound
        path =
            pathStart == pathEnd ? "/" : try Self.decodePath(input, pathStart..<pathEnd, of: range)
    }

    /// A character of a host with an optional port. The comma is left out, for some readers see a
    /// list in it.
    static func isAuthority(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"),
            UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "%"),
            UInt8(ascii: "!"), UInt8(ascii: "$"), UInt8(ascii: "&"), UInt8(ascii: "'"),
            UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: ";"), UInt8(ascii: "="):
            true
        default:
            false
        }
    }

    /// Where the authority of an absolute target lies: after `http://` or `https://`.
    private static func authority(
        of input: borrowing Span<UInt8>,
        _ range: Range<Int>
    ) throws(HTTP1Error) -> Range<Int> {
        var start: Int?
        for scheme in ["http://", "https://"] where range.count > scheme.utf8.count {
            let end = range.lowerBound + scheme.utf8.count
            if Syntax.matches(input, range.lowerBound..<end, scheme) { start = end }
        }
        guard let start else {
            throw malformed(
                "a target begins with / or http://, or is * with OPTIONS",
                input,
                range
            )
        }
        var end = start
        while end < range.upperBound, isAuthority(input[end]) { end += 1 }
        let isEnded =
            end == range.upperBound || input[end] == UInt8(ascii: "/")
            || input[end] == UInt8(ascii: "?")
        guard end > start, isEnded else {
            throw malformed("an absolute target has a host and no user", input, range)
        }
        return start..<end
    }

    private static func decodePath(
        _ input: borrowing Span<UInt8>,
        _ path: Range<Int>,
        of target: Range<Int>
    ) throws(HTTP1Error) -> String {
        var isPlain = true
        for index in path where input[index] == UInt8(ascii: "%") || input[index] == 0x2e {
            isPlain = false
        }
        if isPlain { return input.text(in: path) }
        guard let decoded = PercentCoding.decode(input, path, plusIsBlank: false) else {
            throw malformed(
                "an escape is % and two digits, and together they are UTF-8", input, target)
        }
        var slashes = 0
        for index in path where input[index] == UInt8(ascii: "/") { slashes += 1 }
        var decodedSlashes = 0
        for byte in decoded.utf8 {
            guard byte >= 0x20, byte != 0x7f else {
                throw malformed("a path has no control character", input, target)
            }
            if byte == UInt8(ascii: "/") { decodedSlashes += 1 }
        }
        guard slashes == decodedSlashes else {
            throw malformed("a slash in a path is not escaped", input, target)
        }
        for segment in decoded.utf8.split(separator: UInt8(ascii: "/")) {
            let isDots = segment.count <= 2 && segment.allSatisfy { $0 == UInt8(ascii: ".") }
            if isDots { throw malformed("a path has no . or .. segment", input, target) }
        }
        return decoded
    }

    private static func malformed(
        _ detail: String,
        _ input: borrowing Span<UInt8>,
        _ range: Range<Int>
    ) -> HTTP1Error {
        HTTP1Error(.targetMalformed, detail, given: PeerText.display(input.extracting(range)))
    }
}
