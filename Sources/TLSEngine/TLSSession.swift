// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import CLinux
import COpenSSL
import Glibc
import PosixIO

/// What a call on a session did.
package enum TLSOutcome: Sendable {
    case transferred(Int)
    /// Call again when the socket is readable.
    case wantRead
    /// Call again when the socket is writable.
    case wantWrite
    /// The peer has ended the session.
    case closed
    /// The session is of no more use.
    case failed(TLSError)
}

/// How far a handshake has come.
package enum TLSHandshakeStep: Sendable {
    case done
    case wantRead
    case wantWrite
    case failed(TLSError)
}

/// TLS on one connected, nonblocking socket, which it reads and writes itself but does not own.
///
/// View: connection. Threads: one at a time, in practice its loop's. End it before the socket is
/// closed. Where the kernel can encrypt (kTLS) it does from the end of the handshake on.
///
/// A write takes bytes as a socket does: what it has taken reaches the peer without being offered
/// again. A record that the socket was too full for is kept here (``holdsUnsent``) until
/// ``flush()``, and meanwhile nothing more is taken. Sources: RFC 8446, RFC 5246; ssl(7).
@safe
package final class TLSSession {
    /// What one record carries at most (RFC 8446, section 5.1).
    package static let recordBytes = 16_384

    private let ssl: OpaquePointer
    private let descriptor: CInt
    /// A ``TLSServerContext`` or ``TLSClientContext``: OpenSSL calls back into what it holds.
    private let context: AnyObject
    private let records: TLSRecordBuffer
    /// The bytes of the record that the socket was too full for. OpenSSL wants the same ones again.
    private var held: [UInt8] = []
    /// What a read met after the bytes that it returned.
    private var nextRead: TLSOutcome?
    private var isEstablished = false
    /// Nothing may be called on a session that has failed, not even to close it.
    private var hasFailed = false
    private var closeIsSent = false
    private var kernelSends = false

    /// Takes the server's part on `descriptor`.
    package convenience init(
        server context: TLSServerContext, descriptor: CInt, records: TLSRecordBuffer
    ) throws(TLSError) {
        let ssl = unsafe try Self.make(context.handle, descriptor)
        unsafe SSL_set_accept_state(ssl)
        unsafe self.init(ssl, descriptor, context, records)
    }

    /// Takes the client's part on `descriptor`.
    ///
    /// - Parameter host: The name or numeric address that the server's certificate must be for.
    package convenience init(
        client context: TLSClientContext, descriptor: CInt, host: String, records: TLSRecordBuffer
    ) throws(TLSError) {
        let ssl = unsafe try Self.make(context.handle, descriptor)
        unsafe SSL_set_connect_state(ssl)
        unsafe self.init(ssl, descriptor, context, records)
        try expect(host: host, isVerified: context.settings.verifiesServer)
    }

    private init(
        _ ssl: OpaquePointer, _ descriptor: CInt, _ context: AnyObject, _ records: TLSRecordBuffer
    ) {
        unsafe self.ssl = ssl
        self.descriptor = descriptor
        self.context = context
        self.records = records
    }

    deinit { unsafe SSL_free(ssl) }

    private static func make(
        _ context: borrowing ContextHandle, _ descriptor: CInt
    ) throws(TLSError) -> OpaquePointer {
        ErrorQueue.clear()
        guard let ssl = unsafe SSL_new(context.raw) else {
            throw TLSError(.engineFailed, "SSL_new: \(ContextHandle.cause)")
        }
        guard unsafe SSL_set_fd(ssl, descriptor) == 1 else {
            unsafe SSL_free(ssl)
            throw TLSError(.engineFailed, "SSL_set_fd: \(ContextHandle.cause)")
        }
        return unsafe ssl
    }

    private func expect(host: String, isVerified: Bool) throws(TLSError) {
        let isNumeric = SocketAddress(numericHost: host, port: 0) != nil
        var isSet = true
        // RFC 6066, section 3: an address is no server name.
        if !isNumeric { isSet = unsafe copenssl_set_server_name(ssl, host) == 1 }
        if isVerified {
            unsafe SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            let parameters = unsafe SSL_get0_param(ssl)
            let accepted =
                unsafe isNumeric
                ? X509_VERIFY_PARAM_set1_ip_asc(parameters, host) : SSL_set1_host(ssl, host)
            isSet = isSet && accepted == 1
        }
        guard isSet else {
            throw TLSError(.engineFailed, "\"\(host)\" cannot be a server name")
        }
    }

    // MARK: - The handshake

    /// Goes on with the handshake as far as the socket allows.
    package func handshake() -> TLSHandshakeStep {
        guard !isEstablished else { return .done }
        ErrorQueue.clear()
        let status = unsafe SSL_do_handshake(ssl)
        if status == 1 {
            isEstablished = true
            kernelSends = unsafe copenssl_kernel_sends(ssl) != 0
            return .done
        }
        switch outcome(of: status, Errno.current) {
        case .wantRead, .transferred: return .wantRead
        case .wantWrite: return .wantWrite
        case .closed:
            hasFailed = true
            return .failed(TLSError(.peerClosed, "the peer closed during the handshake"))
        case .failed(let error): return .failed(error)
        }
    }

    /// What the handshake has agreed on.
    package struct Agreement: Sendable, Equatable {
        package let version: TLSVersion
        package let cipher: String
        /// By ALPN, where the client asked.
        package let applicationProtocol: String?
        /// The session goes on from an earlier one, without certificates.
        package let isResumed: Bool
        /// The kernel encrypts what is sent, or decrypts what is received.
        package let kernelSends: Bool
        package let kernelReceives: Bool
    }

    /// Call it once the handshake is done.
    package var agreement: Agreement {
        var name: UnsafePointer<UInt8>?
        var count: CUnsignedInt = 0
        unsafe SSL_get0_alpn_selected(ssl, &name, &count)
        let chosen = unsafe UnsafeBufferPointer(start: name, count: Int(count))
        let cipher = unsafe Self.cipherName(ssl)
        return Agreement(
            version: unsafe SSL_version(ssl) == TLS1_3_VERSION ? .v13 : .v12, cipher: cipher,
            applicationProtocol: count == 0 ? nil : unsafe String(decoding: chosen, as: UTF8.self),
            isResumed: unsafe SSL_session_reused(ssl) == 1, kernelSends: kernelSends,
            kernelReceives: unsafe copenssl_kernel_receives(ssl) != 0)
    }

    // MARK: - Reading

    /// Reads what has come into `buffer`, which has room for a record at least: then nothing of
    /// it stays behind where the loop does not see it.
    package func read(into buffer: UnsafeMutableRawBufferPointer) -> TLSOutcome {
        precondition(buffer.count >= Self.recordBytes, "\(buffer.count) bytes for a record")
        if let nextRead {
            self.nextRead = nil
            return nextRead
        }
        var taken = 0
        while true {
            ErrorQueue.clear()
            let room = unsafe buffer.baseAddress! + taken
            let count = unsafe SSL_read(ssl, room, CInt(clamping: buffer.count - taken))
            if count > 0 {
                taken += Int(count)
                // A full record is likely to be followed by more of the same.
                let mayGoOn = Int(count) == Self.recordBytes
                if mayGoOn, buffer.count - taken >= Self.recordBytes { continue }
                return .transferred(taken)
            }
            var outcome = outcome(of: count, Errno.current)
            if case .wantWrite = outcome {
                // Only an answer to new keys is sent by a read.
                outcome = fail(
                    .protocolViolated, "the peer asked for new keys and takes no answer")
            }
            guard taken > 0 else { return outcome }
            if case .wantRead = outcome {} else { nextRead = outcome }
            return .transferred(taken)
        }
    }

    // MARK: - Writing

    /// True where a record waits in this process for the socket to be writable.
    package var holdsUnsent: Bool { !held.isEmpty }

    /// How many bytes that were taken wait so.
    package var heldCount: Int { held.count }

    /// Sends the record that waits; `.transferred(0)` once none does.
    package func flush() -> TLSOutcome {
        guard !held.isEmpty else { return .transferred(0) }
        guard !hasFailed else { return .closed }
        let count = held.count
        let outcome = unsafe held.withUnsafeBytes { unsafe encrypt($0) }
        guard case .transferred(let taken) = outcome else { return outcome }
        if taken == count { held = [] } else { held.removeFirst(taken) }
        return taken == count ? .transferred(0) : flush()
    }

    /// Takes as much of `bytes` as the socket does.
    package func write(_ bytes: UnsafeRawBufferPointer) -> TLSOutcome {
        var piece = unsafe iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return unsafe withUnsafePointer(to: &piece) {
            unsafe write(pieces: UnsafeBufferPointer(start: $0, count: 1))
        }
    }

    /// Takes as much of `pieces`, in order, as the socket does. Short ones share a record.
    package func write(pieces: UnsafeBufferPointer<iovec>) -> TLSOutcome {
        guard isEstablished, !hasFailed, !closeIsSent else { return .closed }
        if kernelSends {
            return Self.outcome(of: unsafe StreamSocket.write(descriptor, pieces: pieces))
        }
        if holdsUnsent {
            let flushed = flush()
            guard case .transferred = flushed else { return flushed }
        }
        var taken = 0
        var cursor = unsafe PieceCursor(pieces)
        while !holdsUnsent, let record = unsafe cursor.next(Self.recordBytes, records) {
            switch unsafe take(record) {
            case .transferred(let count): taken += count
            case let other: return other
            }
        }
        return .transferred(taken)
    }

    /// Takes all of `record`; what the socket is too full for is held.
    private func take(_ record: UnsafeRawBufferPointer) -> TLSOutcome {
        var sent = 0
        while sent < record.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: record[sent...])
            switch unsafe encrypt(rest) {
            case .transferred(let count): sent += count
            case .wantWrite:
                unsafe held = Array(rest)
                return .transferred(record.count)
            case let other: return other
            }
        }
        return .transferred(record.count)
    }

    private func encrypt(_ bytes: UnsafeRawBufferPointer) -> TLSOutcome {
        ErrorQueue.clear()
        let count = unsafe SSL_write(ssl, bytes.baseAddress, CInt(bytes.count))
        if count > 0 { return .transferred(Int(count)) }
        let outcome = outcome(of: count, Errno.current)
        if case .wantRead = outcome {
            // Without renegotiation no write has to wait for the peer.
            return fail(.protocolViolated, "the peer negotiates in the middle of the data")
        }
        return outcome
    }

    // MARK: - Ending

    /// Tells the peer that nothing more comes (close_notify).
    ///
    /// - Returns: False where the socket is too full for that: call again when it is writable.
    package func closeWriting() -> Bool {
        guard isEstablished, !hasFailed, !closeIsSent else { return true }
        if holdsUnsent {
            switch flush() {
            case .transferred: break
            case .wantWrite: return false
            case .wantRead, .closed, .failed: return true
            }
        }
        ErrorQueue.clear()
        let status = unsafe SSL_shutdown(ssl)
        if status < 0 {
            switch outcome(of: status, Errno.current) {
            case .wantWrite: return false
            default: return true
            }
        }
        closeIsSent = true
        return true
    }

    // MARK: - Outcomes

    /// - Parameter error: The errno right after the call.
    private func outcome(of status: CInt, _ error: Errno) -> TLSOutcome {
        switch unsafe SSL_get_error(ssl, status) {
        case SSL_ERROR_WANT_READ: return .wantRead
        case SSL_ERROR_WANT_WRITE: return .wantWrite
        case SSL_ERROR_ZERO_RETURN: return .closed
        case SSL_ERROR_SYSCALL:
            hasFailed = true
            ErrorQueue.clear()
            if error.code == 0 { return .closed }
            return .failed(TLSError(.socketFailed, "\(error)", systemCode: error.code))
        default:
            hasFailed = true
            return .failed(TLSError(ErrorQueue.takeCause(), verification: verification))
        }
    }

    private func fail(_ code: TLSError.Code, _ detail: String) -> TLSOutcome {
        hasFailed = true
        return .failed(TLSError(code, detail))
    }

    /// What the check of the peer's certificate said, where there was one.
    private var verification: String {
        unsafe String(cString: X509_verify_cert_error_string(SSL_get_verify_result(ssl)))
    }

    private static func outcome(of transfer: TransferOutcome) -> TLSOutcome {
        switch transfer {
        case .transferred(let count): .transferred(count)
        case .wouldBlock: .wantWrite
        case .endOfFile: .closed
        case .failed(let error):
            .failed(TLSError(.socketFailed, "\(error)", systemCode: error.code))
        }
    }

    /// The cipher in use, as OpenSSL writes it.
    private static func cipherName(_ ssl: OpaquePointer) -> String {
        guard let cipher = unsafe SSL_get_current_cipher(ssl),
            let name = unsafe SSL_CIPHER_get_name(cipher)
        else { return "none" }
        return unsafe String(cString: name)
    }
}
