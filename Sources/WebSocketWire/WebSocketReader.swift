// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a peer has said, whole and checked.
package enum WebSocketMessage: Sendable, Equatable {
    /// Valid UTF-8.
    case text([UInt8])
    case binary([UInt8])
    case ping([UInt8])
    case pong([UInt8])
    /// The peer closes; nothing of it is read after this. `nil` where it gave no code.
    case close(WebSocketCloseCode?, reason: String)
}

/// Reads one direction of a WebSocket: bytes in, messages out (RFC 6455, sections 5 to 7).
///
/// View: connection. It does no input or output and answers nothing by itself. Between messages it
/// holds no memory of its own: the frame reader lives from the first byte of a frame to the last.
package struct WebSocketReader: ~Copyable {
    /// Whose bytes are read. A client masks its frames, a server does not.
    package enum Peer: Sendable {
        case client
        case server
    }

    /// Frames that one message may come in; empty ones count, which would cost their sender nothing.
    package static let framesPerMessage = 1024

    private let peer: Peer
    private let messageBytesMax: Int
    private let framesMax: Int
    /// permessage-deflate was agreed on, so a message may be compressed.
    private let inflates: Bool

    private var context: FrameContext?
    /// Bytes given to the frame reader that belong to no frame that has ended.
    private var openBytes: UInt64 = 0
    /// Bytes of payload that the frame in progress still needs; `nil` between frames.
    private var payloadLeft: UInt64?

    /// The kind of the message in progress; control frames may come in between its frames.
    private var kind: WebSocketOpcode?
    private var message: [UInt8] = []
    /// Bytes of the message's frames so far: those of ``message``, or fewer or more where it is
    /// compressed.
    private var messageWireBytes = 0
    /// There while a compressed message is read. The next one refers to nothing of it.
    private var inflater: MessageInflater?
    private var frameCount = 0
    private var text = UTF8Check()
    private var control: [UInt8] = []
    /// The peer has closed or has broken the protocol.
    private var isOver = false

    /// - Parameters:
    ///   - messageBytesMax: What a message may hold, on the wire and, where it is compressed,
    ///     after it was decompressed. No more than that is ever made of it.
    ///   - framesMax: Frames that one message may come in.
    ///   - inflates: permessage-deflate was agreed on, without context takeover.
    package init(
        from peer: Peer, messageBytesMax: Int, framesMax: Int = Self.framesPerMessage,
        inflates: Bool = false
    ) {
        self.peer = peer
        self.messageBytesMax = messageBytesMax
        self.framesMax = framesMax
        self.inflates = inflates
    }

    /// True while the reader holds part of a message.
    package var isInMessage: Bool { context != nil || kind != nil }

    /// Reads `input` and appends what is complete to `messages`.
    ///
    /// After a close or an error, input is ignored. What was complete before an error is in
    /// `messages` all the same.
    package mutating func read(
        _ input: borrowing Span<UInt8>, to messages: inout [WebSocketMessage]
    ) throws(WebSocketError) {
        guard !isOver, !input.isEmpty else { return }
        guard let context = context ?? FrameContext() else {
            isOver = true
            throw WebSocketError(.outOfMemory, "no memory to read a frame")
        }
        self.context = context
        openBytes += UInt64(input.count)
        do throws(WebSocketError) {
            try context.read(input) { (head, part) throws(WebSocketError) -> Bool in
                try take(part, of: head, to: &messages)
                return !isOver
            }
        } catch {
            end()
            throw error
        }
        if isOver {
            end()
        } else if payloadLeft == nil, openBytes == 0 {
            self.context = nil
        }
    }

    private mutating func end() {
        isOver = true
        context = nil
        kind = nil
        message = []
        inflater = nil
        control = []
    }

    // MARK: - Frames

    private mutating func take(
        _ part: borrowing Span<UInt8>, of head: FrameHead, to messages: inout [WebSocketMessage]
    ) throws(WebSocketError) {
        let opcode = try payloadLeft == nil ? begin(head) : Self.opcode(head)
        if opcode.isControl {
            control.append(part)
        } else {
            messageWireBytes += part.count
            try append(part)
        }
        let left = (payloadLeft ?? head.payloadBytes) - UInt64(part.count)
        payloadLeft = left
        guard left == 0 else { return }
        payloadLeft = nil
        openBytes -= head.wireBytes
        if opcode.isControl {
            messages.append(try finishControl(opcode))
        } else if head.isFinal {
            messages.append(try finishMessage())
        }
    }

    /// Checks the head of a frame that begins.
    private mutating func begin(_ head: FrameHead) throws(WebSocketError) -> WebSocketOpcode {
        let isCompressed = inflates && head.reservedBits == Self.compressedBit
        guard head.reservedBits == 0 || isCompressed else {
            throw WebSocketError(
                .frameMalformed, "a reserved bit is set that no extension agreed on gives a meaning"
            )
        }
        guard head.isMasked == (peer == .client) else {
            throw WebSocketError(
                .frameMalformed,
                peer == .client ? "a client masks its frames" : "a server masks no frame")
        }
        let opcode = try Self.opcode(head)
        guard !isCompressed || opcode == .text || opcode == .binary else {
            throw WebSocketError(
                .frameMalformed, "only the first frame of a message says that it is compressed")
        }
        switch opcode {
        case .close, .ping, .pong: return opcode
        case .continuation:
            guard kind != nil else {
                throw WebSocketError(.frameMalformed, "there is no message to continue")
            }
            frameCount += 1
        case .text, .binary:
            guard kind == nil else {
                throw WebSocketError(
                    .frameMalformed, "a message begins before the one before has ended")
            }
            kind = opcode
            frameCount = 1
            messageWireBytes = 0
            text = UTF8Check()
            if isCompressed { inflater = try MessageInflater() }
        }
        guard frameCount <= framesMax else {
            throw WebSocketError(
                .messageTooLarge, "a message comes in at most \(framesMax) frames")
        }
        guard head.payloadBytes <= UInt64(messageBytesMax - messageWireBytes) else {
            throw tooLarge
        }
        return opcode
    }

    /// RSV1, as wslay gives the three reserved bits (RFC 7692, section 6).
    private static let compressedBit: UInt8 = 0b100

    private var tooLarge: WebSocketError {
        WebSocketError(.messageTooLarge, "a message has at most \(messageBytesMax) bytes")
    }

    private static func opcode(_ head: FrameHead) throws(WebSocketError) -> WebSocketOpcode {
        guard let opcode = WebSocketOpcode(rawValue: head.opcode) else {
            throw WebSocketError(.frameMalformed, "opcode \(head.opcode) is reserved")
        }
        return opcode
    }

    private static let notUTF8 = WebSocketError(
        .textNotUTF8, "a text message and a reason to close are UTF-8")

    // MARK: - Messages

    /// Appends what came of the message in progress, and looks at its text at once: what is wrong
    /// with the beginning of a message does not wait for its end.
    private mutating func append(_ part: borrowing Span<UInt8>) throws(WebSocketError) {
        guard let inflater else {
            if kind == .text, !text.accept(part) { throw Self.notUTF8 }
            return message.append(part)
        }
        let known = message.count
        let outcome = inflater.inflate(part, to: &message, bytesMax: messageBytesMax)
        try checkInflated(from: known, outcome)
    }

    /// What was decompressed before a fault comes before the fault, however the bytes were cut.
    private mutating func checkInflated(from known: Int, _ outcome: MessageInflater.Outcome)
        throws(WebSocketError)
    {
        if kind == .text {
            var text = text
            guard text.accept(message.span.extracting(known..<message.count)) else {
                throw Self.notUTF8
            }
            self.text = text
        }
        switch outcome {
        case .more: return
        case .tooLarge: throw tooLarge
        case .malformed:
            throw WebSocketError(
                .deflateMalformed, "a compressed message is deflate, up to the end of a block")
        }
    }

    private mutating func finishMessage() throws(WebSocketError) -> WebSocketMessage {
        if let inflater {
            let known = message.count
            let outcome = inflater.finish(to: &message, bytesMax: messageBytesMax)
            try checkInflated(from: known, outcome)
            self.inflater = nil
        }
        let bytes = message
        let isText = kind == .text
        message = []
        kind = nil
        guard isText else { return .binary(bytes) }
        guard text.isComplete else { throw Self.notUTF8 }
        return .text(bytes)
    }

    private mutating func finishControl(_ opcode: WebSocketOpcode) throws(WebSocketError)
        -> WebSocketMessage
    {
        let bytes = control
        control = []
        switch opcode {
        case .ping: return .ping(bytes)
        case .pong: return .pong(bytes)
        default: return try close(bytes)
        }
    }

    private mutating func close(_ body: [UInt8]) throws(WebSocketError) -> WebSocketMessage {
        isOver = true
        guard !body.isEmpty else { return .close(nil, reason: "") }
        guard body.count >= 2 else {
            throw WebSocketError(.frameMalformed, "a close frame with a body begins with a code")
        }
        let code = WebSocketCloseCode(rawValue: UInt16(body[0]) << 8 | UInt16(body[1]))
        guard code.isForTheWire else {
            throw WebSocketError(.frameMalformed, "close code \(code) is not for the wire")
        }
        guard let reason = String(validating: body[2...], as: UTF8.self) else {
            throw Self.notUTF8
        }
        return .close(code, reason: reason)
    }
}

extension [UInt8] {
    fileprivate mutating func append(_ part: borrowing Span<UInt8>) {
        unsafe part.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }
}
