// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTPServer
import WebSocketWire

/// One socket: what it sends comes back, compressed where that was agreed on.
final class EchoSession {
    private let stream: ByteStream
    private let deflater: MessageDeflater?
    private var reader: WebSocketReader
    private var unsent: [UInt8] = []
    private var isClosing = false
    private var hasFinished = false

    /// The suites send messages of 16 MiB, and 4 MiB in frames of 64 bytes.
    private static let messageBytesMax = 16 << 20
    private static let framesMax = 1 << 17

    init(_ upgraded: UpgradedStream) {
        stream = upgraded.stream
        deflater = upgraded.deflate.flatMap { MessageDeflater($0.window) }
        reader = WebSocketReader(
            from: .client, messageBytesMax: Self.messageBytesMax, framesMax: Self.framesMax,
            inflates: upgraded.deflate != nil)
    }

    func receive(_ bytes: borrowing Span<UInt8>) {
        guard !isClosing else { return }
        var messages: [WebSocketMessage] = []
        var failure: WebSocketError?
        do throws(WebSocketError) {
            try reader.read(bytes, to: &messages)
        } catch { failure = error }
        var output = ByteWriter()
        for message in messages { answer(message, to: &output) }
        if let failure, !isClosing {
            output.append(WebSocketFrame.close(failure.closeCode, reason: failure.detail))
            isClosing = true
        }
        unsent += output.bytes
        flush()
    }

    private func answer(_ message: WebSocketMessage, to output: inout ByteWriter) {
        switch message {
        case .text(let bytes): send(.text, bytes, to: &output)
        case .binary(let bytes): send(.binary, bytes, to: &output)
        case .ping(let bytes): WebSocketFrame.append(.pong, bytes.span, to: &output)
        case .pong: break
        case .close(let code, let reason):
            output.append(WebSocketFrame.close(code ?? .normal, reason: reason))
            isClosing = true
        }
    }

    private func send(_ opcode: WebSocketOpcode, _ bytes: [UInt8], to output: inout ByteWriter) {
        if let deflater {
            deflater.append(opcode, bytes.span, to: &output)
        } else {
            WebSocketFrame.append(opcode, bytes.span, to: &output)
        }
    }

    /// The stream takes bytes again, or there are some.
    func flush() {
        guard !hasFinished else { return }
        if !unsent.isEmpty {
            switch stream.write(unsent) {
            case .all: unsent = []
            case .some(let count): unsent.removeFirst(count)
            case .ended: return
            }
        }
        guard isClosing, unsent.isEmpty else { return }
        hasFinished = true
        stream.finish()
    }
}
