// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Bytes

/// Takes the chunks of a body apart as they arrive (RFC 9112, section 7.1), for requests and for
/// responses.
///
/// Threads: the one that owns the connection. Extensions and trailers are checked, bounded and
/// dropped. Every byte given is consumed until the body is complete, so nothing is looked at
/// twice.
package struct ChunkedBodyDecoder: Sendable {
    private enum State {
        case size
        case `extension`
        case sizeLineFeed
        case data
        case dataCarriageReturn
        case dataLineFeed
        case trailerStart
        case trailerName
        case trailerValue
        case trailerLineFeed
        case lastLineFeed
        case complete
    }

    /// No size has more digits; a longer one is an attempt to overflow.
    private static let maximumSizeDigits = 15

    private let maximumBodyBytes: Int
    private var state = State.size
    private var digits = 0
    private var lineBytes = 0
    private var overheadBytes = 0
    private var trailerBytes = 0
    /// What is missing of the chunk, or its size while that is read.
    private var remaining = 0

    /// How much of the body has come out.
    package private(set) var bodyBytes = 0

    /// - Parameter maximumBodyBytes: More is an error; `nil` for a stream without an end.
    package init(maximumBodyBytes: Int?) {
        self.maximumBodyBytes = maximumBodyBytes ?? .max
    }

    package var isComplete: Bool { state == .complete }

    /// Reads on, and calls `receive` with each piece of the body.
    ///
    /// - Returns: How many bytes of `input` belong to the body; fewer than all only where it ends.
    package mutating func decode(
        _ input: borrowing Span<UInt8>,
        receive: (borrowing Span<UInt8>) -> Void
    ) throws(HTTP1Error) -> Int {
        var index = 0
        while index < input.count, state != .complete {
            if state == .data {
                let end = index + min(remaining, input.count - index)
                receive(input.extracting(index..<end))
                bodyBytes += end - index
                remaining -= end - index
                index = end
                if remaining == 0 { state = .dataCarriageReturn }
            } else {
                try step(input[index])
                index += 1
            }
        }
        return index
    }

    /// Reads on, and appends what is body to `output`.
    ///
    /// - Returns: How many bytes of `input` belong to the body; fewer than all only where it ends.
    package mutating func decode(
        _ input: borrowing Span<UInt8>,
        into output: inout ByteWriter
    ) throws(HTTP1Error) -> Int {
        try decode(input) { output.append($0) }
    }

    private mutating func step(_ byte: UInt8) throws(HTTP1Error) {
        switch state {
        case .size, .extension: try stepSizeLine(byte)
        case .sizeLineFeed:
            try expectLineFeed(byte)
            try beginChunk()
        case .dataCarriageReturn:
            guard byte == Syntax.carriageReturn else {
                throw HTTP1Error(.chunkMalformed, "CR LF follows the data of a chunk")
            }
            state = .dataLineFeed
        case .dataLineFeed:
            try expectLineFeed(byte)
            state = .size
        case .trailerStart, .trailerName, .trailerValue, .trailerLineFeed, .lastLineFeed:
            try stepTrailer(byte)
        case .data, .complete: break
        }
    }

    private mutating func stepSizeLine(_ byte: UInt8) throws(HTTP1Error) {
        lineBytes += 1
        guard lineBytes <= HTTP1Limits.chunkLineBytes else {
            throw HTTP1Error(
                .chunkMalformed,
                "the size line of a chunk has at most \(HTTP1Limits.chunkLineBytes) bytes"
            )
        }
        if state == .size, let digit = Syntax.hexadecimal(byte) {
            digits += 1
            guard digits <= Self.maximumSizeDigits else {
                throw HTTP1Error(
                    .chunkMalformed,
                    "the size of a chunk has at most \(Self.maximumSizeDigits) digits"
                )
            }
            remaining = remaining << 4 | Int(digit)
        } else if byte == Syntax.carriageReturn, digits > 0 {
            state = .sizeLineFeed
        } else if state == .size, byte == UInt8(ascii: ";"), digits > 0 {
            state = .extension
        } else if state == .size || !Syntax.isFieldValue(byte) {
            throw HTTP1Error(
                .chunkMalformed,
                "a chunk begins with its size in hexadecimal digits, and CR LF"
            )
        }
    }

    private mutating func beginChunk() throws(HTTP1Error) {
        // A plain size line costs nothing here; tiny chunks with long extensions add up.
        overheadBytes += lineBytes - 16
        overheadBytes = max(0, overheadBytes - min(remaining, Int(Int32.max)))
        guard overheadBytes <= HTTP1Limits.chunkOverheadBytes else {
            throw HTTP1Error(.chunkOverheadTooLarge, "chunk extensions outweigh the body")
        }
        guard remaining <= maximumBodyBytes - bodyBytes else {
            throw HTTP1Error(.bodyTooLarge, "a body has at most \(maximumBodyBytes) bytes")
        }
        state = remaining == 0 ? .trailerStart : .data
        digits = 0
        lineBytes = 0
    }

    private mutating func stepTrailer(_ byte: UInt8) throws(HTTP1Error) {
        trailerBytes += 1
        guard trailerBytes <= HTTP1Limits.trailerBytes else {
            throw HTTP1Error(
                .trailersTooLarge,
                "trailers have at most \(HTTP1Limits.trailerBytes) bytes"
            )
        }
        switch (state, byte) {
        case (.trailerStart, Syntax.carriageReturn): state = .lastLineFeed
        case (.trailerValue, Syntax.carriageReturn): state = .trailerLineFeed
        case (.trailerName, UInt8(ascii: ":")): state = .trailerValue
        case (.trailerStart, _) where Syntax.isToken(byte),
            (.trailerName, _) where Syntax.isToken(byte):
            state = .trailerName
        case (.trailerValue, _) where Syntax.isFieldValue(byte): break
        case (.trailerLineFeed, _):
            try expectLineFeed(byte)
            state = .trailerStart
        case (.lastLineFeed, _):
            try expectLineFeed(byte)
            state = .complete
        default:
            throw HTTP1Error(.headerMalformed, "a trailer is a name, a colon and a value")
        }
    }

    private func expectLineFeed(_ byte: UInt8) throws(HTTP1Error) {
        guard byte == Syntax.lineFeed else { throw HeadScanner.bareCarriageReturn }
    }
}
