// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire

/// Puts requests together, each from however many reads it takes.
///
/// It does no input or output: bytes in, and out what to do about them. Of a head that is not
/// whole the caller keeps the bytes; of a body nothing is left with the caller.
struct RequestReader {
    enum Step {
        /// The rest of the input, where there is any, is the beginning of something.
        case needMore
        /// The same, and the client waits for `100 Continue` before it sends the body.
        case needMoreAfterContinue
        case request(HTTP1RequestHead, body: [UInt8])
    }

    private let bodyLimit: Int
    private var parser: HTTP1RequestParser
    /// The head of the request whose body is being read.
    private var head: HTTP1RequestHead?
    private var decoder: ChunkedBodyDecoder?
    private var bytesLeft = 0
    private var body = ByteWriter()

    init(limits: HTTP1Limits) {
        bodyLimit = limits.bodyBytes
        parser = HTTP1RequestParser(limits: limits)
    }

    /// True from the end of a head to the end of its body.
    var isInBody: Bool { head != nil }

    /// Bytes of the body that are held.
    var bodyBytes: Int { body.count }

    /// Reads on.
    ///
    /// - Parameter input: All bytes that were not consumed yet.
    /// - Returns: What to do, and how many of the bytes are used up.
    mutating func read(
        _ input: borrowing Span<UInt8>
    ) throws(HTTP1Error) -> (step: Step, consumed: Int) {
        guard head == nil else { return try readBody(input, from: 0) }
        guard case .head(let head, let consumed) = try parser.parse(input) else {
            return (.needMore, 0)
        }
        switch head.body {
        case .none: return (.request(head, body: []), consumed)
        case .length(let count): bytesLeft = count
        case .chunked: decoder = ChunkedBodyDecoder(maximumBodyBytes: bodyLimit)
        }
        self.head = head
        let outcome = try readBody(input, from: consumed)
        if case .needMore = outcome.step, head.expectsContinue, consumed == input.count {
            return (.needMoreAfterContinue, outcome.consumed)
        }
        return outcome
    }

    private mutating func readBody(
        _ input: borrowing Span<UInt8>, from start: Int
    ) throws(HTTP1Error) -> (step: Step, consumed: Int) {
        let rest = input.extracting(start..<input.count)
        var used = 0
        var isComplete = false
        if decoder != nil {
            used = try decoder!.decode(rest, into: &body)
            isComplete = decoder!.isComplete
        } else {
            used = min(bytesLeft, rest.count)
            body.append(rest.extracting(0..<used))
            bytesLeft -= used
            isComplete = bytesLeft == 0
        }
        guard isComplete, let head else { return (.needMore, start + used) }
        let bytes = body.bytes
        self.head = nil
        decoder = nil
        body = ByteWriter()
        return (.request(head, body: bytes), start + used)
    }
}

/// How many bytes the connections of a listener hold of requests that are not whole.
final class HeldBytes {
    private(set) var count = 0

    func add(_ more: Int) { count += more }
}

/// What a connection holds of requests that were not handled yet; made only when there is some.
final class PartialRequest {
    /// Which part of the request has a deadline already, so that bytes that dribble in do not
    /// move it.
    enum Part {
        case none
        case head
        case body
    }

    var timedPart = Part.none
    private var reader: RequestReader
    /// Bytes from `start` on that the reader has not consumed.
    private var input: [UInt8]
    private var start = 0
    private let total: HeldBytes
    private var counted = 0

    init(_ reader: RequestReader, rest: borrowing Span<UInt8>, total: HeldBytes) {
        self.reader = reader
        self.total = total
        input = unsafe rest.withUnsafeBufferPointer { unsafe Array($0) }
        count()
    }

    deinit { total.add(-counted) }

    private func count() {
        let held = input.count + reader.bodyBytes
        total.add(held - counted)
        counted = held
    }

    /// True where nothing of a request has come.
    var isEmpty: Bool { start == input.count && !reader.isInBody }
    var isInBody: Bool { reader.isInBody }

    /// What follows the requests that were read, for another protocol.
    var unreadBytes: [UInt8] { Array(input[start...]) }

    func append(_ bytes: borrowing Span<UInt8>) {
        if start > 0 {
            input.removeFirst(start)
            start = 0
        }
        unsafe bytes.withUnsafeBufferPointer { unsafe input.append(contentsOf: $0) }
        count()
    }

    func read() throws(HTTP1Error) -> RequestReader.Step {
        let held = input
        let (step, consumed) = try reader.read(held.span.extracting(start..<held.count))
        start += consumed
        if start == input.count {
            input = []
            start = 0
        }
        count()
        if case .request = step { timedPart = .none }
        return step
    }

    /// What the reader has not consumed.
    var unread: ArraySlice<UInt8> { input[start...] }

    /// TLS speaks first, with a handshake record (RFC 8446, section 5.1).
    var beginsLikeTLS: Bool { start < input.count && input[start] == 0x16 }
}
