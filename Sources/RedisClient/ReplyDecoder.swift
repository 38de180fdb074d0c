// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CHiredis

/// Turns bytes from a server into replies, with hiredis' reader and bounds of its own.
///
/// Threads: one. hiredis calls back for each value it has read whole; the callbacks here write
/// the value into two flat arrays instead of the tree of allocations that hiredis would build,
/// and refuse an array or string that would go past a bound before memory is taken for it.
/// After an error the decoder is of no use: the position in the stream is lost.
///
/// Source: RESP2, https://redis.io/docs/reference/protocol-spec; hiredis 0.14 `read.h`.
@safe
package final class ReplyDecoder {
    /// An incomplete line longer than this is no line that Redis sends. The reader looks for its
    /// end from its beginning at each feed, so the bound also bounds that work.
    static let lineBytesMax = 64 << 10

    private let reader: UnsafeMutablePointer<redisReader>
    private let functions: UnsafeMutablePointer<redisReplyObjectFunctions>
    private let builder: ReplyBuilder

    package init(bytesMax: Int, elementsMax: Int) {
        builder = ReplyBuilder(bytesMax: bytesMax, elementsMax: elementsMax)
        unsafe functions = .allocate(capacity: 1)
        unsafe functions.initialize(to: redisReplyObjectFunctions())
        unsafe Self.fill(functions)
        guard let reader = unsafe redisReaderCreateWithFunctions(functions) else {
            fatalError("no memory for a reply reader")
        }
        unsafe self.reader = reader
        // The builder lives as long as this object, which frees the reader first.
        unsafe reader.pointee.privdata = Unmanaged.passUnretained(builder).toOpaque()
        // An empty read buffer up to this size is kept for the next reply.
        unsafe reader.pointee.maxbuf = 256 << 10
    }

    deinit {
        unsafe redisReaderFree(reader)
        unsafe functions.deallocate()
    }

    /// Takes bytes as they came; they are copied.
    package func feed(_ bytes: Span<UInt8>) throws(RedisError) {
        let status = unsafe bytes.withUnsafeBytes { raw in
            unsafe redisReaderFeed(
                reader, raw.baseAddress?.assumingMemoryBound(to: CChar.self), raw.count)
        }
        guard status == REDIS_OK else { throw failure() }
    }

    /// The next whole reply, or `nil` where more bytes are needed.
    package func next() throws(RedisError) -> DecodedReply? {
        var root: UnsafeMutableRawPointer?
        guard unsafe redisReaderGetReply(reader, &root) == REDIS_OK else { throw failure() }
        guard unsafe root != nil else {
            try checkIncomplete()
            return nil
        }
        return builder.take()
    }

    /// Gives the memory of a reply back for the next one.
    package func recycle(_ reply: consuming DecodedReply) { builder.recycle(reply) }

    /// Refuses what would go past a bound before it has arrived.
    ///
    /// Where the unread bytes begin with digits and a line end, they are the length of a bulk
    /// string that is not whole yet: the reader has taken the type before them and would have
    /// taken any other whole line.
    private func checkIncomplete() throws(RedisError) {
        let unread = unsafe Int(reader.pointee.len) - Int(reader.pointee.pos)
        guard unread > 0, let start = unsafe reader.pointee.buf else { return }
        let bytes = unsafe UnsafeBufferPointer(
            start: start + Int(reader.pointee.pos), count: unread)
        var length: UInt64 = 0
        var digits = 0
        while digits < min(unread, 20) {
            let byte = unsafe UInt8(bitPattern: bytes[digits])
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { break }
            length = length &* 10 &+ UInt64(byte - UInt8(ascii: "0"))
            digits += 1
        }
        let isBulk = unsafe digits > 0 && digits < unread && bytes[digits] == 13
        if isBulk {
            guard digits < 19, length <= UInt64(builder.bytesLeft) else {
                throw builder.tooManyBytes(digits < 19 ? "\(length)" : "10^18 or more")
            }
        } else if unread > Self.lineBytesMax {
            throw RedisError(
                .protocolViolated, "a line of the reply is longer than \(Self.lineBytesMax) bytes")
        }
    }

    private func failure() -> RedisError {
        if let refusal = builder.refusal { return refusal }
        let text = unsafe withUnsafeBytes(of: reader.pointee.errstr) {
            unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return RedisError(.protocolViolated, "the reply is not RESP2: \(text)")
    }

    /// The callbacks. Each is called by `redisReaderGetReply`, on its caller's thread, with a task
    /// that names the place of the value; what they return stands for the value in later tasks,
    /// and a null return makes the reader fail.
    private static func fill(_ functions: UnsafeMutablePointer<redisReplyObjectFunctions>) {
        unsafe functions.pointee.createString = { task, bytes, count in
            let kind: RedisReplyView.Kind =
                switch unsafe task!.pointee.type {
                case REDIS_REPLY_ERROR: .error
                case REDIS_REPLY_STATUS: .simple
                default: .bulk
                }
            return unsafe ReplyBuilder.of(task).addString(
                kind, UnsafeRawBufferPointer(start: bytes, count: Int(count)), at: Place(task))
        }
        unsafe functions.pointee.createArray = { task, count in
            unsafe ReplyBuilder.of(task).addArray(Int(count), at: Place(task))
        }
        unsafe functions.pointee.createInteger = { task, value in
            unsafe ReplyBuilder.of(task).add(
                ReplyNode(kind: .integer, first: Int(value), count: 0), at: Place(task))
        }
        unsafe functions.pointee.createNil = { task in
            unsafe ReplyBuilder.of(task).add(.null, at: Place(task))
        }
    }
}

/// Where in a reply a value belongs.
private struct Place {
    /// The node of the array that holds it, or `nil` for the root.
    let parent: Int?
    let index: Int

    init(_ task: UnsafePointer<redisReadTask>?) {
        // An object is its node's index plus one, so that none is a null pointer.
        parent = unsafe task!.pointee.parent.map { unsafe Int(bitPattern: $0.pointee.obj) - 1 }
        index = unsafe Int(task!.pointee.idx)
    }
}

/// Writes the values of one reply where they belong.
private final class ReplyBuilder {
    private let bytesMax: Int
    private let elementsMax: Int
    private var reply = DecodedReply()
    /// The bound that made the reader fail, where one did.
    private(set) var refusal: RedisError?

    init(bytesMax: Int, elementsMax: Int) {
        self.bytesMax = bytesMax
        self.elementsMax = elementsMax
    }

    static func of(_ task: UnsafePointer<redisReadTask>?) -> ReplyBuilder {
        unsafe Unmanaged<ReplyBuilder>.fromOpaque(task!.pointee.privdata).takeUnretainedValue()
    }

    var bytesLeft: Int { bytesMax - reply.payload.count }

    func tooManyBytes(_ length: String) -> RedisError {
        RedisError(
            .protocolViolated,
            "a string of \(length) bytes takes the reply past its limit of \(bytesMax)")
    }

    func take() -> DecodedReply {
        var taken = DecodedReply()
        swap(&taken, &reply)
        return taken
    }

    func recycle(_ used: consuming DecodedReply) {
        guard reply.nodes.isEmpty else { return }
        reply = used
        reply.reset()
    }

    func addString(
        _ kind: RedisReplyView.Kind, _ bytes: UnsafeRawBufferPointer, at place: Place
    ) -> UnsafeMutableRawPointer? {
        guard bytes.count <= bytesLeft else {
            refusal = tooManyBytes("\(bytes.count)")
            return nil
        }
        let first = reply.payload.count
        unsafe reply.payload.append(contentsOf: bytes)
        return unsafe add(ReplyNode(kind: kind, first: first, count: bytes.count), at: place)
    }

    func addArray(_ count: Int, at place: Place) -> UnsafeMutableRawPointer? {
        // The root's own node has no place yet when it is an array.
        let taken = max(reply.nodes.count, 1)
        guard count <= elementsMax - taken else {
            refusal = RedisError(
                .protocolViolated,
                "an array of \(count) elements takes the reply past its limit of \(elementsMax)")
            return nil
        }
        let node = unsafe add(ReplyNode(kind: .array, first: taken, count: count), at: place)
        reply.nodes.append(contentsOf: repeatElement(.null, count: count))
        return unsafe node
    }

    func add(_ node: ReplyNode, at place: Place) -> UnsafeMutableRawPointer? {
        var index = 0
        if let parent = place.parent {
            index = reply.nodes[parent].first + place.index
            reply.nodes[index] = node
        } else {
            reply.nodes.append(node)
        }
        return unsafe UnsafeMutableRawPointer(bitPattern: index + 1)
    }
}
