// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import Glibc
import PosixIO
import TLSEngine
import Testing

@Suite("TLS sessions")
struct SessionTests {
    @Test("a server and a client that trust it agree on TLS 1.3")
    func agreement() throws {
        let pair = try SessionPair.established()
        #expect(pair.server.agreement.version == .v13)
        #expect(pair.client.agreement.cipher == pair.server.agreement.cipher)
        #expect(pair.server.agreement.applicationProtocol == nil)
        #expect(!pair.server.agreement.isResumed)
    }

    @Test("bytes arrive as they were written, however slowly they are read")
    func slowReader() throws {
        let pair = try SessionPair.established()
        let sent = pattern(3_000_000)
        var offered = 0
        var received: [UInt8] = []
        var wasFull = false
        while received.count < sent.count {
            while offered < sent.count {
                let chunk = Array(sent[offered..<min(sent.count, offered + 50_000)])
                guard case .transferred(let count) = pair.server.write(chunk), count > 0 else {
                    wasFull = true
                    break
                }
                offered += count
                if count < chunk.count { #expect(pair.server.holdsUnsent) }
            }
            _ = pair.server.flush()
            while case let (bytes, .transferred) = pair.read(pair.client) { received += bytes }
        }
        #expect(wasFull)
        let isSame = received == sent
        #expect(isSame, "\(received.count) bytes of \(sent.count)")
        #expect(!pair.server.holdsUnsent && pair.server.heldCount == 0)
    }

    @Test("what a write took is sent even where the caller goes on with something else")
    func heldRecord() throws {
        let pair = try SessionPair.established()
        var taken: [UInt8] = []
        let chunk = pattern(10_000)
        while !pair.server.holdsUnsent {
            guard case .transferred(let count) = pair.server.write(chunk) else { break }
            taken += chunk[..<count]
        }
        #expect(pair.server.holdsUnsent)
        guard case .wantWrite = pair.server.write([1, 2, 3]) else {
            Issue.record("a full session took more")
            return
        }
        var received: [UInt8] = []
        while received.count < taken.count {
            while case let (bytes, .transferred) = pair.read(pair.client) { received += bytes }
            _ = pair.server.flush()
        }
        let isSame = received == taken
        #expect(isSame, "\(received.count) bytes of \(taken.count)")
        guard case .transferred(3) = pair.server.write([7, 8, 9]) else {
            Issue.record("an emptied session takes nothing")
            return
        }
        #expect(pair.read(pair.client).bytes == [7, 8, 9])
    }

    @Test("short pieces share a record, and long ones are cut", arguments: [0, 1, 5000, 40_000])
    func pieces(long: Int) throws {
        let pair = try SessionPair.established()
        let parts = [pattern(3), [], pattern(300, from: 3), pattern(long), pattern(20_000), [1]]
        var outcome = TLSOutcome.transferred(0)
        let raw = parts.flatMap { $0 }
        unsafe raw.withUnsafeBytes { raw in
            var pieces: [iovec] = unsafe []
            var start = 0
            for part in parts {
                let base = unsafe UnsafeMutableRawPointer(mutating: raw.baseAddress! + start)
                unsafe pieces.append(iovec(iov_base: base, iov_len: part.count))
                start += part.count
            }
            outcome = unsafe pieces.withUnsafeBufferPointer { buffer in
                unsafe pair.server.write(pieces: buffer)
            }
        }
        guard case .transferred(raw.count) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        var received: [UInt8] = []
        while case let (bytes, .transferred) = pair.read(pair.client) { received += bytes }
        let isSame = received == raw
        #expect(isSame, "\(received.count) bytes of \(raw.count)")
    }

    @Test("an end that was said is read as the end, and so is a connection that just stops")
    func ends() throws {
        let said = try SessionPair.established()
        #expect(said.server.closeWriting())
        guard case .closed = said.read(said.client).outcome else {
            Issue.record("close_notify is not seen")
            return
        }
        let cut = try SessionPair.established()
        cut.sockets.client = nil
        guard case .closed = cut.read(cut.server).outcome else {
            Issue.record("the end of the socket is not seen")
            return
        }
        // The peer has gone: an error, and no signal.
        var last = cut.server.write(pattern(100_000))
        for _ in 0..<3 { last = cut.server.write(pattern(100_000)) }
        if case .transferred = last { Issue.record("a closed socket takes bytes") }
    }

    @Test("a session that failed leaves no error behind for its neighbours")
    func errorsStayApart() throws {
        let healthy = try SessionPair.established()
        let broken = try SessionPair.established()
        let garbage = [UInt8](repeating: 0x17, count: 64)
        _ = unsafe write(broken.sockets.clientNumber, garbage, garbage.count)
        guard case .failed = broken.read(broken.server).outcome else {
            Issue.record("garbage is read")
            return
        }
        guard case .wantRead = healthy.read(healthy.server).outcome else {
            Issue.record("the neighbour fails too")
            return
        }
        #expect(broken.server.closeWriting())
        if case .transferred = broken.server.write([1]) { Issue.record("a failed session writes") }
    }

    @Test(
        "what is no TLS is told apart",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", TLSError.Code.plainHTTP),
            ("\u{1}\u{2}\u{3}hello you", .notTLS),
        ])
    func foreign(text: String, code: TLSError.Code) throws {
        let identity = try authority.get().issue("foreign-\(code.rawValue)")
        let pair = try SessionPair(
            TLSServerContext(
                TLSServerSettings(
                    certificateFile: identity.certificateFile, keyFile: identity.keyFile)),
            TLSClientSettings())
        let bytes = Array(text.utf8)
        _ = unsafe write(pair.sockets.clientNumber, bytes, bytes.count)
        guard case .failed(let error) = pair.server.handshake() else {
            Issue.record("\(text) is taken for TLS")
            return
        }
        #expect(error.code == code)
        #expect(!error.isRetriable)
    }

    @Test("random bytes in a handshake or after it end the session and nothing else")
    func hostileBytes() throws {
        var random = SystemRandomNumberGenerator()
        let identity = try authority.get().issue("hostile")
        let context = try TLSServerContext(
            TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile))
        for round in 0..<300 {
            let sockets = try SocketPair()
            let session = try TLSSession(
                server: context, descriptor: sockets.serverNumber, records: TLSRecordBuffer())
            var bytes: [UInt8] = round % 2 == 0 ? [0x16, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3] : []
            for _ in 0..<120 { bytes.append(UInt8.random(in: 0...255, using: &random)) }
            _ = unsafe write(sockets.clientNumber, bytes, bytes.count)
            sockets.client = nil
            var step = session.handshake()
            if case .wantRead = step { step = session.handshake() }
            guard case .failed = step else {
                Issue.record("\(bytes) became a session: \(step)")
                return
            }
        }
    }
}
