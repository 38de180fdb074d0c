// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import CLinux
import Glibc
import PosixIO
import TLSEngine
import Testing

/// One authority for all tests of this target.
let authority = Result { try TestAuthority() }

/// Two connected, nonblocking sockets.
final class SocketPair {
    var server: OwnedDescriptor?
    var client: OwnedDescriptor?
    let serverNumber: CInt
    let clientNumber: CInt

    init() throws {
        var numbers: [CInt] = [0, 0]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &numbers) == 0 else { throw Errno.current }
        (serverNumber, clientNumber) = (numbers[0], numbers[1])
        server = OwnedDescriptor(adopting: serverNumber)
        client = OwnedDescriptor(adopting: clientNumber)
    }
}

/// A server's and a client's session over a pair of sockets.
final class SessionPair {
    let server: TLSSession
    let client: TLSSession
    let sockets: SocketPair
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    init(
        _ context: TLSServerContext, _ settings: TLSClientSettings, host: String = "localhost"
    ) throws {
        sockets = try SocketPair()
        server = try TLSSession(
            server: context, descriptor: sockets.serverNumber, records: TLSRecordBuffer())
        client = try TLSSession(
            client: TLSClientContext(settings), descriptor: sockets.clientNumber, host: host,
            records: TLSRecordBuffer())
    }

    /// A pair that trusts each other and has shaken hands.
    static func established() throws -> SessionPair {
        let identity = try authority.get().issue("server")
        var settings = TLSClientSettings()
        settings.authorityFile = try authority.get().certificateFile
        let pair = try SessionPair(
            TLSServerContext(
                TLSServerSettings(
                    certificateFile: identity.certificateFile, keyFile: identity.keyFile)),
            settings)
        #expect(pair.shakeHands() == nil)
        return pair
    }

    /// Leads both handshakes to their end; the first error of either, or `nil`.
    func shakeHands() -> (server: TLSError?, client: TLSError?)? {
        var errors: (server: TLSError?, client: TLSError?) = (nil, nil)
        var isDone = (server: false, client: false)
        for _ in 0..<20 where !(isDone.server && isDone.client) {
            if !isDone.client {
                switch client.handshake() {
                case .done: isDone.client = true
                case .failed(let error): (errors.client, isDone.client) = (error, true)
                case .wantRead, .wantWrite: break
                }
            }
            if !isDone.server {
                switch server.handshake() {
                case .done: isDone.server = true
                case .failed(let error): (errors.server, isDone.server) = (error, true)
                case .wantRead, .wantWrite: break
                }
            }
        }
        guard errors.server == nil, errors.client == nil else { return errors }
        // The tickets of the server, each of which ends one read.
        for _ in 0..<2 { _ = read(client) }
        return nil
    }

    /// What one read of `session` gives: bytes, or the outcome that is none.
    func read(_ session: TLSSession) -> (bytes: [UInt8], outcome: TLSOutcome) {
        let outcome = unsafe buffer.withUnsafeMutableBytes { unsafe session.read(into: $0) }
        guard case .transferred(let count) = outcome else { return ([], outcome) }
        return (Array(buffer[..<count]), outcome)
    }

}

extension TLSSession {
    func write(_ bytes: [UInt8]) -> TLSOutcome { unsafe bytes.withUnsafeBytes { unsafe write($0) } }
}

/// Bytes that show where they are.
func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    (start..<start + count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
