// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import TLSEngine

/// One connection of a load, with the streams on it.
final class StreamConnection {
    let form: ClientForm
    /// Streams asked for, of which so many have begun and so many have ended.
    let streams: Int
    var streamsBegun = 0
    var streamsEnded = 0
    /// Set where what came makes no sense.
    var isBroken = false
    /// The beginning of an event, of the response's head, or of a frame.
    var carry: [UInt8] = []
    /// The beginning of an event, by stream, over HTTP/2.
    var streamCarry: [UInt32: [UInt8]] = [:]
    let decompressor: StreamDecompressor?
    private let socket: OwnedDescriptor
    private var session: TLSSession?

    init(_ socket: consuming OwnedDescriptor, form: ClientForm, streams: Int) {
        self.socket = socket
        self.form = form
        self.streams = streams
        decompressor = StreamDecompressor(form)
    }

    var isEncrypted: Bool { session != nil }

    func request(for target: StreamLoad.Target) -> [UInt8] {
        let authority = "127.0.0.1:\(target.port)"
        guard form != .http2 else {
            return HTTP2Frames.opening(path: target.path, authority: authority, streams: streams)
        }
        let coding = form.acceptEncoding.map { "Accept-Encoding: \($0)\r\n" } ?? ""
        return Array(
            ("GET \(target.path) HTTP/1.1\r\nHost: \(authority)\r\n"
                + "Accept: text/event-stream\r\n\(coding)\(target.headers)\r\n").utf8)
    }

    /// Shakes hands; the socket still blocks.
    func encrypt(_ trust: TLSClientContext, _ records: TLSRecordBuffer) throws(BenchmarkError) {
        do throws(TLSError) {
            let session = try TLSSession(
                client: trust, descriptor: socket.number, host: "localhost", records: records)
            guard case .done = session.handshake() else {
                throw TLSError(.engineFailed, "the handshake did not come to an end")
            }
            self.session = session
        } catch {
            throw BenchmarkError(.failed, "TLS: \(error)")
        }
    }

    /// Sends all of `bytes` now; false where the socket does not take them.
    func send(_ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            guard let session else {
                return unsafe StreamSocket.write(socket.number, bytes)
                    == .transferred(bytes.count)
            }
            guard case .transferred(let count) = unsafe session.write(bytes) else { return false }
            return count == bytes.count && !session.holdsUnsent
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> TransferOutcome {
        guard let session else { return unsafe StreamSocket.read(socket.number, into: buffer) }
        switch unsafe session.read(into: buffer) {
        case .transferred(let count): return .transferred(count)
        case .wantRead, .wantWrite: return .wouldBlock
        case .closed: return .endOfFile
        case .failed: return .failed(Errno(EPROTO))
        }
    }

    func resetOnClose() {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        let size = socklen_t(MemoryLayout<Glibc.linger>.size)
        _ = unsafe setsockopt(socket.number, SOL_SOCKET, SO_LINGER, &linger, size)
    }
}
